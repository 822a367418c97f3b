"""The page: its figures are those of the CSVs, it is small and runs nothing, and all can read it."""

import html.parser
import itertools
import math
import random
import re
import urllib.parse
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from beam_jobs.chunk_work import ChunkWork
from beam_jobs.report.source_images import MOST_LETTERS
from beam_jobs.report.write_report import write_report
from serving.client.accuracy import wilson
from tests.beam_jobs.report.complete_runs import Image, complete, rows_of
from tests.browser import ask, is_as_wide_as_its_window

HOSTILE = "<script>hostile=1</script>\"'><img src=x onerror=hostile=1>\u202e"


class Reader(html.parser.HTMLParser):
    """What a page holds: its elements, the text of its tables' rows, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.is_in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.is_in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self.is_in_cell = self.is_in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.is_in_cell:
            self.rows[-1][-1] += data.strip()

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for one, attributes in self.elements if one == tag]


def written(output: Path, *, thumbnails: bool = True) -> str:
    return Path(write_report(str(output), thumbnails=thumbnails)).read_text(encoding="utf-8")


def small_run(tmp_path: Path) -> Path:
    """Three labels, one with markup; names that do harm where they are taken for anything but text."""
    chance = random.Random(0)
    labels = ["cat", "dog", HOSTILE]
    place = tmp_path / "in"
    place.mkdir()
    images = []
    for number in range(60):
        truth = chance.randrange(3)
        scores = [chance.random() + 0.5 * (index == truth) for index in range(3)]
        path = place / f"{number:02}{' <b>&quot;' + chr(39) if number % 7 == 0 else ''}.png"
        PillowImage.new("RGB", (40, 30), (number, 3 * number, 200)).save(path, "PNG")
        images.append(Image(str(path), [round(one / sum(scores), 6) for one in scores], labels[truth]))
    images += [
        Image(f"{place}/{HOSTILE.replace('/', '_')}.png", fault=("rejected", "missing", f"{HOSTILE} is not there")),
        Image(f"{place}/slow.png", fault=("failed", "too_slow", "no answer")),
    ]
    return complete(tmp_path / "out", images, labels, top_k=3, threshold=0.45)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100,000 images and 120 labels with markup, of which every one is taken for every other."""
    chance = np.random.default_rng(0)
    labels = [f'<b title="{number:03}">breed_{number:03}</b> \N{DOG FACE}' for number in range(120)]
    truth, guess, sure = chance.integers(0, 120, 100_000), chance.integers(0, 120, 100_000), chance.random(100_000)
    images = []
    for number in range(100_000):
        scores = [0.0] * 120
        scores[guess[number] if sure[number] < 0.5 else truth[number]] = round(0.5 + sure[number] / 2, 6)
        images.append(Image(f"gone/{number:06} \N{DOG FACE}.jpg", scores, labels[truth[number]]))
    return complete(tmp_path_factory.mktemp("large") / "out", images, labels, top_k=2)


def test_the_figures_are_those_of_the_csvs(tmp_path: Path) -> None:
    output = small_run(tmp_path)
    page = Reader(written(output))
    rows = rows_of(output)
    unknown = [row for row in rows if row["label"] == "unknown"]
    right = [row for row in rows if row["model_label"] == row["true_label"]]
    assert 0 < len(right) < len(rows) == 60
    assert 0 < len(unknown) < len(rows)
    accuracy = wilson(len(right), len(rows))
    assert f"{accuracy.value:.1%} {accuracy.low:.1%} to {accuracy.high:.1%}" in page.text
    losses = []
    for row in rows:
        scores = {row[f"label_{rank}"]: float(row[f"score_{rank}"]) for rank in (2, 3)}
        scores[row["model_label"]] = float(row["model_score"])
        losses.append(-math.log(scores[row["true_label"]]))
    assert f"log loss{sum(losses) / len(losses):.3f}" in page.text
    for label, count in (Counter(row["label"] for row in rows) - Counter(unknown=len(unknown))).items():
        scores_of = [float(row["score"]) for row in rows if row["label"] == label]
        cells = [f"{count}", f"{count / len(rows):.1%}", f"{sum(scores_of) / count:.3f}"]
        assert cells in [row[1:] for row in page.rows]
    for step in range(20):
        inside = [row for row in rows if step / 20 <= float(row["model_score"]) < (step + 1) / 20]
        assert [f"{step / 20:.2f} to {(step + 1) / 20:.2f}", f"{len(inside)}"] in page.rows
    below = sum(float(row["model_score"]) < 0.45 for row in rows)
    assert below == len(unknown)
    assert f"{below} images ({below / len(rows):.1%}) are below it, and called unknown" in page.text
    sure = wilson(sum(row["label"] == row["true_label"] for row in rows), len(rows) - below)
    assert f"{sure.value:.1%} {sure.low:.1%} to {sure.high:.1%}, of {len(rows) - below} images" in page.text
    pairs = Counter((row["true_label"], row["model_label"]) for row in rows)
    confused = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    assert {(row[1], row[2]) for row in page.rows if row[0] == "cat" and len(row) == 4 and "%" in row[3]} >= {
        (label, f"{count}") for (truth, label), count in confused.items() if truth == "cat" and label == "dog"
    }
    assert "62listed=60predicted+1rejected+1failed" in re.sub(r"\s", "", page.text)


