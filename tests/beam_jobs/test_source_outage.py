"""An image that is gone, or all that was with it: told apart on real files, mounts and buckets."""

import datetime
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from beam_jobs.listing import list_images
from beam_jobs.parts import Outcome, Parts
from beam_jobs.plan import Plan, PlannedModel, ResultOptions, RunFolder
from beam_jobs.sorted_images import sort_images
from beam_jobs.source_outage import SourceCheck, SourceGone
from serving.contract import ModelContract, Preprocessing
from serving.storage.base import absolute
from serving.storage.disk import Disk
from serving.storage.stores import Stores, open_store
from tests.beam_jobs.runs import make_unreadable

COUNT = 60


class Run:
    """A planned run in chunks of 8, and its check."""

    def __init__(self, output: Path, inputs: Sequence[object], base: str = "/") -> None:
        self.folder = RunFolder(Disk(), str(output))
        listing = list_images([str(one) for one in inputs])
        with open(output / "manifest", "w+b") as file:
            manifest = sort_images(listing, file).cut(8)
        os.makedirs(self.folder.state)
        shutil.move(output / "manifest", self.folder.manifest_path(manifest))
        options = ResultOptions(inputs=[absolute(str(one)) for one in inputs], wire="encoded", top_k=1, format="csv",
                                max_image_bytes=1, max_image_pixels=1, shards=1)  # fmt: skip
        contract = ModelContract(labels=["a", "b"], preprocessing=Preprocessing(height=8, width=8))
        self.plan = Plan(
            started=datetime.datetime.now(datetime.UTC), options=options, manifest=manifest, base=base,
            model=PlannedModel(name="m", version=1, contract=contract), sources=listing.sources,
        )  # fmt: skip
        self.plan = Plan.model_validate_json(self.plan.model_dump_json())
        self.parts: Parts = self.folder.parts(self.plan)

    @property
    def check(self) -> SourceCheck:
        """A new one, as each process has its own."""
        return SourceCheck(self.plan, self.folder, self.parts, Stores())

    def predict(self, chunk: int) -> None:
        """Writes the part of a chunk whose files were all read."""
        rows = range(self.plan.manifest.rows_in(chunk))
        self.parts.write(0, chunk, [Outcome(row, "predicted", [0], [1.0]) for row in rows])

    def chunk_of(self, path: str) -> int:
        manifest = self.plan.manifest
        for chunk in range(manifest.chunks):
            rows = self.folder.read_chunk(self.plan, chunk)
            if path in [self.plan.locate(row.path) for row in rows]:
                return chunk
        raise AssertionError(path)

    def missing(self, path: object) -> None:
        """What a worker asks when a file isn't there."""
        self.check.after_missing(str(path), [self.chunk_of(str(path))])


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for number in range(COUNT):
        path = folder / ("deep/er" if number % 2 else "flat") / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def replaced(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "other.jpg").write_bytes(b"y")


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


def skeleton(folder: Path) -> None:
    for path in files(folder):
        path.unlink()


GONE = pytest.mark.parametrize("go", [shutil.rmtree, emptied, replaced, a_file, skeleton])
INPUTS = pytest.mark.parametrize("kind", ["folder", "glob", "names"])


def inputs_of(kind: str, images: Path) -> list[object]:
    found: dict[str, list[object]] = {
        "folder": [images],
        "glob": [f"{images}/**/*.jpg"],
        "names": list(files(images)),
    }
    return found[kind]


@GONE
@INPUTS
def test_a_source_that_is_gone_is_no_images_fault(
    images: Path, output: Path, kind: str, go: Callable[[Path], None]
) -> None:
    run = Run(output, inputs_of(kind, images))
    first = files(images)[0]
    go(images)
    with pytest.raises(SourceGone, match=f"{images}.*the same command continues.*`fresh`") as error:
        run.missing(first)
    assert error.value.exit_code == 75
    with pytest.raises(SourceGone):
        run.check.before_reading([1, 2])


