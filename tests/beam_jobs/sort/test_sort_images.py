"""Sorted folders, made of runs with real files."""

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import pytest

from beam_jobs import stop_request
from beam_jobs.plan import OutputForms, Plan, RunFolder
from beam_jobs.predict_options import Format
from beam_jobs.results import merge
from beam_jobs.sort.record import NAME, Form
from beam_jobs.sort.sort_images import sort_images
from beam_jobs.stop_request import Interrupted
from serving.errors import UsageError
from serving.storage.disk import Disk
from serving.storage.stores import Stores
from tests.beam_jobs.report.complete_runs import Image, complete

LABELS = ("cat", "dog")
FORMS: tuple[Form, ...] = ("symlink", "hard", "copy")


def photos(folder: Path, **labels: str) -> list[Image]:
    """Writes a file for each name, and gives what a model says of them."""
    folder.mkdir(exist_ok=True)
    for name in labels:
        (folder / f"{name}.jpg").write_bytes(f"the bytes of {name}".encode())
    return [Image(f"{folder}/{name}.jpg", [float(one == label) for one in LABELS]) for name, label in labels.items()]


def tree(folder: Path) -> dict[str, bytes]:
    """What a user finds below a folder, by place."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("*/*"))}


def state(folder: Path) -> Mapping[str, tuple[int, int]]:
    """What changes if anything in a folder is touched."""
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in paths}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "sorted"


def run(tmp_path: Path, images: list[Image], name: str = "out") -> str:
    return str(complete(tmp_path / name, images, LABELS))


@pytest.fixture(params=FORMS)
def link(request: pytest.FixtureRequest) -> Form:
    form: Form = request.param
    return form


def test_each_image_is_in_the_folder_of_its_label(tmp_path: Path, into: Path, link: Form) -> None:
    images = photos(tmp_path / "in", rex="dog", tom="cat", pug="dog")
    faults: list[tuple[str, Literal["rejected", "failed"], str]] = [
        ("text", "rejected", "not_an_image"), ("slow", "failed", "too_slow"), ("nowhere", "rejected", "missing"),
    ]  # fmt: skip
    for name, verdict, reason in faults:
        images.append(Image(f"{tmp_path}/in/{name}.jpg", fault=(verdict, reason, "so")))
    (tmp_path / "in" / "text.jpg").write_bytes(b"no image")
    (tmp_path / "in" / "slow.jpg").write_bytes(b"slow")
    account = sort_images(run(tmp_path, images), str(into), link)
    assert tree(into) == {
        "_failed/slow.jpg": b"slow",
        "_rejected/text.jpg": b"no image",
        "cat/tom.jpg": b"the bytes of tom",
        "dog/pug.jpg": b"the bytes of pug",
        "dog/rex.jpg": b"the bytes of rex",
    }
    assert account.images == {"label": 3, "rejected": 2, "failed": 1}
    assert account.counts == {"copied" if link == "copy" else "linked": 5, "gone": 1}
    assert account.is_whole
    file, image = into / "dog" / "rex.jpg", tmp_path / "in" / "rex.jpg"
    assert file.is_symlink() == (link == "symlink")
    assert (file.stat().st_ino == image.stat().st_ino) == (link != "copy")
    assert file.stat().st_mtime_ns == image.stat().st_mtime_ns


def test_a_second_call_changes_nothing(tmp_path: Path, into: Path, link: Form) -> None:
    output = run(tmp_path, photos(tmp_path / "in", rex="dog", tom="cat"))
    first = sort_images(output, str(into), link)
    before = state(into)
    again = sort_images(output, str(into), link)
    assert state(into) == before
    assert again.counts == {"there": 2}
    assert again.images == first.images


def test_links_hold_where_the_disk_is_mounted_elsewhere(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    output = run(disk, photos(disk / "in", rex="dog"))
    sort_images(output, str(disk / "sorted"), "symlink")
    assert not os.readlink(disk / "sorted" / "dog" / "rex.jpg").startswith("/")
    disk.rename(tmp_path / "elsewhere")
    assert tree(tmp_path / "elsewhere" / "sorted") == {"dog/rex.jpg": b"the bytes of rex"}


def test_links_lead_through_links_to_folders(tmp_path: Path) -> None:
    """`..` behind a link is another folder than its text says."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "deep")
    (tmp_path / "target" / "below").mkdir(parents=True)
    (tmp_path / "into").symlink_to(tmp_path / "target" / "below")
    (tmp_path / "far" / "rex.jpg").write_bytes(b"rex")
    output = run(tmp_path, [Image(f"{tmp_path}/near/../rex.jpg", [0.0, 1.0])])
    sort_images(output, str(tmp_path / "into"), "symlink")
    assert tree(tmp_path / "target" / "below") == {"dog/rex.jpg": b"rex"}


