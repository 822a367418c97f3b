"""The hub module: a SavedModel folder, an archive, or a URL that is downloaded once."""

import contextlib
import http.client
import os
import socket
import ssl
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from serving.console.terminal import printable
from serving.errors import UsageError
from serving.model_store.versions import MODEL_FILE
from trainer.hub_handle import check_hub_handle, is_archive, is_url
from trainer.outages import MayPass, explained, explaining
from trainer.slow_steps import reporting

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    import tensorflow_hub as hub

__all__ = ["hub", "hub_layer"]

_TIMEOUT_S = 30.0
"""For an answer: without a limit a run would hang where a firewall drops packets."""
_TRIES = 4
_FIRST_PAUSE_S = 1.0
"""Before the second try; doubled for each further one."""
_PASSING_STATUS = {408, 425, 429}
"""Of HTTP, besides all from 500 on."""
_ELSEWHERE = "Where there is no internet, download the module's .tar.gz elsewhere and give its path"


def hub_layer(handle: str, trainable: bool, note: Callable[[str], None]) -> hub.KerasLayer:
    """A Keras layer of a hub module.

    Args:
      handle: TF Hub URL, SavedModel folder or archive.
      trainable: whether its weights are to be trained.
      note: is told what is waited for, and what is tried again.

    Raises:
      UsageError: there is no such module, or it is none.
      MayPass: it can't be had now, or there is no space for it.
    """
    name = f"`hub_model` {printable(handle)}"
    check_hub_handle(handle)
    try:
        if is_url(handle):
            return hub.KerasLayer(_downloaded(handle, name, note), trainable=trainable)
        if is_archive(handle):
            with _unpacked(handle, name) as folder:
                return hub.KerasLayer(hub.load(folder), trainable=trainable)
        return hub.KerasLayer(handle, trainable=trainable)
    except (
        OSError,
        ValueError,
        RuntimeError,
        AttributeError,
        EOFError,
        zlib.error,
        tarfile.TarError,
        tf.errors.OpError,
    ) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"{name} is not a reusable TF 2 module: {reason}") from error


def _downloaded(handle: str, name: str, note: Callable[[str], None]) -> str:
    """The folder in the cache that a URL's module is in, downloaded if it is not there."""
    with explaining("TFHUB_CACHE_DIR can't be written"):
        cache = os.environ.get("TFHUB_CACHE_DIR") or os.path.join(tempfile.gettempdir(), "tfhub_modules")
        if "://" not in cache:  # TensorFlow Hub itself would try for ever
            Path(cache).mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=cache).close()
            _remove_stale_locks(Path(cache))
    pause = _FIRST_PAUSE_S
    for number in range(1, _TRIES + 1):
        try:
            with _network_timeout(), reporting(f"waiting for the hub module {printable(handle)}", note):
                folder: str = hub.resolve(handle)
                return folder
        except (OSError, EOFError, http.client.HTTPException, zlib.error) as error:
            if not _may_pass(error):
                if isinstance(error, urllib.error.URLError):
                    raise UsageError(f"{name} {_unreached(handle, error)}. {_ELSEWHERE}") from error
                raise
            said = f"{name} {_unreached(handle, error)}"
            if number == _TRIES:
                raise MayPass(
                    f"{said}, tried {number} times; this may pass: repeat the command. {_ELSEWHERE}"
                ) from error
            note(f"{said}; try {number + 1} of {_TRIES} in {pause:.0f} s")
            time.sleep(pause)
            pause *= 2
        except tf.errors.OpError as error:
            raise explained(f"{name} can't be downloaded to {printable(cache)}", error) from error
    raise AssertionError("the loop returns or raises")


def _remove_stale_locks(cache: Path) -> None:
    """Removes the locks of downloads of this machine that were killed: TensorFlow Hub waits ten minutes for each."""
    for lock in cache.glob("*.lock"):
        with contextlib.suppress(OSError):  # it was released meanwhile, or is another user's
            host, _, process = lock.read_text().rpartition(".")[0].rpartition(".")
            if host == socket.gethostname() and process.isdigit() and not _is_running(int(process)):
                lock.unlink()


def _is_running(process: int) -> bool:
    """Is it another process, and does it run? A container that restarts gives the same number again."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return process != os.getpid()


def _unreached(url: str, error: Exception) -> str:
    """Why a URL can't be reached, and the proxy that was used, which may be the cause."""
    parts = urllib.parse.urlsplit(url)
    has_proxy = parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.netloc)
    way = f" by the proxy of the variable {parts.scheme}_proxy" if has_proxy else ""
    code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    reason = getattr(error, "reason", None) or error
    return f"can't be reached{way} ({code}{getattr(reason, 'strerror', None) or reason or type(error).__name__})"


def _may_pass(error: object) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _PASSING_STATUS or error.code >= 500
    if isinstance(error, urllib.error.URLError):
        return _may_pass(error.reason)
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    passing = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError, http.client.HTTPException, EOFError)
    if isinstance(error, (*passing, zlib.error)):
        return True
    # TensorFlow Hub has one error for all archives that can't be read; one that ends early was cut off on its way.
    return isinstance(error, OSError) and (
        str(error.__context__) in {"unexpected end of data", "empty file"} or isinstance(explained("", error), MayPass)
    )


@contextlib.contextmanager
def _network_timeout() -> Iterator[None]:
    """TensorFlow Hub opens its connections without a limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _unpacked(archive: str, name: str) -> Iterator[str]:
    """The folder of the SavedModel in an archive, while the block runs."""
    with contextlib.ExitStack() as stack:
        with explaining(f"{name} can't be unpacked"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="flow-images-hub-"))
            with tarfile.open(archive) as members:
                members.extractall(folder, filter="data")  # no absolute paths, no links out of the folder
        found = sorted(Path(folder).rglob(MODEL_FILE))
        if not found:
            raise UsageError(f"{name}: there is no {MODEL_FILE} in the archive")
        yield str(found[0].parent)
