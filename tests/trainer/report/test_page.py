"""The page: one file that needs no network, readable on a phone, with the same figures as evaluation.json."""

import base64
import html.parser
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import is_as_wide_as_its_window
from trainer.evaluation.evaluation import Suspect
from trainer.evaluation.gate_outcome import Gate
from trainer.evaluation.metrics import measure
from trainer.head import HeadOptions
from trainer.head_search import Candidate, HeadChoice
from trainer.images.data_card import DataCard, Extent, LeftOut
from trainer.images.labelled_images import LabelledImage
from trainer.progress import Epoch
from trainer.report.page import Report, render

HOSTILE = '<script>alert("x")</script> & \u202egnp\x1b[2J \N{DOG FACE}'


def jpeg(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (640, 400), (shade, 90, 160)).save(data, "JPEG")
    return data.getvalue()


def report(classes: int, images: int = 4) -> Report:
    """A whole report of random answers."""
    chance = np.random.default_rng(0)
    labels = sorted([HOSTILE, *(f"class_of_dogs_{number:03}" for number in range(classes - 1))])
    there = [
        LabelledImage(f"photos/{label[:20]}/{number}.jpg", label, None, (("place", "in" if number % 2 else "out"),))
        for label in labels
        for number in range(images)
    ]
    numbers = np.array([labels.index(image.label) for image in there])
    logits = chance.normal(size=(len(there), classes))
    logits[np.arange(len(there)), numbers] += 3
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    evaluation = measure(scores, there, labels, temperature=1.4, threshold=0.6, target_precision=0.9)
    wrong = tuple(one.path for one in evaluation.mistakes)
    candidate = Candidate(HeadOptions(0.003, 0.3, 0.4), 0.9, 0.1, 0.8, 0.02, 40)
    card = DataCard(
        images=len(there), classes=dict.fromkeys(labels, images), bytes=10**7, formats={"JPEG": len(there)},
        width=Extent(least=100, median=500, most=900), height=Extent(least=80, median=400, most=700),
        rotated=tuple(image.path for image in there[:3]), near_duplicates=((there[0].path, there[1].path),),
        left_out=(LeftOut(path="x", reason=f"{HOSTILE} is damaged"),),
    )  # fmt: skip
    return Report(
        title=f"Model {HOSTILE}",
        evaluation=evaluation,
        is_published=False,
        gates=[Gate("min_accuracy", False, "at least 0.990", "0.812 (0.760 to 0.858) on 340 images", wrong),
               Gate("min_lift", True, "at least 0.100 above a control", "0.500")],
        history=[Epoch(n, 1 / n, 1 - 1 / n, 1.5 / n, 1 - 1.2 / n) for n in range(1, 30)],
        best_epoch=25,
        choice=HeadChoice(candidate, [candidate] * 12, 3, 100),
        suspects=[Suspect(path=image.path, label=image.label, suggested=labels[0], label_score=0.01,
                          suggested_score=0.98, is_likely=True) for image in there[:30]],
        card=card,
        groups=dict.fromkeys(labels, HOSTILE),
        record={"command": "flow-images train --labels 'x y.csv'", "hyper-parameters": HOSTILE},
    )  # fmt: skip


def read(path: str) -> bytes:
    if path.endswith("3.jpg"):
        raise FileNotFoundError(path)
    return b"no image" if path.endswith("2.jpg") else jpeg(len(path))


class Page(html.parser.HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_names_are_text_and_nothing_is_asked_of_a_network() -> None:
    text = render(report(5), read)
    page = Page(text)
    assert "script" not in page.tags
    assert all(address.startswith(("data:image/webp;base64,", "#")) for address in page.addresses)
    assert "url(http" not in text
    assert '<script>alert("x")</script> & \N{REPLACEMENT CHARACTER}gnp' in page.text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_its_figures_are_those_of_the_evaluation() -> None:
    told = report(6)
    text = Page(render(told, read)).text
    found = told.evaluation
    for figure in (f"{found.accuracy.value:.1%}", f"{found.accuracy.low:.1%} to {found.accuracy.high:.1%}",
                   f"{found.top_5.value:.1%}", f"{found.macro_f1.value:.3f}", f"{found.log_loss.value:.3f}",
                   f"calibration error is {found.calibration.error:.3f}", "temperature 1.40",
                   "Not published: it failed min_accuracy.", "0.812 (0.760 to 0.858) on 340 images"):  # fmt: skip
        assert figure in text
    for row in found.classes:
        assert re.search(rf"{row.images}\s*{row.predicted}\s*{row.right}", text)


def test_images_are_small_and_what_cannot_be_shown_has_its_place() -> None:
    text = render(report(5), read)
    shown = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", text)
    assert shown
    for one in set(shown):
        with Image.open(io.BytesIO(base64.b64decode(one))) as image:
            assert max(image.size) <= 176
    assert "no image" in text
    assert "data:image" not in render(report(5))


def test_the_same_report_is_the_same_file() -> None:
    assert render(report(5), read) == render(report(5), read)


def test_a_hundred_and_twenty_classes_stay_small() -> None:
    assert len(render(report(120, images=40), read)) < 3_000_000


@pytest.mark.parametrize("classes", [2, 25, 120])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_a_phone_and_a_desktop(tmp_path: Path, classes: int, width: int) -> None:
    page = tmp_path / "page.html"
    page.write_text(render(report(classes), read))
    assert is_as_wide_as_its_window(page, width)


HEBREW = "\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}"
PATH = f"/a/{'long/' * 20}folder/7e71bb3a.jpg"


def page_of(label: str, *, is_published: bool | None) -> str:
    image = LabelledImage(PATH, label, None, ())
    evaluation = measure(np.array([[0.2, 0.8]]), [image], [label, "cat"])
    return render(Report(title="Model", evaluation=evaluation, is_published=is_published))


def test_a_name_keeps_its_direction_to_itself_and_a_long_one_is_shown_in_part() -> None:
    assert f'is <bdi title="{HEBREW}">{HEBREW}</bdi>, scored <bdi title="cat">cat</bdi> 0.80' in page_of(
        HEBREW, is_published=None
    )
    assert f'<bdi title="{"x" * 500}">{"x" * 29}…{"x" * 30}</bdi>' in page_of("x" * 500, is_published=None)


def test_the_name_of_a_file_is_shown_and_the_whole_of_it_is_there() -> None:
    text = page_of("dog", is_published=None)
    assert ">7e71bb3a.jpg</span>" in text
    assert f'title="{PATH}"' in text
    assert f">{PATH}<" not in text


def test_it_claims_nothing_of_images_that_it_does_not_know() -> None:
    assert "has not seen" in page_of("dog", is_published=True)
    assert "has not seen" not in page_of("dog", is_published=None)


def test_what_was_not_published_is_never_called_so_though_no_gate_failed() -> None:
    assert "Not published." in page_of("dog", is_published=False)