def test_a_file_that_cannot_be_read_is_only_that_one(images: Path, output: Path) -> None:
    run = Run(output, [images])
    for path in files(images)[:7]:
        make_unreadable(path)
        run.check.after_unreadable(str(path), [0])


def test_files_that_all_cannot_be_read_are_a_source_that_is_gone(images: Path, output: Path) -> None:
    run = Run(output, [images])
    check = run.check
    first = files(images)[0]
    check.after_unreadable(str(first), [0])
    for path in files(images):
        make_unreadable(path)
    run.missing(first)  # it is there, and so are all the others
    with pytest.raises(SourceGone, match=f"{images} .*can no longer be read: none of the .* images") as error:
        check.after_unreadable(str(first), [0])
    assert error.value.exit_code == 75


def test_a_lone_file_that_cannot_be_read_is_no_source(tmp_path: Path, output: Path) -> None:
    (tmp_path / "one.jpg").write_bytes(b"x")
    run = Run(output, [tmp_path / "one.jpg"])
    make_unreadable(tmp_path / "one.jpg")
    run.check.after_unreadable(f"{tmp_path}/one.jpg", [0])


@INPUTS
@pytest.mark.parametrize("kept", [1, 7, COUNT - 1])
def test_some_files_that_are_gone_are_only_those(images: Path, output: Path, kind: str, kept: int) -> None:
    run = Run(output, inputs_of(kind, images))
    there = files(images)
    for path in there[kept:]:
        path.unlink()
    for path in (there[kept], there[-1]):
        run.missing(path)
    run.check.before_reading(range(run.plan.manifest.chunks))


@GONE
@pytest.mark.parametrize("ending", ["txt", "csv"])
def test_what_was_read_before_proves_a_lists_source(
    images: Path, output: Path, tmp_path: Path, ending: str, go: Callable[[Path], None]
) -> None:
    """Of a list nothing is known to have been there, until it was read: by this process, or as its parts say."""
    paths = [*map(str, files(images)), f"{images}/never.jpg"]
    (tmp_path / f"l.{ending}").write_text("\n".join(["path"] * (ending == "csv") + paths))
    run = Run(output, [tmp_path / f"l.{ending}"])
    run.missing(paths[-1])
    check = run.check
    check.note_read(paths[3])
    go(images)
    with pytest.raises(SourceGone):
        check.after_missing(paths[0], [0])
    run.predict(0)
    with pytest.raises(SourceGone):
        run.missing(paths[-2])


def test_what_another_shard_read_proves_a_lists_source(images: Path, output: Path, tmp_path: Path) -> None:
    """Wherever in the list that is."""
    paths = [f"{images}/{number:03}.jpg" for number in range(8 * 20)]
    for path in paths:
        Path(path).write_bytes(b"x")
    (tmp_path / "l.txt").write_text("\n".join(paths))
    run = Run(output, [tmp_path / "l.txt"])
    run.predict(2)
    replaced(images)
    with pytest.raises(SourceGone):
        run.missing(paths[8 * 12])


