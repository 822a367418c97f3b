"""gs://BUCKET/NAME, on google-cloud-storage, with Google's default credentials, or without any where there are none.

Create-if-absent is the precondition `if_generation_match=0`. `STORAGE_EMULATOR_HOST` points it at an emulator.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import IO, Any

import google.api_core.exceptions as gcp_errors
import google.auth
import google.auth.exceptions
import requests.adapters
from google.auth import impersonated_credentials
from google.cloud import storage
from typing_extensions import override

from serving.errors import FileError, NoCredentials, StorageDenied, StorageUnavailable, UsageError
from serving.storage.base import Fetched, FileInfo, Stamp, Storage, spooled
from serving.storage.local_file import TooLarge
from serving.storage.pace import keep_pace, retry_after_s
from serving.storage.storage_options import GcsOptions

_CONNECT_S = 4.0
_LOG = logging.getLogger(__name__)


class Gcs(Storage):
    """Google Cloud Storage. Safe to use from several threads."""

    def __init__(self, options: GcsOptions, wait_s: float) -> None:
        """See `serving.storage.stores.open_store`."""
        try:
            credentials = _credentials(options)
            self._client = (
                storage.Client(options.project, credentials, extra_headers=dict(options.headers))
                if credentials
                else storage.Client.create_anonymous_client()
            )
        except (ValueError, google.auth.exceptions.GoogleAuthError) as error:
            raise UsageError(
                f"gs:// can't be set up: {error}; see STORAGE_EMULATOR_HOST and GOOGLE_APPLICATION_CREDENTIALS"
            ) from error
        self._anonymous = credentials is None
        # Retries are made, and told to the user, by RetryingStorage.
        self._once: dict[str, Any] = {"timeout": (min(wait_s, _CONNECT_S), wait_s), "retry": None}
        # As many connections as a job reads at once; those over requests' default of 10 would be closed after use.
        for kind in ("https://", "http://"):
            self._client._http.mount(kind, requests.adapters.HTTPAdapter(pool_maxsize=64))
        keep_pace(self._client._http, wait_s)

    @override
    def fetch(self, path: str, limit: int | None = None) -> Fetched:
        with self._plain_errors(path):
            blob = self._blob(path)
            # One byte more than the limit tells, in a single request, whether the object is over it.
            try:
                data = blob.download_as_bytes(end=limit, **self._once, checksum=None)
            except gcp_errors.RequestRangeNotSatisfiable:  # of an object without bytes
                data = b""
            if limit is not None and len(data) > limit:
                blob.reload(**self._once)
                raise TooLarge(blob.size)
            return Fetched(data, _stamp(blob, len(data)))

    @override
    def stamp(self, path: str) -> Stamp:
        with self._plain_errors(path):
            blob = self._blob(path)
            blob.reload(**self._once)
            return _stamp(blob, blob.size or 0)

    @override
    def read_range(self, path: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        with self._plain_errors(path):
            return self._blob(path).download_as_bytes(start=start, end=end - 1, **self._once, checksum=None)

    @override
    def create(self, path: str, data: bytes) -> bool:
        if self.exists(path):  # also for emulators that ignore the precondition
            return False
        try:
            with self._in_bucket(path):
                self._blob(path).upload_from_string(data, if_generation_match=0, **self._once)
        except FileExistsError:
            return False
        return True

    @override
    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[IO[bytes]]:
        with self._in_bucket(path), spooled(lambda file, size: self._upload(path, file, size)) as file:
            yield file

    def _upload(self, path: str, file: IO[bytes], size: int) -> None:
        # With its size, a file of a few megabytes takes a single request, which can be repeated.
        self._blob(path).upload_from_file(file, size=size, **self._once)

    @override
    def exists(self, path: str) -> bool:
        try:
            with self._plain_errors(path):
                return bool(self._blob(path).exists(**self._once))
        except FileNotFoundError:  # of a bucket, or a name that none can have
            return False

    @override
    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        bucket, _, prefix = (folder.rstrip("/") + "/").removeprefix("gs://").partition("/")
        last = after.removeprefix(f"gs://{bucket}/") if after else None
        with self._in_bucket(folder):
            for blob in self._client.list_blobs(bucket, prefix=prefix, start_offset=last, **self._once):
                if not blob.name.endswith("/") and (last is None or blob.name > last):
                    yield FileInfo(f"gs://{bucket}/{blob.name}", blob.size)

    @override
    def delete(self, path: str) -> None:
        with self._plain_errors(path), contextlib.suppress(gcp_errors.NotFound):
            self._blob(path).delete(**self._once)

    def _blob(self, path: str) -> storage.Blob:
        bucket, _, name = path.removeprefix("gs://").partition("/")
        if not (bucket and name):
            raise FileNotFoundError(path)
        return self._client.bucket(bucket).blob(name)

    @contextlib.contextmanager
    def _in_bucket(self, path: str) -> Iterator[None]:
        """Plain errors of a listing, or of writing: what isn't found then is the bucket."""
        try:
            with self._plain_errors(path):
                yield
        except FileNotFoundError as error:
            bucket = path.removeprefix("gs://").partition("/")[0]
            raise FileNotFoundError(f"{path}: there is no bucket {bucket!r}") from error

    @contextlib.contextmanager
    def _plain_errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except gcp_errors.NotFound as error:
            raise FileNotFoundError(path) from error
        except gcp_errors.PreconditionFailed as error:
            raise FileExistsError(path) from error
        except gcp_errors.Forbidden as error:
            raise PermissionError(f"{path}: {error}") from error
        except gcp_errors.Unauthorized as error:
            # A token that ended is not an image's fault and may be renewed.
            kind = NoCredentials if self._anonymous else StorageUnavailable
            raise kind(f"{path}: {error}") from error
        except _NO_URL as error:
            raise UsageError(f"{path}: {error}; see STORAGE_EMULATOR_HOST") from error
        except _PASSING as error:
            answer = getattr(error, "response", None)
            wait_s = 0.0 if answer is None else retry_after_s(answer.headers)
            raise StorageUnavailable(f"{path}: {error}", wait_s) from error
        except google.auth.exceptions.GoogleAuthError as error:
            final = NoCredentials if self._anonymous else StorageDenied
            raise (StorageUnavailable if error.retryable else final)(f"{path}: {error}") from error
        except gcp_errors.GoogleAPICallError as error:
            raise FileError(f"{path}: {error}") from error
        except ValueError as error:  # a name that no bucket can have
            raise FileNotFoundError(f"{path}: {error}") from error