def test_relative_paths_are_those_of_the_run_wherever_the_command_is_typed(
    tmp_path: Path, into: Path, link: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "in", rex="dog")
    monkeypatch.chdir(tmp_path)
    output = run(tmp_path, [Image("in/rex.jpg", [0.0, 1.0])])
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    sort_images(output, "../sorted", link)
    assert tree(into) == {"dog/rex.jpg": b"the bytes of rex"}


def test_other_labels_move_what_earlier_calls_made_and_nothing_else(tmp_path: Path, into: Path, link: Form) -> None:
    names = {"rex": "dog", "tom": "cat", "pug": "dog"}
    sort_images(run(tmp_path, photos(tmp_path / "in", **names)), str(into), link)
    (into / "dog" / "mine.txt").write_text("mine")
    later = run(tmp_path, photos(tmp_path / "in", rex="cat", tom="dog"), "later")
    account = sort_images(later, str(into), link)
    assert tree(into) == {
        "cat/rex.jpg": b"the bytes of rex",
        "dog/mine.txt": b"mine",
        "dog/tom.jpg": b"the bytes of tom",
    }
    assert account.removed == 3
    assert account.is_whole
    last = sort_images(run(tmp_path, photos(tmp_path / "in", rex="dog"), "last"), str(into), link)
    assert last.removed == 2
    assert not (into / "cat").exists()


@pytest.mark.parametrize("then", FORMS)
@pytest.mark.parametrize("first", FORMS)
def test_another_kind_of_link_takes_the_place_of_the_first(tmp_path: Path, into: Path, first: Form, then: Form) -> None:
    output = run(tmp_path, photos(tmp_path / "in", rex="dog"))
    sort_images(output, str(into), first)
    sort_images(output, str(into), then)
    file, image = into / "dog" / "rex.jpg", tmp_path / "in" / "rex.jpg"
    assert file.is_symlink() == (then == "symlink")
    assert (file.stat().st_ino == image.stat().st_ino) == (then != "copy")
    assert [path.name for path in into.iterdir() if path.name != NAME] == ["dog"]


def make_file(file: Path, image: Path) -> None:
    file.write_text("mine")


def make_link(file: Path, image: Path) -> None:
    (image.parent / "other.jpg").write_text("mine")
    file.symlink_to(image.parent / "other.jpg")


def make_broken_link(file: Path, image: Path) -> None:
    file.symlink_to("nowhere")


def make_folder(file: Path, image: Path) -> None:
    file.mkdir()
    (file / "mine.txt").write_text("mine")


@pytest.mark.parametrize("make", [make_file, make_link, make_broken_link, make_folder])
def test_a_file_in_the_way_is_left_as_it_is(
    tmp_path: Path, into: Path, link: Form, make: Callable[[Path, Path], None]
) -> None:
    output = run(tmp_path, photos(tmp_path / "in", rex="dog", tom="cat"))
    sort_images(output, str(into), link)
    file = into / "dog" / "rex.jpg"
    file.unlink()
    make(file, tmp_path / "in" / "rex.jpg")
    before = state(into)
    account = sort_images(output, str(into), link)
    assert state(into) == before
    assert account.counts == {"there": 1, "in_the_way": 1}
    assert account.troubles == ["dog/rex.jpg: another file is there, and is left as it is"]
    assert not account.is_whole


