"""Labels and images in buckets: trained on as if they were on this machine, and named as the user named them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import flow_images.cli
from serving.errors import DiskFull, UsageError
from serving.images.limits import ImageLimits
from serving.storage.stores import Stores
from tests.conftest import IMAGE_SIZE
from trainer.images.bucket_copies import BucketCopies
from trainer.images.check import check_images
from trainer.images.labelled_images import read_folder, read_labels, unlabelled

Put = Callable[..., None]


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def copies(notes: list[str]) -> Iterator[BucketCopies]:
    with BucketCopies(Stores(), notes.append, limits=ImageLimits(max_image_bytes=50_000)) as copies:
        yield copies


@pytest.fixture
def put(s3_folder: str) -> Put:
    """Writes files into the bucket: name to content."""
    storage = Stores()(s3_folder)

    def put(files: dict[str, bytes]) -> None:
        for name, data in files.items():
            storage.create(f"{s3_folder}/{name}", data)

    return put


def named(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_paths_on_a_disk_stay_as_they_are(copies: BucketCopies, notes: list[str]) -> None:
    assert copies.sources(None, None, "photos") == (None, None, "photos")
    assert copies.local("train/1.jpg") == "train/1.jpg"
    assert notes == []


def test_only_what_a_label_names_is_copied_with_its_bytes(put: Put, s3_folder: str, copies: BucketCopies) -> None:
    put({"labels.csv": b"id,breed\na,pug\nb.png,boxer\n", "train/a.jpg": b"A", "train/b.png": b"B",
         "train/other.jpg": b"not read"})  # fmt: skip
    labels, images, _ = copies.sources(f"{s3_folder}/labels.csv", f"{s3_folder}/train", None)
    assert labels
    assert images
    assert Path(labels).read_bytes().startswith(b"id,breed")
    assert (Path(images) / "a.jpg").read_bytes() == b"A"
    assert (Path(images) / "b.png").read_bytes() == b"B"
    assert (Path(images) / "other.jpg").read_bytes() == bytes(len("not read"))
    labelled = read_labels(labels, images)
    assert [(Path(image.path).name, image.label) for image in labelled] == [("a.jpg", "pug"), ("b.png", "boxer")]
    assert unlabelled(labelled, images) == ["other.jpg"]


def test_a_folder_is_copied_without_what_is_hidden(put: Put, s3_folder: str, copies: BucketCopies, drawn: Path) -> None:
    first, second, *_ = (path.read_bytes() for path in sorted((drawn / "train").iterdir()))
    put({"photos/pug/1.jpg": first, "photos/boxer/2.jpg": second, "photos/boxer/.hidden.jpg": b"secret",
         "photos/boxer/huge.jpg": bytes(60_000), "photos2/x": b"beside"})  # fmt: skip
    _, _, folder = copies.sources(None, None, f"{s3_folder}/photos/")
    assert folder
    assert named(Path(folder)) == {"pug/1.jpg", "boxer/2.jpg", "boxer/.hidden.jpg", "boxer/huge.jpg"}
    assert (Path(folder) / "boxer/.hidden.jpg").read_bytes() == bytes(6)
    (Path(folder) / "boxer/huge.jpg").unlink()
    assert [image.label for image in read_folder(folder)] == ["boxer", "pug"]


def test_images_that_a_csv_names_in_buckets_are_copied(
    put: Put, s3_folder: str, copies: BucketCopies, tmp_path: Path
) -> None:
    put({"a.jpg": b"A"})
    (tmp_path / "labels.csv").write_text(f"path,label\n{s3_folder}/a.jpg,pug\n{s3_folder}/gone.jpg,pug\n")
    labels, _, _ = copies.sources(str(tmp_path / "labels.csv"), None, None)
    assert Path(copies.local(f"{s3_folder}/a.jpg")).read_bytes() == b"A"
    with pytest.raises(UsageError) as told, copies.original_names():
        read_labels(str(labels), local=copies.local)
    assert f"line 3: there is no image {s3_folder}/gone.jpg" in str(told.value)


def test_messages_name_the_bucket_and_not_the_copy(put: Put, s3_folder: str, copies: BucketCopies) -> None:
    put({"photos/pug/1.jpg": b"no image", "photos/boxer/2.jpg": b"none"})
    _, _, folder = copies.sources(None, None, f"{s3_folder}/photos")
    with pytest.raises(UsageError) as told, copies.original_names():
        check_images(read_folder(str(folder)))
    assert f"{s3_folder}/photos/boxer/2.jpg: " in str(told.value)
    assert "/flow-images-train-" not in str(told.value)


def test_a_file_over_the_limit_is_refused_without_being_read(put: Put, s3_folder: str, copies: BucketCopies) -> None:
    put({"photos/pug/1.jpg": bytes(60_000)})
    _, _, folder = copies.sources(None, None, f"{s3_folder}/photos")
    with pytest.raises(UsageError, match=r"1\.jpg: 60,000 bytes, over the limit of 50,000"):
        check_images(read_folder(str(folder)), limits=ImageLimits(max_image_bytes=50_000))


def test_copies_are_gone_at_the_end(put: Put, s3_folder: str) -> None:
    put({"photos/pug/1.jpg": b"x"})
    with BucketCopies(Stores(), lambda _: None) as copies:
        _, _, folder = copies.sources(None, None, f"{s3_folder}/photos")
        assert Path(str(folder)).is_dir()
    assert not Path(str(folder)).exists()


def test_what_does_not_fit_is_not_begun(
    put: Put, s3_folder: str, copies: BucketCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    put({"photos/pug/1.jpg": b"12345"})
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 4}))  # no disk is so small
    with pytest.raises(DiskFull, match="let TMPDIR name a folder on another disk"):
        copies.sources(None, None, f"{s3_folder}/photos")


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        ((None, None, "s3://nobody/photos"), "`folder` s3://nobody/photos can't be read: .*no bucket"),
        ((None, None, "{bucket}/nothing"), "`folder` .*nothing: no such folder in the bucket"),
        (("{bucket}/none.csv", None, None), r"`labels` .*none\.csv can't be read"),
        ((None, None, "s3://../../etc"), "leads out of its bucket"),
        ((None, None, "ftp://host/photos"), "ftp:// is not supported"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_field(
    sources: tuple[str | None, ...], told: str, s3_folder: str, copies: BucketCopies
) -> None:
    labels, images, folder = (source and source.format(bucket=s3_folder) for source in sources)
    with pytest.raises(UsageError, match=told):
        copies.sources(labels, images, folder)


def test_a_model_is_trained_published_and_asked_in_a_bucket(
    drawn: Path, hub_module: Path, put: Put, s3_folder: str, tmp_path: Path
) -> None:
    put({"labels.csv": (drawn / "labels.csv").read_bytes()})
    put({f"train/{path.name}": path.read_bytes() for path in (drawn / "train").iterdir()})

    def run(*words: object) -> str:
        done = CliRunner().invoke(flow_images.cli.cli, [str(word) for word in words])
        assert done.exception is None, done.output
        return done.output

    said = run("train", "--labels", f"{s3_folder}/labels.csv", "--images", f"{s3_folder}/train", "--hub-model",
               hub_module, "--image-size", IMAGE_SIZE, "--epochs", 1, "--model-store", f"{s3_folder}/models",
               "--name", "textures", "--version", 7)  # fmt: skip
    assert f"model: {s3_folder}/models/textures/7" in said
    assert f"from {s3_folder}/train to " in said
    run("predict", "--model", f"{s3_folder}/models/textures", "--input", f"{s3_folder}/train", "--output",
        tmp_path / "out", "--wire", "encoded")  # fmt: skip
    lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + 48
