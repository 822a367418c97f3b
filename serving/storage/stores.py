"""The store of each path, made once a run and handed down."""

import threading

from serving.errors import UsageError
from serving.network.retry import Retrier, RetryPolicy
from serving.storage.base import WEB, Storage, is_web, scheme, shown
from serving.storage.disk import Disk
from serving.storage.retrying_store import RetryingStorage
from serving.storage.storage_options import StorageOptions

MOST_WAIT_S = 20.0
"""Seconds without a byte after which a try of a store counts as failed."""
_LEAST_WAIT_S = 2.0
_EXTRAS = {"gs": "gcs", "s3": "s3", "az": "azure"}
_ALIASES = {
    "gcs": "gs", "s3a": "s3", "s3n": "s3",
    "azure": "az", "abfs": "az", "abfss": "az", "wasb": "az", "wasbs": "az", "adl": "az",
}  # fmt: skip
"""Other tools' names for the same stores."""


class Stores:
    """Gives the store that holds a path, and keeps the clients. Safe to use from several threads.

    Not pickled: workers elsewhere get the options, and make their own.
    """

    def __init__(
        self,
        options: StorageOptions | None = None,
        policy: RetryPolicy | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
          options: how stores are reached; None for what the environment says.
          policy: how long a store that is away is waited for; the budget is shared by all.
          stop: when set, ends the waits.
        """
        policy = policy or RetryPolicy()
        self._options = options
        self._patience_s = policy.patience_s
        self._retrier = Retrier(policy, stop)
        # No single try takes longer than all are meant to.
        self._wait_s = min(MOST_WAIT_S, max(_LEAST_WAIT_S, policy.patience_s))
        self._stores: dict[str, RetryingStorage] = {}
        self._making = threading.Lock()

    def __call__(self, path: str) -> RetryingStorage:
        """The store that holds a file or folder; its calls are repeated while it is away.

        Raises:
          UsageError: no store has such paths, its extra is not installed, or its settings can't be used.
        """
        kind = scheme(path)
        if is_web(path):
            from serving.storage.http import check_url

            check_url(path)
        with self._making:
            if kind not in self._stores:
                store = open_store(path, self._options, self._wait_s)
                self._stores[kind] = RetryingStorage(store, self._retrier, self._patience_s)
            return self._stores[kind]

    @property
    def retries(self) -> int:
        """Calls that were repeated so far."""
        return self._retrier.retries

    def writable(self, path: str) -> RetryingStorage:
        """The store that holds a file or folder that is to be written.

        Raises:
          UsageError: as for reading; or it is on a web server.
        """
        if is_web(path):
            raise UsageError(
                f"{shown(path)}: a web server is only read from; give a folder on a disk, gs://, s3:// or az://"
            )
        return self(path)


def open_store(path: str, options: StorageOptions | None = None, wait_s: float = MOST_WAIT_S) -> Storage:
    """A new store for a path, whose calls are made once; see `Stores` for one that is kept.

    Args:
      path: of a file or folder.
      options: how stores are reached; None for what the environment says.
      wait_s: seconds without a byte after which a call fails.

    Raises:
      UsageError: no store has such paths, its extra is not installed, or its settings can't be used.
    """
    kind = scheme(path)
    options = options or StorageOptions()
    try:
        if kind == "":
            return Disk()
        if kind == "gs":
            from serving.storage.gcs import Gcs

            return Gcs(options.gcs, wait_s)
        if kind == "s3":
            from serving.storage.s3 import S3

            return S3(options.s3, wait_s)
        if kind == "az":
            from serving.storage.azure import Azure

            return Azure(options.azure, wait_s)
        if is_web(path):
            from serving.storage.http import Http

            return Http(wait_s)
    except ImportError as error:
        raise UsageError(f"{kind}:// needs the extra: pip install 'flow-images[{_EXTRAS[kind]}]' ({error})") from error
    if kind == "file":
        raise UsageError("file:// is not supported; give the path on the disk itself, which begins with /")
    plain = kind.strip().lower()
    if plain != kind and plain in (*_EXTRAS, *WEB):
        raise UsageError(f"{kind}:// is not an address: write {plain}:// in small letters, with no blanks before it")
    hint = f"; spell it {_ALIASES[kind]}://{_BUCKETS[_ALIASES[kind]]}" if kind in _ALIASES else ""
    raise UsageError(
        f"{kind}:// is not supported{hint}; give a path on a disk, gs://, s3:// or az://, or read from http(s)://"
    )


_BUCKETS = {"gs": "BUCKET/…", "s3": "BUCKET/…", "az": "CONTAINER/… (the account is named by the environment)"}