@pytest.mark.parametrize("is_link", [False, True], ids=["file", "link"])
def test_what_is_in_the_place_of_a_labels_folder_is_left_as_it_is(
    tmp_path: Path, into: Path, link: Form, is_link: bool
) -> None:
    output = run(tmp_path, photos(tmp_path / "in", tom="cat"))
    sort_images(output, str(into), link)
    (tmp_path / "mine").mkdir()
    if is_link:
        (into / "dog").symlink_to(tmp_path / "mine")
    else:
        (into / "dog").write_text("mine")
    account = sort_images(run(tmp_path, photos(tmp_path / "in", tom="cat", rex="dog"), "later"), str(into), link)
    assert account.counts == {"there": 1, "in_the_way": 1}
    assert list((tmp_path / "mine").iterdir()) == []


def test_what_the_user_made_of_a_copy_is_never_replaced(tmp_path: Path, into: Path) -> None:
    sort_images(run(tmp_path, photos(tmp_path / "in", rex="dog")), str(into), "copy")
    (into / "dog" / "rex.jpg").write_bytes(b"cropped by hand")
    account = sort_images(run(tmp_path, photos(tmp_path / "in", rex="cat"), "later"), str(into), "copy")
    assert tree(into) == {"cat/rex.jpg": b"the bytes of rex", "dog/rex.jpg": b"cropped by hand"}
    assert account.left == ["dog/rex.jpg: no longer right, and left, as it was changed since"]
    assert not account.is_whole


@pytest.mark.parametrize("form", ["hard", "copy"])
def test_what_may_be_the_last_copy_of_an_image_is_never_removed(tmp_path: Path, into: Path, form: Form) -> None:
    output = run(tmp_path, photos(tmp_path / "in", rex="dog"))
    sort_images(output, str(into), form)
    (tmp_path / "in" / "rex.jpg").unlink()
    assert sort_images(output, str(into), form).counts == {"there": 1}
    assert tree(into) == {"dog/rex.jpg": b"the bytes of rex"}
    later = complete(tmp_path / "later", [Image(f"{tmp_path}/in/rex.jpg", [1.0, 0.0])], LABELS)
    account = sort_images(str(later), str(into), form)
    assert account.counts == {"gone": 1}
    assert account.left_count == 1
    assert tree(into) == {"dog/rex.jpg": b"the bytes of rex"}


def test_a_link_to_an_image_that_is_gone_is_removed(tmp_path: Path, into: Path) -> None:
    output = run(tmp_path, photos(tmp_path / "in", rex="dog", tom="cat"))
    sort_images(output, str(into), "symlink")
    (tmp_path / "in" / "rex.jpg").unlink()
    account = sort_images(output, str(into), "symlink")
    assert account.counts == {"there": 1, "gone": 1}
    assert [path.name for path in into.rglob("*.jpg")] == ["tom.jpg"]


def test_a_call_that_was_stopped_is_continued_and_nothing_is_half_made(tmp_path: Path, into: Path, link: Form) -> None:
    names = {f"image{number:02}": LABELS[number % 2] for number in range(40)}
    output = run(tmp_path, photos(tmp_path / "in", **names))
    seen: list[None] = []

    def stop_at_ten() -> None:
        seen.append(None)
        if len(seen) == 10:
            stop_request.request_stop()

    with pytest.raises(Interrupted):
        sort_images(output, str(into), link, advance=stop_at_ten)
    assert len(tree(into)) == 10
    account = sort_images(output, str(into), link)
    assert account.counts == {"there": 10, "copied" if link == "copy" else "linked": 30}
    assert all(data == f"the bytes of {place[4:-4]}".encode() for place, data in tree(into).items())
    assert {path.name for path in into.iterdir()} == {NAME, *LABELS}


def test_an_image_that_can_not_be_read_costs_only_itself(tmp_path: Path, into: Path) -> None:
    images = photos(tmp_path / "in", rex="dog", big="dog")
    (tmp_path / "in" / "big.jpg").write_bytes(bytes(2**20 + 1))  # the run's limit is a MiB
    (tmp_path / "in" / "folder.jpg").mkdir()
    images.append(Image(f"{tmp_path}/in/folder.jpg", fault=("rejected", "not_a_file", "a folder")))
    account = sort_images(run(tmp_path, images), str(into), "copy")
    assert account.counts == {"copied": 1, "too_large": 1, "gone": 1}
    assert account.is_whole
    assert sort_images(run(tmp_path, images, "again"), str(into), "symlink").counts == {"linked": 2, "gone": 1}
    assert (into / "dog" / "rex.jpg").is_symlink()


