"""The store of a path: one of each kind, made once."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.errors import UsageError
from serving.storage.base import shown
from serving.storage.stores import Stores, open_store

ROOT = Path(__file__).resolve().parents[3]


def test_each_kind_of_store_is_made_once(s3_folder: str) -> None:
    stores, start = Stores(), threading.Barrier(8)

    def ask(number: int) -> object:
        start.wait()
        return stores(f"{s3_folder}/{number}")

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert all(one is found[0] for one in found)
    assert stores("/a/disk") is stores("relative")
    assert stores("/a/disk") is not found[0]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("ftp://host/x", "ftp:// is not supported"),
        ("file:///x", "the path on the disk itself"),
        ("gcs://b/x", "spell it gs://BUCKET"),
        ("s3a://b/x", "spell it s3://BUCKET"),
        ("abfss://c@a.dfs.core.windows.net/x", "spell it az://CONTAINER"),
        ("wasbs://c@a.blob.core.windows.net/x", "spell it az://CONTAINER"),
    ],
)
def test_a_store_that_is_not_known_is_refused_with_its_spelling_here(path: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_store(path)


@pytest.mark.parametrize(
    ("path", "library", "extra"),
    [
        ("gs://b/x", "google.cloud.storage", "gcs"),
        ("s3://b/x", "boto3", "s3"),
        ("az://c/x", "azure.storage.blob", "azure"),
    ],
)
def test_a_store_whose_library_is_missing_names_the_extra(path: str, library: str, extra: str) -> None:
    script = (
        f"import sys; sys.modules[{library!r}] = None\n"
        f"from serving.storage.stores import open_store; open_store({path!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"UsageError: {path[:5]} needs the extra: pip install 'flow-images[{extra}]'" in done.stderr


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b?c#d", "/a/b?c#d"),
        ("s3://b/x?y", "s3://b/x?y"),
        ("https://h/a.jpg", "https://h/a.jpg"),
        ("https://h/a.jpg?sig=secret", "https://h/a.jpg?…"),
        ("https://me:secret@h/a.jpg", "https://…@h/a.jpg"),
        ("https://me:secret@h/a.jpg?sig=secret#x", "https://…@h/a.jpg?…"),
    ],
)
def test_a_path_is_shown_without_what_may_be_a_secret(path: str, expected: str) -> None:
    assert shown(path) == expected