def test_the_course_is_drawn_and_told_with_its_pauses_and_repetitions(tmp_path: Path) -> None:
    images = [Image(f"{number:02}.png", [0.75, 0.25]) for number in range(40)]
    start = 1796000000.0
    works = [ChunkWork(start + 20 * number + 36_000 * (number > 2), 20, 8, number == 1, 0) for number in range(5)]
    output = complete(tmp_path / "out", images, ["cat", "dog"], chunk_rows=8, works=works)
    page = Reader(written(output))
    told = "40 images in 100.0 s: 0.4 a second while somebody worked. 1 request to the server was repeated."
    assert told in page.text
    assert "Nobody worked, in grey: 00:54 to 10:54 (10 h)." in page.text
    assert "the time is not known" not in page.text
    assert "Images a second over time, and what was repeated" in [one.get("aria-label") for one in page.all("svg")]
    rows = [row for row in page.rows if len(row) == 4 and re.fullmatch(r"\d\d:\d\d", row[0])]
    assert len(rows) == 80
    assert {row[2] for row in rows} == {"0.4"}
    assert Counter(row[3] for row in rows) == {"0": 64, "0.1": 16}  # a sixteenth of one
    again = written(output)
    assert written(output) == again
    for width in (390, 1280):
        assert is_as_wide_as_its_window(output / "report.html", width)


def test_a_run_of_the_first_release_has_a_page_without_a_course(tmp_path: Path) -> None:
    assert "Over time" not in Reader(written(small_run(tmp_path))).text


def test_the_training_of_the_model_is_told_and_linked(tmp_path: Path) -> None:
    version = tmp_path / "st:o're" / "m" / "1"
    (version / "assets.extra").mkdir(parents=True)
    (version / "report.html").write_text("the report")
    (version / "assets.extra" / "training.json").write_text('{"accuracy": 0.912, "accuracy_interval": [0.88, 0.94]}')
    images = [Image("a.png", [0.75, 0.25])]
    output = complete(tmp_path / "out", images, ["cat", "dog"], recorded={"model": str(version.parent)})
    page = Reader(written(output))
    assert ["accuracy when it was trained", "91.2%, 88.0% to 94.0%"] in page.rows
    links = [one["href"] for one in page.all("a") if not (one["href"] or "").startswith("#")]
    assert links == ["../st%3Ao%27re/m/1/report.html"]
    answer = ask(
        output / "report.html", "[...page.document.links].filter(one => one.protocol == 'file:').at(-1).pathname"
    )
    assert Path(urllib.parse.unquote(html.unescape(answer))).read_text() == "the report"


def test_labels_that_the_model_does_not_know_are_told(tmp_path: Path) -> None:
    images = [Image(f"{number}.jpg", [0.4, 0.6], label) for number, label in enumerate(["cat", "wolf", "owl"])]
    page = Reader(written(complete(tmp_path / "out", images, ["cat", "dog"])))
    assert "2 images have labels that the model doesn’t know, and count as wrong." in page.text


def test_the_surest_and_the_least_sure_images_of_a_label_are_shown(tmp_path: Path) -> None:
    output = small_run(tmp_path)
    text = written(output)
    rows = [row for row in rows_of(output) if row["label"] == "cat"]
    assert len(rows) > 8
    scores = sorted((float(row["score"]) for row in rows), reverse=True)
    part = text[text.index('<section id="images">') :]
    found = part[part.index("<h3>cat ") :].split("<h3>")[1]
    surest, unsurest = found.split("least certain")
    assert [float(one) for one in re.findall(r"<figcaption>([\d.]+)", surest)] == [round(one, 3) for one in scores[:4]]
    assert [float(one) for one in re.findall(r"<figcaption>([\d.]+)", unsurest)] == [
        round(one, 3) for one in scores[::-1][:4]
    ]
    assert found.count("data:image/webp") == 8


def test_names_and_labels_are_text_in_a_browser_and_nothing_is_fetched(tmp_path: Path) -> None:
    output = small_run(tmp_path)
    page = Reader(written(output))
    assert HOSTILE.replace("\u202e", "\N{REPLACEMENT CHARACTER}") in page.text
    assert not page.all("script")
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("data:image/webp;", "#"))
    asked = ask(
        output / "report.html",
        "[typeof page.hostile, page.document.scripts.length, page.performance.getEntriesByType('resource')"
        ".filter(one => !one.name.startsWith('data:')).length, page.document.images.length > 9]",
    )
    assert asked == "undefined,0,0,true"


