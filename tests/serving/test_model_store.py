"""The model store on a disk and in buckets: versions appear whole or not at all, and never change."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.errors import FlowImagesError, StorageUnavailable, UsageError
from serving.model_store.choose_version import choose, choose_on_disk, named_model
from serving.model_store.fetch import ASIDE, fetch, local_copy
from serving.model_store.publish import Publication, PublishedElsewhere
from serving.model_store.versions import HIGHEST_VERSION, MODEL_FILE, version_number, versions, whole
from serving.storage.base import Storage, join, scheme
from serving.storage.stores import Stores
from serving.storage.transfer import NameLeadsOut

storage_for = Stores()
FILES = (MODEL_FILE, "variables/variables.index", "assets.extra/contract.json")


@pytest.fixture(params=["disk", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store, in each kind of place."""
    if request.param == "disk":
        return str(tmp_path / "models")
    folder: str = request.getfixturevalue(f"{request.param}_folder")
    return folder


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> str:
    """An empty store in a bucket."""
    folder: str = request.getfixturevalue(f"{request.param}_folder")
    return folder


def write(folder: str, text: str) -> None:
    """A SavedModel's files, as far as the store looks at them."""
    for name in FILES:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text} {name}")


def put(store: str, name: str, text: str = "") -> None:
    """A file that somebody else has written."""
    storage_for(store).create(join(store, name), text.encode())


def asked(store: str, number: int | None = None) -> Publication:
    return Publication(store, "dogs", number, storage_for(store))


def publish(store: str, number: int | None = None, text: str = "model") -> str:
    publication = asked(store, number)
    with publication.staging() as folder:
        write(folder, text)
        publication.publish(folder)
    assert publication.is_published
    return publication.path


def contents(store: str, folder: str = "dogs") -> dict[str, str]:
    """Every file below a folder of the store, with its text."""
    storage, root = storage_for(store), join(store, folder)
    return {info.path.removeprefix(root + "/"): storage.read(info.path).decode() for info in storage.walk(root)}


def served(store: str) -> list[int]:
    return list(whole(versions(join(store, "dogs"), storage_for(store))))


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("7", 7), ("007", 7), ("0", 0), (str(HIGHEST_VERSION), HIGHEST_VERSION), ("0" * 30 + "1", 1),
        (str(2**63), None), ("9" * 30, None), ("", None), ("-1", None), ("+1", None), ("1.5", None), ("1_0", None),
        ("²", None), ("٣", None), (" 1", None), ("1 ", None), ("v1", None), (".publishing-7-x", None), (ASIDE, None),
    ],
)  # fmt: skip
def test_which_names_are_versions(name: str, number: int | None) -> None:
    assert version_number(name) == number


def test_a_version_is_published_with_every_file_and_nothing_else(store: str) -> None:
    path = publish(store, 7)
    assert path == f"{store}/dogs/7"
    assert contents(store) == {f"7/{name}": f"model {name}" for name in FILES}
    assert served(store) == [7]


def test_without_a_number_a_version_is_above_all_others(store: str) -> None:
    for name in ("0202611251800", "7", "99999999999999999999", "notes", "1.5"):
        put(store, f"dogs/{name}/variables/x")
    assert publish(store) == f"{store}/dogs/202611251801"
    assert asked(store, 8).higher() == 202611251801
    assert asked(store, 202611251802).higher() is None


def test_only_whole_versions_are_served_and_the_newest_is_chosen(store: str) -> None:
    publish(store, 9)
    publish(store, 10)
    put(store, "dogs/11/variables/variables.index")
    put(store, f"dogs/{2**63}/{MODEL_FILE}")
    put(store, f"dogs/-1/{MODEL_FILE}")
    put(store, f"dogs/.publishing-12-x/12/{MODEL_FILE}")
    put(store, f"dogs/13/13/{MODEL_FILE}")
    put(store, f"dogs/0012/{MODEL_FILE}")
    found = versions(f"{store}/dogs", storage_for(store))
    assert sorted(found) == [9, 10, 11, 12, 13]
    assert served(store) == [9, 10, 12]
    assert found[12].path == f"{store}/dogs/0012"
    assert choose("dogs", whole(found), None) == 12
    assert choose("dogs", whole(found), 9) == 9
    with pytest.raises(UsageError, match="no version 11 in it, but 9, 10, 12"):
        choose("dogs", whole(found), 11)


def test_of_two_folders_of_one_number_the_whole_one_counts(store: str) -> None:
    put(store, f"dogs/007/{MODEL_FILE}", "whole")
    put(store, "dogs/7/variables/variables.index", "half")
    assert versions(f"{store}/dogs", storage_for(store))[7].path == f"{store}/dogs/007"
    with pytest.raises(UsageError, match="7 exists already"):
        asked(store, 7)


