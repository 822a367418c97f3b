"""http:// and https://, on urllib3: single files, read only. Nothing can be listed, and nothing in a URL is a pattern.

HTTP_PROXY, HTTPS_PROXY, NO_PROXY and SSL_CERT_FILE are respected. Messages show a URL without its query and password.
"""

import contextlib
import functools
import re
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import IO

import urllib3
from typing_extensions import override

from serving.errors import FileError, StorageDenied, StorageUnavailable, UsageError
from serving.storage.base import Fetched, FileInfo, Stamp, Storage, shown
from serving.storage.local_file import TooLarge
from serving.storage.pace import receive, retry_after_s

_CONNECT_S = 4.0
_CONNECTIONS = 64
"""The most connections to one server: as many as a job reads at once."""
_MOST_REDIRECTS = 5


def check_url(path: str) -> None:
    """Refuses a URL that no web server can have.

    Raises:
      UsageError: it is malformed, or names no host.
    """
    try:
        url = urllib3.util.parse_url(path)
        if url.host and not re.search(r"\s", url.host) and (url.port is None or 0 < url.port < 65_536):
            return
    except ValueError:
        pass
    raise UsageError(f"{shown(path)} is not a URL: it needs a host, and a port up to 65535 if it has one")


class Http(Storage):
    """Web servers. Safe to use from several threads."""

    def __init__(self, wait_s: float) -> None:
        """See `serving.storage.stores.open_store`."""
        self._wait_s = wait_s
        self._proxies = urllib.request.getproxies()
        self._managers = functools.cache(self._open_manager)

    @override
    def fetch(self, path: str, limit: int | None = None) -> Fetched:
        with _plain_errors(path), self._get(path) as answer:
            size = answer.length_remaining
            # Of an answer that comes packed, it is the size on the way.
            if limit is not None and size is not None and size > limit and "content-encoding" not in answer.headers:
                raise TooLarge(size)
            data = receive(answer, self._wait_s, None if limit is None else limit + 1)
            if limit is not None and len(data) > limit:
                raise TooLarge
            return Fetched(data, {"size": str(len(data))} | _stamp(answer))

    @override
    def stamp(self, path: str) -> Stamp:
        with _plain_errors(path), self._get(path, "bytes=0-0") as answer:
            receive(answer, self._wait_s, 1)
            whole = answer.status == 200  # the server knows no ranges
            size = answer.headers.get("content-length" if whole else "content-range", "").rpartition("/")[2]
            return ({"size": size} if size.isdigit() else {}) | _stamp(answer)

    @override
    def read_range(self, path: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        with _plain_errors(path), self._get(path, f"bytes={start}-{end - 1}") as answer:
            if answer.status == 416:
                return b""
            if answer.status == 206:
                found = answer.headers.get("content-range", "")
                if not found.startswith(f"bytes {start}-"):
                    raise FileError(f"{shown(path)}: the server sent {found or 'another part'} for bytes from {start}")
                return receive(answer, self._wait_s, end - start)
            return receive(answer, self._wait_s, end)[start:]  # the server knows no ranges

    @override
    def exists(self, path: str) -> bool:
        # Not by HEAD, as a URL that is signed is signed for GET.
        try:
            with _plain_errors(path), self._get(path, "bytes=0-0") as answer:
                receive(answer, self._wait_s, 1)
                return True
        except FileNotFoundError:
            return False

    @override
    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        raise UsageError(
            f"{shown(folder)}: a web server can't be listed: name the URLs in a .txt or .csv, or give the bucket "
            "behind it as gs://, s3:// or az://"
        )

    @override
    def create(self, path: str, data: bytes) -> bool:
        raise _read_only(path)

    @override
    def replacing(self, path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        raise _read_only(path)

    @override
    def delete(self, path: str) -> None:
        raise _read_only(path)

    @contextlib.contextmanager
    def _get(self, path: str, wanted: str | None = None) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer to a GET, whose body is still to be received; what is left of it ends with the connection."""
        url = urllib3.util.parse_url(path)
        headers = {"Accept-Encoding": "identity", "User-Agent": "flow-images"}
        if url.auth:
            headers |= urllib3.util.make_headers(basic_auth=urllib.parse.unquote(url.auth))
        if wanted:
            headers["Range"] = wanted
        answer = self._manager(url).request(
            "GET",
            url._replace(auth=None, fragment=None).url,
            headers=headers,
            preload_content=False,
            retries=urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=_MOST_REDIRECTS),
        )
        try:
            _check_status(path, answer, bool(wanted))
            yield answer
        finally:
            answer.close()  # of a body that was received whole, the connection is kept

    def _manager(self, url: urllib3.util.Url) -> urllib3.PoolManager:
        """The connections for a URL: straight to its server, or by way of the environment's proxy."""
        host = url.host or ""
        proxy = self._proxies.get(url.scheme or "") or self._proxies.get("all")
        return self._managers(None if proxy is None or urllib.request.proxy_bypass(host) else proxy)

    def _open_manager(self, proxy: str | None) -> urllib3.PoolManager:
        timeout = urllib3.Timeout(connect=min(self._wait_s, _CONNECT_S), read=self._wait_s)
        if proxy:
            return urllib3.ProxyManager(proxy, maxsize=_CONNECTIONS, timeout=timeout)
        return urllib3.PoolManager(maxsize=_CONNECTIONS, timeout=timeout)


def _stamp(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    named = {"etag": answer.headers.get("etag"), "time": answer.headers.get("last-modified")}
    return {name: value for name, value in named.items() if value}


def _read_only(path: str) -> UsageError:
    return UsageError(f"{shown(path)}: a web server is only read from")


def _check_status(path: str, answer: urllib3.BaseHTTPResponse, ranged: bool) -> None:
    name, status = shown(path), answer.status
    if status == 200 or (ranged and status in (206, 416)):  # a file without bytes has no range
        return
    if status in (404, 410):
        raise FileNotFoundError(f"{name}: HTTP {status}")
    if status in (401, 403, 407):
        raise PermissionError(f"{name}: HTTP {status}; is it public, or its signature still valid?")
    if status in (408, 429) or status >= 500:
        raise StorageUnavailable(f"{name}: HTTP {status}", retry_after_s(answer.headers))
    raise FileError(f"{name}: HTTP {status}")


@contextlib.contextmanager
def _plain_errors(path: str) -> Iterator[None]:
    # urllib3's own words have the whole URL in them.
    name = shown(path)
    try:
        yield
    except ValueError as error:  # `check_url` has seen the first one
        raise FileError(f"{name}: it leads to an address that is not a URL of http:// or https://") from error
    except urllib3.exceptions.MaxRetryError as error:
        raise _plain(name, error.reason or error) from error
    except (urllib3.exceptions.HTTPError, TimeoutError) as error:
        raise _plain(name, error) from error


def _plain(name: str, error: Exception) -> Exception:
    if isinstance(error, urllib3.exceptions.SSLError) and not isinstance(error.args[0], ssl.SSLEOFError):
        return StorageDenied(f"{name}: {error.args[0]}; SSL_CERT_FILE names a file with certificates to trust")
    if isinstance(error, urllib3.exceptions.ProxyError) and "407" in str(error):
        return StorageDenied(f"{name}: the proxy wants credentials; give them in HTTPS_PROXY")
    if isinstance(error, urllib3.exceptions.ResponseError | urllib3.exceptions.DecodeError):
        return FileError(f"{name}: {error}")  # too many redirects, or not packed as the server says
    return StorageUnavailable(f"{name}: {type(error).__name__}" if "://" in str(error) else f"{name}: {error}")