def test_it_can_be_read_without_eyes_and_used_without_a_mouse(tmp_path: Path) -> None:
    page = Reader(written(small_run(tmp_path)))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.all("img")
    assert all(image["alt"] for image in page.all("img"))
    assert all(one.get("aria-label") for one in page.all("svg"))
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    inside = {attributes["href"] for attributes in page.all("a")}
    assert {"#right", "#labels", "#scores", "#unknown", "#images", "#rejected", "#failed", "#model"} == inside
    assert {link.removeprefix("#") for link in inside if link} <= set(ids)
    assert all(cell.get("scope") for cell in page.all("th"))


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("run", ["small", "large"])
def test_it_fits_a_phone_and_a_desktop(request: pytest.FixtureRequest, tmp_path: Path, run: str, width: int) -> None:
    output = small_run(tmp_path) if run == "small" else request.getfixturevalue("large")
    written(output)
    assert is_as_wide_as_its_window(output / "report.html", width)


def test_a_hundred_thousand_images_of_a_hundred_and_twenty_labels_can_be_sent_by_mail(large: Path) -> None:
    text = written(large, thumbnails=False)
    assert len(text.encode()) + MOST_LETTERS < 5_000_000
    right = sum(row["label"] == row["true_label"] for row in rows_of(large))
    assert f"{right:,} of them right" in text
    assert "the file lacks the score of some true labels" in text
    assert text.count(" taken for ") > 12_000


def test_more_labels_than_can_be_read_leave_out_those_that_are_never_confused(tmp_path: Path) -> None:
    labels = [f"label_{number:03}" for number in range(200)]
    images = []
    for number, label in enumerate(labels):
        taken_for = number ^ 1 if number in (150, 151) else number
        images.append(Image(f"{number:03}.jpg", [float(one == taken_for) for one in range(200)], label))
    text = written(complete(tmp_path / "out", images, labels), thumbnails=False)
    assert "80 more are left out" in text
    assert "<title>label_150 taken for label_151: 1</title>" in text


def test_a_run_that_predicted_nothing_has_a_page(tmp_path: Path) -> None:
    images = [Image("a.jpg", fault=("rejected", "missing", "there is no such file"))]
    text = written(complete(tmp_path / "out", images, ["cat", "dog"]))
    assert "<b>0</b><span>predicted</span>" in text
    assert 'id="labels"' not in text


def test_a_message_is_shown_to_its_end(tmp_path: Path) -> None:
    message = "the bytes are not an image but a page of the web, such as one for a login <or> an error"
    images = [Image("a.jpg", fault=("rejected", "not_an_image", message)), Image("b.jpg", [0.9, 0.1])]
    assert message in Reader(written(complete(tmp_path / "out", images, ["cat", "dog"]))).text


def test_few_images_of_a_label_are_all_shown_once(tmp_path: Path) -> None:
    images = [Image(f"{number}.jpg", [0.5 + number / 100, 0.5 - number / 100]) for number in range(1, 8)]
    text = written(complete(tmp_path / "out", images, ["cat", "dog"]))
    part = text[text.index('<section id="images">') : text.index('<section id="model">')]
    assert [part.count(f'title="{number}.jpg"') for number in range(1, 8)] == [1] * 7
    assert "least certain" not in part


def test_links_are_shown_without_their_signatures(tmp_path: Path) -> None:
    url = "https://127.0.0.1:9/a.jpg?X-Amz-Signature=secret"
    text = written(complete(tmp_path / "out", [Image(url, [0.9, 0.1])], ["cat", "dog"]))
    assert "https://127.0.0.1:9/a.jpg?…" in text
    assert "secret" not in text


def test_kaggles_form_has_names_true_labels_and_log_loss_from_the_manifest(tmp_path: Path) -> None:
    images = [
        Image("photos/one.jpg", [0.7, 0.2, 0.1], "cat"),
        Image("photos/two.jpg", [0.6, 0.3, 0.1], "dog"),
        Image("photos/three.jpg", fault=("rejected", "missing", "there is no such file")),
    ]
    output = complete(tmp_path / "out", images, ["cat", "dog", "owl"], format_="kaggle")
    text = written(output)
    page = Reader(text)
    assert "3listed=2predicted+1rejected+0failed" in re.sub(r"\s", "", page.text)
    assert f"log loss{-(math.log(0.7) + math.log(0.3)) / 2:.3f}" in page.text
    assert 'title="photos/two.jpg"' in text
    (output / "_state").rename(output / "elsewhere")
    page = Reader(written(output))
    assert "accuracy" not in page.text
    assert "3listed=2predicted+1rejected+0failed" in re.sub(r"\s", "", page.text)
