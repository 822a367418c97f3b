"""Downloads a hub module's archive once, into a cache: resumed where it broke off, checked, and unpacked whole."""

import base64
import contextlib
import fcntl
import gzip
import hashlib
import http.client
import os
import shutil
import socket
import ssl
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.model_store.versions import MODEL_FILE
from serving.storage.base import scheme, shown
from trainer.hub.handle import ARCHIVES, kaggle_api, kaggle_url
from trainer.progress import Progress, reporting
from trainer.tensorflow_errors import MayPass, explained, explaining

_TIMEOUT_S = 30.0
"""How long an answer may take: without a limit a run would hang where a firewall drops packets."""
_TRIES = 4
_FIRST_PAUSE_S = 1.0
"""Before the second try; doubled for each further one."""
_PASSING_STATUS = {408, 425, 429}
"""HTTP statuses after which a download is tried again, besides all from 500 on."""
_BLOCK = 2**20
_COMPRESSED = "tf-hub-format=compressed"
"""Asks TF Hub for an archive, in place of a page (https://www.tensorflow.org/hub/hosting)."""
_SMALL = 2**30
_MOST_TIMES = 20
"""An archive above _SMALL bytes unpacked that is more than so many times its own size is none of weights."""
_CONSENT = {http.client.UNAUTHORIZED, http.client.FORBIDDEN}
_ELSEWHERE = "Where there is no internet, download the module's .tar.gz elsewhere and give its path"


class _Spoilt(OSError):
    """What came is not what the server has: its length or its checksum differs."""


def downloaded(handle: str, progress: Progress) -> Path:
    """The folder of a module, in the cache of TFHUB_CACHE_DIR; it is downloaded if it is not there.

    The folder's name is the SHA-1 of the handle, as TensorFlow Hub's own cache has it. A download that broke off, or
    was killed, goes on with what is missing, if the server still has the same file.

    Args:
      handle: http(s) URL, or Kaggle handle.
      progress: is told of each megabyte.

    Raises:
      UsageError: there is no such module, or what the URL answers is none.
      MayPass: it can't be had now.
      DiskFull: there is no room for it.
    """
    name = f"`hub_model` {printable(shown(handle))}"
    cache = Path(os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir()) / "tfhub_modules")
    if scheme(os.environ.get("TFHUB_CACHE_DIR", "")):
        raise UsageError("TFHUB_CACHE_DIR is a URL: set it to a folder on this machine")
    with explaining("TFHUB_CACHE_DIR can't be written"):
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    place = cache / hashlib.sha1(handle.encode()).hexdigest()
    with reporting(f"waiting for the hub module {printable(shown(handle))}", progress.note), _alone(place):
        if not _model_in(place):
            archive = place.with_suffix(".part")
            _fetch(handle, name, archive, progress)
            _unpack(archive, place, name)
    found = _model_in(place)
    assert found is not None
    return found


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process at a time downloads a module; the lock of one that is killed goes with it."""
    with explaining("TFHUB_CACHE_DIR can't be written"):
        lock = place.with_suffix(".flock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _model_in(folder: Path) -> Path | None:
    """The folder of the SavedModel in a folder, or below it."""
    return next((path.parent for path in sorted(folder.rglob(MODEL_FILE))), None) if folder.is_dir() else None


def _fetch(handle: str, name: str, archive: Path, progress: Progress) -> None:
    """Downloads the archive, in several tries where that may help."""
    url = kaggle_url(handle) or handle
    pause = _FIRST_PAUSE_S
    for number in range(1, _TRIES + 1):
        try:
            _request(url, archive, progress)
        except OSError as error:
            if getattr(error, "errno", None) is not None and not may_pass(error):
                raise explained(f"{name} can't be downloaded to {printable(str(archive.parent))}", error) from error
            said = f"{name} {unreached(url, error)}"
            if not may_pass(error):
                raise UsageError(f"{said}. {_way_out(url, error)}") from error
            if number == _TRIES:
                again = f"{said}, tried {number} times; this may be temporary: repeat the command. {_ELSEWHERE}"
                raise MayPass(again) from error
            progress.note(f"{said}; try {number + 1} of {_TRIES} in {pause:.0f} s")
            time.sleep(pause)
            pause *= 2
        except http.client.HTTPException as error:
            raise UsageError(f"{name} {unreached(url, error)}. {_ELSEWHERE}") from error
        else:
            return


def _way_out(url: str, error: Exception) -> str:
    if url.startswith(kaggle_api()) and isinstance(error, urllib.error.HTTPError) and error.code in _CONSENT:
        return "Agree to the model's terms on its page of Kaggle, and set KAGGLE_USERNAME and KAGGLE_KEY"
    return _ELSEWHERE


def _request(url: str, archive: Path, progress: Progress) -> None:
    """One try: adds what is missing of the file, or all of it where the server has another one by now."""
    tag_file = archive.with_suffix(".tag")
    begun = archive.stat().st_size if archive.exists() and tag_file.exists() else 0
    request = urllib.request.Request(_asking(url), headers={"User-Agent": "flow-images"})
    for header, value in _credentials(url).items():
        request.add_unredirected_header(header, value)  # Kaggle sends us to a storage, whose business they aren't
    if begun:
        request.add_header("Range", f"bytes={begun}-")
        request.add_header("If-Range", tag_file.read_text())
    try:
        opener = urllib.request.build_opener()  # which reads the proxies' variables anew
        answer = opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # it was whole already, or is another by now
            tag_file.unlink()
            raise _Spoilt("the file changed while it was downloaded") from error
        raise
    except (http.client.HTTPException, ssl.SSLError) as error:
        raise urllib.error.URLError(error) from error
    with answer:
        goes_on = answer.status == http.client.PARTIAL_CONTENT
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-"):
            tag_file.unlink()
            raise _Spoilt("the server continued at another place than asked")
        if not goes_on:
            begun = 0
            _start_anew(archive, tag_file, answer.headers.get("ETag", ""))
        size = int(answer.headers["Content-Length"]) + begun if answer.headers.get("Content-Length") else None
        total = f" of {size / 1e6:,.0f} MB" if size else ""
        progress.begin(f"downloading the hub module{total}", size and -(-size // _BLOCK))
        progress.advance(begun // _BLOCK)
        with archive.open("ab") as file:
            _copy(answer, file, progress)
        if size is not None and archive.stat().st_size != size:
            raise _Spoilt(f"it ended after {archive.stat().st_size:,} of {size:,} bytes")
        _check(archive, answer.headers)


def _start_anew(archive: Path, tag_file: Path, tag: str) -> None:
    """Empties the file, and then notes whose bytes will be in it; what has no strong tag can't be gone on with."""
    tag_file.unlink(missing_ok=True)
    archive.write_bytes(b"")
    if tag and not tag.startswith("W/"):
        tag_file.write_text(tag)