def test_a_list_of_what_never_was_is_a_list_of_missing_images(images: Path, output: Path, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("/nowhere/a.jpg\n/nowhere/b.jpg\n" + f"{images}/c.jpg\n{images}/d.jpg\n")
    run = Run(output, [tmp_path / "l.txt"])
    run.check.before_reading([0])
    for path in ("/nowhere/a.jpg", f"{images}/c.jpg"):
        run.missing(path)


def test_a_relative_list_is_looked_for_where_the_run_began(
    images: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "l.txt").write_text("\n".join(str(path.relative_to(tmp_path)) for path in files(images)))
    monkeypatch.chdir(tmp_path)
    run = Run(output, ["l.txt"], base=absolute("."))
    monkeypatch.chdir("/")
    run.check.before_reading([0])
    where = run.plan.locate("in/flat/00.jpg")
    assert where == str(images / "flat" / "00.jpg")
    shutil.rmtree(images)
    with pytest.raises(SourceGone):
        run.missing(where)


def test_of_several_inputs_one_may_be_gone(images: Path, output: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(images, other)
    run = Run(output, [images, other])
    shutil.rmtree(other)
    with pytest.raises(SourceGone, match=str(other)):
        run.missing(other / "flat" / "00.jpg")
    last = run.plan.manifest.chunks - 1
    run.check.before_reading([0])  # nothing of the other one is to be read in it
    with pytest.raises(SourceGone):
        run.check.before_reading([last])
    (images / "flat" / "00.jpg").unlink()
    run.missing(images / "flat" / "00.jpg")


def test_links_to_nothing_prove_nothing(output: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "nowhere")
    run = Run(output, [tmp_path / "in"])
    run.check.before_reading([0])
    run.missing(tmp_path / "in" / "a.jpg")


def test_links_into_a_folder_that_is_gone(images: Path, output: Path, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    for path in files(images):
        (tmp_path / "links" / path.name).symlink_to(path)
    run = Run(output, [tmp_path / "links"])
    run.check.before_reading([0])
    shutil.rmtree(images)
    with pytest.raises(SourceGone):
        run.missing(tmp_path / "links" / "00.jpg")


def test_a_source_that_is_back_is_found(images: Path, output: Path) -> None:
    run = Run(output, [images])
    check = run.check
    images.rename(images.parent / "away")
    with pytest.raises(SourceGone):
        check.before_reading([0])
    (images.parent / "away").rename(images)
    check.forget()
    check.before_reading([0])


@pytest.fixture
def mounted(images: Path) -> Iterator[Path]:
    """A file system of its own below the images, with as many in it."""
    mount = images / "mount"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mount], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    for number in range(COUNT):
        (mount / f"{number:02}.jpg").write_bytes(b"x")
    yield mount
    subprocess.run(["umount", "-l", mount], capture_output=True, check=False)


def test_a_mount_below_the_input_is_a_source_of_its_own(images: Path, output: Path, mounted: Path) -> None:
    run = Run(output, [images])
    subprocess.run(["umount", mounted], check=True)
    with pytest.raises(SourceGone, match=f"{mounted} .*is empty now"):
        run.missing(mounted / "03.jpg")
    run.missing(images / "flat" / "00.jpg")


@pytest.mark.parametrize("place", ["s3_folder", "gs_folder"])
@pytest.mark.parametrize("kind", ["folder", "glob", "list"])
def test_a_prefix_that_was_emptied(place: str, kind: str, output: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(place)
    storage = open_store(folder)
    paths = [f"{folder}/in/{number:02}.jpg" for number in range(20)]
    for path in paths:
        storage.create(path, b"x")
    storage.create(f"{folder}/list.txt", "\n".join(paths).encode())
    run = Run(output, [f"{folder}/" + {"folder": "in", "glob": "in/*.jpg", "list": "list.txt"}[kind]])
    run.predict(0)
    run.check.before_reading([0, 1, 2])
    for path in paths[:-1]:
        storage.delete(path)
    run.missing(paths[0])
    storage.delete(paths[-1])
    with pytest.raises(SourceGone):
        run.missing(paths[-1])
    with pytest.raises(SourceGone):
        run.check.before_reading([1, 2])


def test_a_bucket_that_was_deleted(s3_folder: str, output: Path) -> None:
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="short-lived")
    paths = [f"s3://short-lived/{number}.jpg" for number in range(3)]
    for path in paths:
        open_store(path).create(path, b"x")
    run = Run(output, ["s3://short-lived"])
    for path in paths:
        open_store(path).delete(path)
    client.delete_bucket(Bucket="short-lived")
    with pytest.raises(SourceGone, match=r"s3://short-lived .*has gone away"):
        run.missing(paths[0])