def test_a_version_is_never_overwritten(store: str) -> None:
    publish(store, 7, "first")
    with pytest.raises(UsageError, match=r"dogs/7 exists already.*`version`"):
        asked(store, 7)
    assert set(contents(store).values()) == {f"first {name}" for name in FILES}


def test_whoever_publishes_second_is_refused(store: str) -> None:
    second = asked(store, 7)
    with second.staging() as folder:
        write(folder, "second")
        publish(store, 7, "first")
        with pytest.raises(UsageError, match="exists already"):
            second.publish(folder)
    assert not second.is_published
    assert set(contents(store).values()) == {f"first {name}" for name in FILES}


def test_a_version_that_others_overtook_while_it_was_trained_rises(store: str) -> None:
    late = asked(store)
    with late.staging() as folder:
        write(folder, "late")
        put(store, f"dogs/{late.number}/variables/x")
        publish(store, 5_000_000_000)
        late.publish(folder)
    assert late.number == 5_000_000_001
    assert late.is_published
    assert served(store) == [5_000_000_000, 5_000_000_001]


@pytest.mark.parametrize("number", [None, 7], ids=["own numbers", "one number"])
def test_of_publishers_that_race_no_two_share_a_version(store: str, number: int | None) -> None:
    if scheme(store) == "gs":
        pytest.skip("the emulator ignores create-if-absent, which keeps publishers apart")
    start = threading.Barrier(4)

    def race(text: str) -> int | None:
        publication = asked(store, number)
        with publication.staging() as folder:
            write(folder, text)
            start.wait()
            try:
                publication.publish(folder)
            except (UsageError, PublishedElsewhere):
                assert not publication.is_published
                return None
        return publication.number

    with ThreadPoolExecutor(4) as pool:
        numbers = [found for found in pool.map(race, "abcd") if found is not None]
    assert len(numbers) == len(set(numbers))
    assert len(numbers) == 4 if number is None else len(numbers) <= 1
    assert served(store) == sorted(numbers)
    for found in numbers:
        texts = contents(store, f"dogs/{found}").values()
        assert len({text.partition(" ")[0] for text in texts}) == 1
    if number is not None and not numbers:
        publish(store, number)


KILLED = """
import os, signal, sys
from serving.model_store.publish import Publication
from serving.storage.stores import Stores

storage = Stores()(sys.argv[1])
create = storage.create

def die_at_the_model(path, data):
    if path.endswith("saved_model.pb"):
        os.kill(os.getpid(), signal.SIGKILL)
    return create(path, data)

storage.create = die_at_the_model
publication = Publication(sys.argv[1], "dogs", 7, storage)
publication.publish(sys.argv[2])
"""


def test_what_a_killed_publisher_leaves_is_no_version_and_is_replaced(bucket: str, tmp_path: Path) -> None:
    write(str(tmp_path / "staged"), "half")
    (tmp_path / "staged" / "variables" / "of the first only").write_text("half")
    done = subprocess.run([sys.executable, "-c", KILLED, bucket, str(tmp_path / "staged")], timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    assert contents(bucket)["7/variables/variables.index"].startswith("half")
    assert served(bucket) == []
    with pytest.raises(UsageError, match="no version folder"), local_copy(f"{bucket}/dogs", None, storage_for):
        pass
    publish(bucket, 7, "whole")
    assert contents(bucket) == {f"7/{name}": f"whole {name}" for name in FILES}


def test_a_publisher_without_a_number_leaves_anothers_files_alone(bucket: str) -> None:
    early = asked(bucket)
    put(bucket, f"dogs/{early.number}/variables/x", "another's")
    with early.staging() as folder:
        write(folder, "early")
        early.publish(folder)
    assert contents(bucket, "dogs")[f"{early.number - 1}/variables/x"] == "another's"
    assert served(bucket) == [early.number]


class Breaks:
    """A bucket that breaks off at one file."""

    def __init__(self, storage: Storage, name: str, error: BaseException) -> None:
        self._storage, self._name, self._error = storage, name, error

    def __getattr__(self, method: str) -> object:
        return getattr(self._storage, method)

    def create(self, path: str, data: bytes) -> bool:
        if path.endswith(self._name):
            raise self._error
        return self._storage.create(path, data)


@pytest.mark.parametrize("name", ["variables.index", MODEL_FILE])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), PermissionError("denied")], ids=["interrupt", "denied"])
def test_an_upload_that_breaks_off_is_removed(bucket: str, name: str, error: BaseException) -> None:
    publication = Publication(bucket, "dogs", 7, Breaks(storage_for(bucket), name, error))  # type: ignore[arg-type]
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UsageError
    with publication.staging() as folder:
        write(folder, "model")
        with pytest.raises(expected):
            publication.publish(folder)
    assert not publication.is_published
    assert contents(bucket) == {}