def _copy(answer: http.client.HTTPResponse, file: IO[bytes], progress: Progress) -> None:
    try:
        while data := answer.read(_BLOCK):
            file.write(data)
            progress.advance()
    except (http.client.HTTPException, ssl.SSLError) as error:
        raise _Spoilt(f"it broke off: {type(error).__name__}") from error


def _check(archive: Path, headers: http.client.HTTPMessage) -> None:
    """Compares the MD5 that the server tells, if it tells one: Google Cloud in x-goog-hash, others in Content-MD5."""
    told = [part.strip().removeprefix("md5=") for line in headers.get_all("x-goog-hash", [])
            for part in line.split(",") if part.strip().startswith("md5=")]  # fmt: skip
    told += headers.get_all("Content-MD5", [])
    if not told:
        return
    with archive.open("rb") as file:
        found = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
    if found != told[0]:
        archive.unlink()
        raise _Spoilt(f"its MD5 is {found}, and the server says {told[0]}")


def _asking(url: str) -> str:
    """The URL that answers with an archive."""
    parts = urllib.parse.urlsplit(url)
    if parts.path.endswith((*ARCHIVES, "/download")) or _COMPRESSED in parts.query:
        return url
    return parts._replace(query="&".join(filter(None, (parts.query, _COMPRESSED)))).geturl()


def _credentials(url: str) -> dict[str, str]:
    """Kaggle's, from the variables that its own client reads; most models need none."""
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if not (user and key) or not url.startswith(kaggle_api()):
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"}


def _unpack(archive: Path, place: Path, name: str) -> None:
    """Makes the archive a folder, which appears whole or not at all."""
    aside = place.with_suffix(".unpacking")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with explaining(f"{name} can't be unpacked"):
            try:
                unpack(archive, aside, name)
            except UsageError as error:
                if not _ends_early(error.__cause__):
                    raise
                # Its length was not told, or it would have been tried again.
                raise MayPass(f"{error}; this may be temporary: repeat the command. {_ELSEWHERE}") from error
            if _model_in(aside) is None:
                raise UsageError(f"{name}: there is no {MODEL_FILE} in the archive")
            shutil.rmtree(place, ignore_errors=True)
            aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for path in (archive, archive.with_suffix(".tag")):
            path.unlink(missing_ok=True)


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Unpacks an archive.

    Raises:
      UsageError: it is none, holds what leads out of the folder, or is far larger than weights are unpacked.
    """
    most = max(_SMALL, _MOST_TIMES * archive.stat().st_size)
    so_far = 0

    def count(size: int) -> None:
        nonlocal so_far
        so_far += size
        if so_far > most:
            raise UsageError(f"{name} is not a module's archive: unpacked it is above {most:,} bytes")

    # By hand: the filters of `tarfile` are missing in Python 3.11.2, which is Debian 12's.
    try:
        with tarfile.open(archive) as members:
            for member in members:
                path = (folder / member.name).resolve()
                if not path.is_relative_to(folder.resolve()):
                    raise UsageError(f"{name}: {printable(member.name)} in the archive leads outside its folder")
                data = members.extractfile(member)  # of a link, that of the file that it leads to
                (path.parent if data else path).mkdir(parents=True, exist_ok=True)
                if data:
                    with data, path.open("wb") as file:
                        while block := data.read(_BLOCK):
                            count(len(block))
                            file.write(block)
            while members.fileobj and (rest := members.fileobj.read(_BLOCK)):  # to the end, where gzip's checksum is
                count(len(rest))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{name} is not a module's archive, or is not whole: {reason}") from error


def _ends_early(error: object) -> bool:
    return isinstance(error, EOFError) or str(error) in {"unexpected end of data", "empty file"}


def unreached(url: str, error: Exception) -> str:
    """Why a URL can't be reached, and the proxy that was used, which may be the cause."""
    parts = urllib.parse.urlsplit(url)
    has_proxy = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc)
    way = f" by the proxy of the variable {parts.scheme}_proxy" if has_proxy else ""
    code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    reason = getattr(error, "reason", None) or error
    return f"can't be reached{way} ({code}{getattr(reason, 'strerror', None) or reason or type(error).__name__})"


def may_pass(error: object) -> bool:
    """Is another try worth it?"""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING_STATUS or error.code >= 500
    if isinstance(error, urllib.error.URLError):
        return may_pass(error.reason)
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    passing = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError, http.client.HTTPException, _Spoilt)
    return isinstance(error, passing) or (isinstance(error, OSError) and isinstance(explained("", error), MayPass))