def test_images_in_a_bucket_are_copied_once(tmp_path: Path, into: Path, s3_folder: str) -> None:
    store = Stores()(s3_folder)
    for name in ("rex", "tom"):
        store.create(f"{s3_folder}/in/{name}.jpg", name.encode())
    paths = {"rex": [0.0, 1.0], "tom": [1.0, 0.0], "gone": [1.0, 0.0]}
    output = run(tmp_path, [Image(f"{s3_folder}/in/{name}.jpg", scores) for name, scores in paths.items()])
    for path in Path(output).rglob("*"):
        if path.is_file():
            store.create(f"{s3_folder}/out/{path.relative_to(output)}", path.read_bytes())
    account = sort_images(f"{s3_folder}/out", str(into), "symlink")
    assert tree(into) == {"cat/tom.jpg": b"tom", "dog/rex.jpg": b"rex"}
    assert account.counts == {"copied": 2, "gone": 1}
    before = state(into)
    assert sort_images(f"{s3_folder}/out", str(into), "symlink").counts == {"there": 2, "gone": 1}
    assert state(into) == before
    later = run(tmp_path, [Image(f"{s3_folder}/in/rex.jpg", [1.0, 0.0])], "later")
    store.delete(f"{s3_folder}/in/tom.jpg")
    account = sort_images(later, str(into), "symlink")
    # Tom's is the last copy.
    assert tree(into) == {"cat/rex.jpg": b"rex", "cat/tom.jpg": b"tom"}
    assert (account.removed, account.left_count) == (1, 1)


def test_results_without_the_runs_own_files_are_sorted_by_what_they_say(
    tmp_path: Path, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "in", rex="dog")
    output = run(tmp_path, [Image("in/rex.jpg", [0.0, 1.0])])
    for path in sorted((Path(output) / "_state").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (Path(output) / "_state").rmdir()
    monkeypatch.chdir(tmp_path)
    sort_images(output, "sorted", "symlink")
    assert tree(into) == {"dog/rex.jpg": b"the bytes of rex"}


def test_kaggles_form_is_sorted_by_its_manifest(tmp_path: Path, into: Path) -> None:
    images = photos(tmp_path / "in", rex="dog", tom="cat")
    images.append(Image(f"{tmp_path}/in/gone.jpg", fault=("rejected", "missing", "so")))
    output = complete(tmp_path / "out", images, LABELS, format_="kaggle")
    assert sort_images(str(output), str(into), "symlink").counts == {"linked": 2, "gone": 1}
    assert list(tree(into)) == ["cat/tom.jpg", "dog/rex.jpg"]
    (output / "_state" / "plan.json").unlink()
    with pytest.raises(UsageError, match="has no paths"):
        sort_images(str(output), str(tmp_path / "other"), "symlink")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_answers_below_the_threshold_are_apart_from_a_label_of_that_name(
    tmp_path: Path, into: Path, form: Format
) -> None:
    photos(tmp_path / "in", sure="dog", unsure="dog", other="unknown")
    scores = {"sure": [0.1, 0.9], "unsure": [0.4, 0.6], "other": [0.9, 0.1]}
    images = [Image(f"{tmp_path}/in/{name}.jpg", one) for name, one in scores.items()]
    output = complete(tmp_path / "out", images, ["unknown", "dog"], threshold=0.7, formats=[form])
    account = sort_images(str(output), str(into), "symlink")
    assert list(tree(into)) == ["_unknown/unsure.jpg", "dog/sure.jpg", "unknown/other.jpg"]
    assert account.images == {"label": 2, "unknown": 1}
    merge(*run_of(output), {}, OutputForms(formats=(form,), threshold=0.5, top_k=2))
    account = sort_images(str(output), str(into), "symlink")
    assert list(tree(into)) == ["dog/sure.jpg", "dog/unsure.jpg", "unknown/other.jpg"]
    assert account.removed == 1


def run_of(output: Path) -> tuple[RunFolder, Plan]:
    folder = RunFolder(Disk(), str(output))
    plan = folder.load_plan()
    assert plan
    return folder, plan


def test_results_that_were_edited_are_refused_before_anything_is_made(tmp_path: Path, into: Path) -> None:
    output = run(tmp_path, photos(tmp_path / "in", rex="dog", tom="cat"))
    path = Path(output) / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match=r"predicted images: 1 in the files, 2 in run\.json"):
        sort_images(output, str(into), "symlink")
    assert not into.exists()


