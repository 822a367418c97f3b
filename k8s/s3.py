"""Folders of s3:// as the pods need them: what is in one, and copies of it in either direction."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")

COMPLETE = "saved_model.pb"
"""The file of a model version that is published last: without it, the version is still being written."""
_AT_ONCE = 16
"""Copies that run together: many small files wait for the network, not for a CPU."""


def client() -> Any:
    """An S3 client, set up by AWS's environment variables, files or the pod's identity."""
    import boto3

    return boto3.client("s3")


def split(url: str) -> tuple[str, str]:
    """(bucket, prefix without a slash at its ends) of s3://BUCKET/PREFIX."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def keys(s3: Any, url: str) -> dict[str, str]:
    """Path below the folder -> key, of everything in it."""
    bucket, prefix = split(url)
    start = f"{prefix}/" if prefix else ""
    found = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
        for entry in page.get("Contents", []):
            if not entry["Key"].endswith("/"):
                found[entry["Key"].removeprefix(start)] = entry["Key"]
    return found


def download(s3: Any, bucket: str, files: Mapping[str, str], folder: Path) -> None:
    """Copies path -> key into a folder; a path that leads out of it is refused."""
    places = {}
    for path, key in files.items():
        places[key] = (folder / path).resolve()
        if not places[key].is_relative_to(folder.resolve()):
            raise ValueError(f"s3://{bucket}/{key} would be written outside of {folder}")
        places[key].parent.mkdir(parents=True, exist_ok=True)
    together(lambda key: s3.download_file(bucket, key, str(places[key])), places)


def upload(s3: Any, folder: Path, url: str) -> None:
    """Copies a model version to s3://, and what makes it complete last."""
    bucket, prefix = split(url)

    def send(path: Path) -> None:
        s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")

    files = [path for path in folder.rglob("*") if path.is_file()]
    last = folder / COMPLETE
    together(send, (path for path in files if path != last))
    send(last)


def together(do: Callable[[_T], object], items: Iterable[_T]) -> None:
    """Does it for all items, several at once; raises the first error."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(do, items))
