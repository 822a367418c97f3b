"""az://CONTAINER/BLOB, on azure-storage-blob.

The account and its credentials are named by the environment:

  AZURE_STORAGE_CONNECTION_STRING, or
  AZURE_STORAGE_ACCOUNT (or AZURE_STORAGE_ACCOUNT_NAME) with one of
    AZURE_STORAGE_KEY (or AZURE_STORAGE_ACCOUNT_KEY),
    AZURE_STORAGE_SAS_TOKEN,
    what azure-identity finds: AZURE_CLIENT_ID and its like, a workload's or machine's identity, `az login`;
  AZURE_STORAGE_SERVICE_ENDPOINT where the account has another address than https://ACCOUNT.blob.core.windows.net.

Create-if-absent is Azure's condition `If-None-Match: *`.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import IO, Any

import requests
import requests.adapters
from azure.core import exceptions as azure_errors
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobClient, BlobProperties, BlobServiceClient
from typing_extensions import override

from serving.errors import FileError, StorageDenied, StorageUnavailable, UsageError
from serving.storage.base import Fetched, FileInfo, Stamp, Storage, spooled
from serving.storage.local_file import TooLarge
from serving.storage.pace import keep_pace, retry_after_s
from serving.storage.storage_options import AzureOptions

_CONNECT_S = 4.0
_PAGE = 1000
"""Blobs that a listing holds at once."""
_ONE_REQUEST = 2**40
"""A blob is read by one request, however large."""
_NO_SUCH_NAME = {"InvalidResourceName", "InvalidUri", "OutOfRangeInput", "InvalidInput"}
# These are not an image's fault, and the run is over.
_REFUSED = {
    "AuthenticationFailed",
    "AuthorizationFailure",
    "InvalidAuthenticationInfo",
    "NoAuthenticationInformation",
    "AccountIsDisabled",
}
_PASSING = {"ContainerBeingDeleted", "OperationTimedOut", "ServerBusy"}


class Azure(Storage):
    """Azure Blob Storage. Safe to use from several threads."""

    def __init__(self, options: AzureOptions, wait_s: float) -> None:
        """See `serving.storage.stores.open_store`."""
        session = requests.Session()
        # As many connections as a job reads at once; those over requests' default of 10 would be closed after use.
        session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        keep_pace(session, wait_s)
        connect_s = min(wait_s, _CONNECT_S)
        settings = {
            "transport": RequestsTransport(session=session, connection_timeout=connect_s, read_timeout=wait_s),
            "connection_timeout": connect_s,
            "read_timeout": wait_s,
            "retry_total": 0,  # retries are made, and told to the user, by RetryingStorage
            "max_single_get_size": _ONE_REQUEST,
        }
        try:
            self._service = _service(options, settings)
        except ValueError as error:
            raise UsageError(f"az:// can't be set up: {error}; see AZURE_STORAGE_CONNECTION_STRING") from error

    @override
    def fetch(self, path: str, limit: int | None = None) -> Fetched:
        with _plain_errors(path):
            # One byte more than the limit tells, in a single request, whether the blob is over it.
            length = None if limit is None else limit + 1
            try:
                answer = self._blob(path).download_blob(offset=None if length is None else 0, length=length)
            except azure_errors.HttpResponseError as error:
                if error.status_code != 416:  # of a blob without bytes
                    raise
                return Fetched(b"", {"size": "0"})
            data: bytes = answer.readall()
            if limit is not None and len(data) > limit:
                raise TooLarge(answer.properties.size)
            return Fetched(data, _stamp(answer.properties))

    @override
    def stamp(self, path: str) -> Stamp:
        with _plain_errors(path):
            return _stamp(self._blob(path).get_blob_properties())

    @override
    def read_range(self, path: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        with _plain_errors(path):
            data: bytes = self._blob(path).download_blob(offset=start, length=end - start).readall()
            return data

    @override
    def create(self, path: str, data: bytes) -> bool:
        try:
            with _plain_errors(path):
                self._blob(path).upload_blob(data, overwrite=False)
        except FileExistsError:
            return False
        return True

    @override
    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[IO[bytes]]:
        with _plain_errors(path), spooled(lambda file, size: self._upload(path, file, size)) as file:
            yield file

    def _upload(self, path: str, file: IO[bytes], size: int) -> None:
        self._blob(path).upload_blob(file, length=size, overwrite=True)

    @override
    def exists(self, path: str) -> bool:
        try:
            with _plain_errors(path):
                return bool(self._blob(path).exists())
        except FileNotFoundError:  # of a container, or a name that none can have
            return False

    @override
    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        container, prefix = _address(folder.rstrip("/") + "/")
        last = _address(after)[1] if after else None
        with _plain_errors(folder):
            blobs = self._service.get_container_client(container).list_blobs(
                name_starts_with=prefix, include=["metadata"], results_per_page=_PAGE, start_from=last
            )
            for blob in blobs:
                if not _is_folder(blob) and (last is None or not _is_before(blob.name, last)):
                    yield FileInfo(f"az://{container}/{blob.name}", blob.size)

    @override
    def delete(self, path: str) -> None:
        with _plain_errors(path), contextlib.suppress(azure_errors.ResourceNotFoundError):
            self._blob(path).delete_blob()

    def _blob(self, path: str) -> BlobClient:
        container, name = _address(path)
        if not (container and name):
            raise FileNotFoundError(path)
        if {".", ".."} & set(name.split("/")):  # which would be taken for steps, and another blob be read
            raise FileNotFoundError(f"{path}: Azure has no names with . or .. between slashes")
        return self._service.get_blob_client(container, name)


def _service(options: AzureOptions, settings: dict[str, Any]) -> BlobServiceClient:
    connection = options.connection_string
    if not connection and not options.account_url:
        connection = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection:
        return BlobServiceClient.from_connection_string(connection, **settings)
    account = os.environ.get("AZURE_STORAGE_ACCOUNT") or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    url = options.account_url or os.environ.get("AZURE_STORAGE_SERVICE_ENDPOINT")
    if not (url or account):
        raise UsageError("az:// needs its account: set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT")
    url = url or f"https://{account}.blob.core.windows.net"
    return BlobServiceClient(url, _credential(options, account, url), **settings)


def _credential(options: AzureOptions, account: str | None, url: str) -> Any:
    """What proves who asks; None where the URL holds a signature."""
    if key := os.environ.get("AZURE_STORAGE_KEY") or os.environ.get("AZURE_STORAGE_ACCOUNT_KEY"):
        return {"account_name": account, "account_key": key} if account else key
    if signature := os.environ.get("AZURE_STORAGE_SAS_TOKEN"):
        return signature.removeprefix("?")
    if "sig=" in url:
        return None
    from azure.identity import DefaultAzureCredential

    client = options.managed_identity_client_id
    return DefaultAzureCredential(**({"managed_identity_client_id": client} if client else {}))


def _address(path: str) -> tuple[str, str]:
    """The container and the name of a blob."""
    container, _, name = path.removeprefix("az://").partition("/")
    return container, name


def _stamp(about: BlobProperties) -> Stamp:
    return {"size": str(about.size), "etag": str(about.etag)}


def _is_folder(blob: BlobProperties) -> bool:
    """Is it no file? Accounts with a hierarchical namespace list their folders, too."""
    return blob.name.endswith("/") or (blob.metadata or {}).get("hdi_isfolder") == "true"


def _is_before(name: str, last: str) -> bool:
    """Is it the last name or before it in either order, that of characters or that of folders?

    Accounts with a hierarchical namespace list folder by folder. A name that comes twice does no harm.
    """
    return name <= last and name.split("/") <= last.split("/")


@contextlib.contextmanager
def _plain_errors(path: str) -> Iterator[None]:
    try:
        yield
    except azure_errors.HttpResponseError as error:
        raise _plain(path, error) from error
    except (azure_errors.ServiceRequestError, azure_errors.ServiceResponseError) as error:
        refused = isinstance(error.inner_exception, requests.exceptions.SSLError)
        raise (StorageDenied if refused else StorageUnavailable)(f"{path}: {_words(error)}") from error
    except TimeoutError as error:  # of a body that trickles
        raise StorageUnavailable(f"{path}: {error}") from error
    except azure_errors.AzureError as error:
        raise FileError(f"{path}: {_words(error)}") from error
    except ValueError as error:  # a name that no container can have
        raise FileNotFoundError(f"{path}: {error}") from error


def _plain(path: str, error: azure_errors.HttpResponseError) -> Exception:
    code = getattr(error, "error_code", None)
    code, status = str(getattr(code, "value", code)), error.status_code or 0
    words = f"{path}: {_words(error)}"
    if code == "ContainerNotFound":
        return FileNotFoundError(f"{path}: there is no container {_address(path)[0]!r}")
    if status == 404 or code in _NO_SUCH_NAME:
        return FileNotFoundError(path)
    if code in _PASSING or status == 429 or status >= 500:
        return StorageUnavailable(words, retry_after_s(getattr(error.response, "headers", None)))
    if status in (409, 412):
        return FileExistsError(path)
    if status == 401 or code in _REFUSED or (isinstance(error, azure_errors.ClientAuthenticationError) and not status):
        return StorageDenied(words)
    if status == 403:
        return PermissionError(words)
    if isinstance(error, azure_errors.DecodeError):  # an answer that was cut off
        return StorageUnavailable(words)
    return FileError(words)


def _words(error: Exception) -> str:
    """What an error says, in one line, without the query of a URL, which may hold a signature."""
    return re.sub(r"\?[^\s'\")]*", "?…", str(error).split("\n", 1)[0])