def _stamp(blob: storage.Blob, size: int) -> Stamp:
    # Not its ETag, which is another one in the answer to a download.
    named = {"generation": blob.generation, "crc32c": blob.crc32c, "md5": blob.md5_hash}
    return {"size": str(size)} | {name: str(value) for name, value in named.items() if value}


def _credentials(options: GcsOptions) -> Any:
    """Google's credentials; None for an emulator, and where there are none, as public buckets can be read without."""
    if "STORAGE_EMULATOR_HOST" in os.environ:
        return None
    try:
        credentials, _ = google.auth.default(scopes=options.scopes)
    except google.auth.exceptions.DefaultCredentialsError:
        _LOG.warning("gs:// is read without credentials, as there are none: `gcloud auth application-default login`, "
                     "or GOOGLE_APPLICATION_CREDENTIALS")  # fmt: skip
        return None
    if options.impersonate:
        *delegates, principal = options.impersonate
        credentials = impersonated_credentials.Credentials(
            credentials, principal, target_scopes=options.scopes, delegates=delegates
        )
    return credentials


_NO_URL = (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)
_PASSING = (
    gcp_errors.ServerError, gcp_errors.TooManyRequests, gcp_errors.RetryError,
    google.auth.exceptions.TransportError, google.auth.exceptions.TimeoutError, requests.exceptions.RequestException,
    TimeoutError,  # of a body that trickles
)  # fmt: skip