@pytest.fixture
def with_inputs(tmp_path: Path) -> Callable[..., str]:
    """Gives a complete run that had an input."""

    def made(given: str, images: str | None = None) -> str:
        output = complete(tmp_path / "out", photos(tmp_path / "in", rex="dog"), LABELS)
        folder, plan = run_of(output)
        plan = plan.model_copy(
            update={"options": plan.options.model_copy(update={"inputs": [given], "images": images})}
        )
        (output / "_state" / "plan.json").write_text(plan.model_dump_json())
        for path in (output / "_state" / "parts").rglob("finished-*.json"):
            path.unlink()
        merge(folder, plan, {})
        return str(output)

    return made


def test_the_folder_of_a_lists_images_is_an_input_too(tmp_path: Path, with_inputs: Callable[..., str]) -> None:
    output = with_inputs(f"{tmp_path}/labels.csv", f"{tmp_path}/in")
    with pytest.raises(UsageError, match="is inside the input"):
        sort_images(output, f"{tmp_path}/in/sorted", "symlink")
    assert not (tmp_path / "in" / "sorted").exists()


@pytest.mark.parametrize("given", ["in", "in/", "in/**/*.jpg", "in/*/*/*"])
def test_a_folder_that_the_next_run_would_take_for_input_is_refused(
    tmp_path: Path, with_inputs: Callable[..., str], given: str
) -> None:
    output = with_inputs(f"{tmp_path}/{given}")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for into in ("in/sorted", "link/sorted"):
        with pytest.raises(UsageError, match="is inside the input"):
            sort_images(output, str(tmp_path / into), "symlink")
    assert not (tmp_path / "in" / "sorted").exists()


@pytest.mark.parametrize("given", ["in/*.jpg", "in/rex.jpg", "in/list.txt", "in/*/*.jpg"])
def test_a_folder_that_no_pattern_enters_may_be_beside_the_images(
    tmp_path: Path, with_inputs: Callable[..., str], given: str
) -> None:
    output = with_inputs(f"{tmp_path}/{given}")
    sort_images(output, str(tmp_path / "in" / "sorted"), "symlink")
    assert list(tree(tmp_path / "in" / "sorted")) == ["dog/rex.jpg"]


def test_the_results_own_folder_may_hold_it_but_not_the_runs_files(tmp_path: Path) -> None:
    output = run(tmp_path, photos(tmp_path / "in", rex="dog"))
    sort_images(output, f"{output}/sorted", "symlink")
    assert list(tree(Path(output) / "sorted")) == ["dog/rex.jpg"]
    with pytest.raises(UsageError, match="own files"):
        sort_images(output, f"{output}/_state/sorted", "symlink")


@pytest.mark.parametrize("into", ["", "s3://images/x", "https://example.com/x"], ids=["empty", "bucket", "web"])
def test_what_is_no_folder_on_a_disk_is_refused(tmp_path: Path, into: str) -> None:
    output = run(tmp_path, photos(tmp_path / "in", rex="dog"))
    with pytest.raises(UsageError, match="give a folder on a disk"):
        sort_images(output, into, "symlink")


def test_ten_thousand_images_are_told_one_by_one(tmp_path: Path, into: Path) -> None:
    images = [Image(f"in/{number // 100}/{number % 100}.jpg", [number % 2, 1 - number % 2]) for number in range(10_000)]
    for folder in range(100):
        (tmp_path / "in" / str(folder)).mkdir(parents=True)
        for number in range(100):
            (tmp_path / "in" / str(folder) / f"{number}.jpg").touch()
    output = str(
        complete(tmp_path / "out", [image._replace(path=f"{tmp_path}/{image.path}") for image in images], LABELS)
    )
    told: list[int] = []
    steps = itertools.count()
    account = sort_images(output, str(into), "symlink", begin=told.append, advance=lambda: next(steps))
    assert told == [10_000]
    assert next(steps) == 10_000
    assert account.counts == {"linked": 10_000}
    assert len({path.resolve() for path in into.rglob("*.jpg")}) == 10_000