def test_a_bucket_that_is_away_may_come_back(bucket: str) -> None:
    away = Breaks(storage_for(bucket), MODEL_FILE, StorageUnavailable("no answer"))
    publication = Publication(bucket, "dogs", 7, away)  # type: ignore[arg-type]
    with publication.staging() as folder:
        write(folder, "model")
        with pytest.raises(StorageUnavailable) as told:
            publication.publish(folder)
    assert str(told.value) == (
        f"`model_store`: {bucket}/dogs can't be written: no answer; this may be temporary: repeat the command"
    )
    assert served(bucket) == []
    publish(bucket, 7)


def test_versions_that_no_server_can_hold_are_refused(tmp_path: Path) -> None:
    for number in (-1, 2**63):
        with pytest.raises(UsageError, match=f"`version` {number}: .*from 0 to {2**63 - 1}"):
            asked(str(tmp_path), number)
    (tmp_path / "dogs" / "007").mkdir(parents=True)
    with pytest.raises(UsageError, match="7 exists already"):
        asked(str(tmp_path), 7)
    (tmp_path / "dogs" / str(2**63 - 1)).mkdir()
    with pytest.raises(UsageError, match="none can be higher"):
        asked(str(tmp_path))


def test_what_is_staged_is_gone_if_it_is_not_published(tmp_path: Path) -> None:
    publication = asked(str(tmp_path), 1)

    def fail(folder: str) -> None:
        write(folder, "model")
        raise FlowImagesError("bad")

    with pytest.raises(FlowImagesError, match="bad"), publication.staging() as folder:
        fail(folder)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_were_there_stay_and_the_others_are_made_again(tmp_path: Path) -> None:
    first, second = asked(str(tmp_path / "new" / "store"), 1), asked(str(tmp_path / "new" / "store"), 2)
    first.discard()
    assert list(tmp_path.iterdir()) == []
    with second.staging() as folder:
        write(folder, "model")
        second.publish(folder)
    assert served(str(tmp_path / "new" / "store")) == [2]
    (tmp_path / "old" / "dogs").mkdir(parents=True)
    asked(str(tmp_path / "old"), 1).discard()
    assert (tmp_path / "old" / "dogs").is_dir()


