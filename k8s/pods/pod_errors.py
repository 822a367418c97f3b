"""Explains errors of buckets in a pod in one line: exit code 75 where they may pass, else 2."""

import contextlib
from collections.abc import Iterator

from serving.errors import NoCredentials, StorageUnavailable, UsageError
from serving.storage.explained_errors import explaining

BUCKETS = ("gs://", "s3://", "az://")
"""How the address of a bucket begins."""


@contextlib.contextmanager
def errors_for_pods(url: str) -> Iterator[None]:
    """Turns errors of storages, and of the system, in the block into ones that end a pod.

    Raises:
      UsageError: it stays so until somebody changes something.
      DiskFull, StorageUnavailable: it may pass; so may missing credentials, as a pod has none right after its start.
    """
    try:
        with explaining(url):
            yield
    except UsageError as error:
        if isinstance(error.__cause__, NoCredentials):
            raise StorageUnavailable(str(error)) from error
        raise