STAGING = """
import os, sys
from serving.model_store.publish import Publication
from serving.storage.disk import Disk

with Publication(sys.argv[1], "dogs", 7, Disk()).staging() as folder:
    os.mkdir(folder)
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_publisher_left_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STAGING, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    staged = Path(process.stdout.readline().strip()).parent
    asked(str(tmp_path))
    assert staged.exists()
    process.kill()
    process.communicate()
    assert staged.exists()
    asked(str(tmp_path))
    assert not staged.exists()


def test_what_a_killed_publisher_left_on_a_disk_is_removed_after_a_day(tmp_path: Path) -> None:
    for name, hours in (("killed", 25), ("running", 23)):
        aside = tmp_path / f"dogs/.publishing-7-{name}"
        write(str(aside / "7"), "model")
        long_ago = time.time() - hours * 3600
        os.utime(aside, (long_ago, long_ago))
    asked(str(tmp_path))
    assert [path.name for path in (tmp_path / "dogs").iterdir()] == [".publishing-7-running"]


def test_what_is_discarded_cannot_be_published_any_more(store: str) -> None:
    publication = asked(store, 1)
    with publication.staging() as folder:
        write(folder, "model")
        publication.discard()
        with pytest.raises(UsageError, match="can't be written"):
            publication.publish(folder)
    assert served(store) == [] if scheme(store) else not os.path.exists(join(store, "dogs"))


def test_a_server_as_another_user_can_read_what_is_published(tmp_path: Path) -> None:
    assert (Path(publish(str(tmp_path), 1)).stat().st_mode & 0o055) == 0o055


@pytest.mark.parametrize(
    ("store", "name", "told"),
    [
        ("{tmp}/file", "dogs", "{tmp}/file/dogs can't be written"),
        ("{tmp}", "a/b", "`name` a/b"),
        ("{tmp}", "..", "`name` .."),
        ("{tmp}", "", "`name`"),
        ("{tmp}/d\udce9p", "dogs", "UTF-8"),
        ("{tmp}/[a]", "dogs", "/[a]: TensorFlow loads no model from a path with ["),
        ("/proc/nowhere", "dogs", "`model_store`: /proc/nowhere/dogs can't be written"),
        ("", "dogs", "`model_store` is empty"),
        ("ftp://host/models", "dogs", "ftp:// is not supported"),
    ],
)
def test_stores_and_names_that_cannot_be_are_refused_at_once(store: str, name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = store.format(tmp=tmp_path)
    with pytest.raises(UsageError) as error:
        Publication(store, name, None, storage_for(store))
    assert told.format(tmp=tmp_path) in str(error.value)
    assert error.value.exit_code == 2


def test_a_bucket_that_does_not_exist_is_told_before_training(s3_folder: str) -> None:
    with pytest.raises(UsageError, match=r"`model_store`: s3://nobody/models/dogs can't be written: .*no bucket"):
        asked("s3://nobody/models", 1)


def test_a_version_is_fetched_whole(bucket: str, tmp_path: Path) -> None:
    publish(bucket, 7)
    put(bucket, "dogs/7/.publishing", "left by a publisher that died right behind its model file")
    storage = storage_for(bucket)
    (tmp_path / "dogs" / ASIDE / "stale").mkdir(parents=True)
    folder = fetch(versions(f"{bucket}/dogs", storage)[7], tmp_path / "dogs", storage)
    assert folder == tmp_path / "dogs" / "7"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(FILES)
    assert (folder / MODEL_FILE).read_text() == f"model {MODEL_FILE}"
    assert list((tmp_path / "dogs").iterdir()) == [folder]


def test_a_fetch_that_breaks_off_leaves_no_version(bucket: str, tmp_path: Path) -> None:
    publish(bucket, 7)
    storage = storage_for(bucket)
    found = versions(f"{bucket}/dogs", storage)[7]
    storage.delete(f"{bucket}/dogs/7/{MODEL_FILE}")
    with pytest.raises(FileNotFoundError):
        fetch(found, tmp_path / "dogs", storage)
    assert not list(tmp_path.glob("dogs/*"))


def test_a_large_file_is_fetched_in_parts(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.storage.transfer._PART_BYTES", 1000)
    text = "".join(f"{number:05d}" for number in range(501))
    put(bucket, f"dogs/7/{MODEL_FILE}", text)
    storage = storage_for(bucket)
    assert (fetch(versions(f"{bucket}/dogs", storage)[7], tmp_path, storage) / MODEL_FILE).read_text() == text


def test_a_name_that_leads_out_of_the_folder_is_refused(s3_folder: str, s3_server: str, tmp_path: Path) -> None:
    import boto3

    publish(s3_folder, 7)
    key = f"{s3_folder.removeprefix('s3://images/')}/dogs/7/../../../evil"
    boto3.client("s3").put_object(Bucket="images", Key=key, Body=b"")
    storage = storage_for(s3_folder)
    with pytest.raises(NameLeadsOut, match="would be written outside"):
        fetch(versions(f"{s3_folder}/dogs", storage)[7], tmp_path / "models" / "dogs", storage)
    assert not list(tmp_path.rglob("evil"))
    with (
        pytest.raises(UsageError, match=r"`model` .*would be written outside"),
        local_copy(f"{s3_folder}/dogs", 7, storage_for),
    ):
        pass


def test_a_local_copy_is_there_while_it_is_used(bucket: str) -> None:
    publish(bucket, 7)
    publish(bucket, 9)
    with local_copy(f"{bucket}/dogs", None, storage_for) as copy:
        assert copy.name == "dogs"
        assert [path.name for path in copy.iterdir()] == ["9"]
        assert choose_on_disk(copy, None) == 9
    assert not copy.exists()
    with local_copy(f"{bucket}/dogs", 7, storage_for) as copy:
        assert [path.name for path in copy.iterdir()] == ["7"]
    with pytest.raises(UsageError, match="no version 8 in it, but 7, 9"), local_copy(f"{bucket}/dogs", 8, storage_for):
        pass


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("s3://bucket/models/dogs", ("s3://bucket/models/dogs", None)),
        ("s3://bucket/models/dogs/", ("s3://bucket/models/dogs", None)),
        ("gs://bucket/models/dogs/0012", ("gs://bucket/models/dogs", 12)),
        (f"gs://bucket/models/{2**63}", (f"gs://bucket/models/{2**63}", None)),
    ],
)
def test_a_model_or_a_version_of_it_is_named_in_a_bucket(path: str, named: tuple[str, int | None]) -> None:
    assert named_model(path) == named


def test_a_model_or_a_version_of_it_is_named_on_a_disk(tmp_path: Path, change_to: Callable[[Path], None]) -> None:
    publish(str(tmp_path), 7)
    model = str(tmp_path / "dogs")
    assert named_model(model) == (model, None)
    assert named_model(f"{model}/7/") == (model, 7)
    change_to(tmp_path / "dogs" / "7")
    assert named_model(".") == (model, 7)


@pytest.fixture
def change_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    return monkeypatch.chdir
