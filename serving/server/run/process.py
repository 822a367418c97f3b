"""The server as a child process on a Unix socket, for a job that brings its own server. Imports nothing heavy."""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from serving.model_store.versions import versions_on_disk, whole
from serving.process.child_process import python_command, python_environment
from serving.process.temporary_files import check_temporary_files
from serving.server.models.base_path import absolute, check_base_path
from serving.server.rpc.status_error import Code, StatusError

_LOG = logging.getLogger(__name__)
_MAX_SOCKET_PATH = 100  # the system's limit is 104 or 108 bytes
_SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")
"""Where the socket goes if the path of the usual place is too long for one."""
_SAY_EVERY_S = 30.0
"""A start takes seconds. A user is told of one that takes longer, again and again."""
_KILL_AFTER_S = 10.0
_TAIL_LINES = 15


class ServerProcess:
    """`python -m serving.server` as a child that can't outlive this process.

        with ServerProcess("/models/dogs", model_name="dogs") as server:
            channel = grpc.insecure_channel(server.address)

    It listens on a Unix socket in a private folder, does not get the terminal's Ctrl-C, is asked to drain on exit, and
    ends by itself when this process dies, be it by SIGKILL.
    """

    def __init__(
        self,
        model_base_path: str | os.PathLike[str],
        *,
        model_name: str,
        version: int | None = None,
        socket_dir: str | os.PathLike[str] | None = None,
        extra_flags: Sequence[str] = (),
        start_timeout_s: float = 300.0,
    ) -> None:
        """Describes the server; entering the block starts it.

        Args:
          model_base_path: the folder that holds the version folders.
          model_name: what clients call it.
          version: the one to serve, whatever else lies or appears there; None for the latest, which may change.
          socket_dir: where the socket's private folder is made; default the system's place for temporary files.
          extra_flags: more flags of the server, in its own spelling (`--enable_batching`).
          start_timeout_s: how long loading may take.
        """
        self._base_path = absolute(model_base_path)
        self._model_name = model_name
        self._version = version
        self._socket_dir = os.fspath(socket_dir) if socket_dir is not None else None
        self._extra_flags = list(extra_flags)
        self._start_timeout_s = start_timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._pipe: int | None = None
        self._is_killed = False

    @property
    def address(self) -> str:
        """Where gRPC clients connect: `unix:PATH`."""
        return f"unix:{self._socket}"

    @property
    def is_running(self) -> bool:
        """Is there a child, ready or not?"""
        return self._child is not None

    @property
    def pid(self) -> int:
        """The child's process id."""
        if self._child is None:
            raise RuntimeError("the server is not running: use it in a with block")
        return self._child.pid

    def start(self) -> ServerProcess:
        """Starts the child and waits until it serves.

        Raises:
          UsageError, DiskFull: there is no place for temporary files.
          StatusError: the folder holds no model, or not the version; there is no place for the socket; the child died
            (its last lines are in the message); or it took longer than `start_timeout_s`.
        """
        check_base_path(self._base_path)
        check_temporary_files()  # which the child would fail for
        self._folder = _private_folder(self._socket_dir)
        try:
            self._launch()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, grace_s: float = 30.0) -> None:
        """Asks the child to drain, waits for it, and removes the socket's folder."""
        child, self._child = self._child, None
        if child is not None:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(grace_s + _KILL_AFTER_S)
                except subprocess.TimeoutExpired:
                    child.kill()
            child.wait()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """Ends the child at once, from any thread; a `start` that waits for it fails, and so does a later one."""
        self._is_killed = True
        child = self._child
        if child is not None:
            child.kill()

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _socket(self) -> Path:
        if self._folder is None:
            raise RuntimeError("the server is not running: use it in a with block")
        return self._folder / "x.sock"

    @property
    def _log(self) -> Path:
        assert self._folder is not None
        return self._folder / "log"

    def _launch(self) -> None:
        base_path = self._base_path if self._version is None else self._alone(self._version)
        read_end, self._pipe = os.pipe()
        command = python_command(
            *("serving.server", "--port=0", f"--grpc_socket_path={self._socket}"),
            *(f"--model_name={self._model_name}", f"--model_base_path={base_path}"),
            *("--max_num_load_retries=0", *self._extra_flags, f"--parent_pipe_fd={read_end}"),
        )
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=python_environment(),
                pass_fds=(read_end,),
                start_new_session=True,
            )
        os.close(read_end)
        if self._is_killed:  # before there was a child
            self._child.kill()

    def _alone(self, version: int) -> str:
        """A base path that holds one version and never another."""
        assert self._folder is not None
        folder = whole(versions_on_disk(self._base_path)).get(version)
        if folder is None:
            raise StatusError(Code.NOT_FOUND, f"no version {version} in {self._base_path}")
        alone = self._folder / "model"
        alone.mkdir()
        (alone / str(version)).symlink_to(folder.path)
        return str(alone)

    def _wait_until_ready(self) -> None:
        assert self._child is not None
        started = time.monotonic()
        say_at = started + _SAY_EVERY_S
        while not _accepts(self._socket):
            if self._child.poll() is not None:
                raise StatusError(
                    Code.UNAVAILABLE,
                    f"the server for {self._base_path} ended with status {self._child.returncode}:\n{self._tail()}",
                )
            now = time.monotonic()
            if now - started > self._start_timeout_s:
                raise StatusError(
                    Code.DEADLINE_EXCEEDED,
                    f"the server for {self._base_path} was not ready in {self._start_timeout_s:g} s:\n{self._tail()}",
                )
            if now > say_at:
                # By the model's name: its folder may be one of ours, such as that of a version to be published.
                _LOG.warning(
                    "the server of model %s has not started after %d s; waiting up to %d s",
                    *(self._model_name, now - started, self._start_timeout_s),
                )
                say_at = now + _SAY_EVERY_S
            time.sleep(0.05)

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


def _private_folder(parent: str | None) -> Path:
    """A new folder that only this user may enter, with a path that is short enough for a socket in it."""
    usual = parent or _place_for_temporary_files()
    places = (usual,) if parent else (usual, os.environ.get("XDG_RUNTIME_DIR", ""), *_SHORT_PLACES)
    errors = []
    for place in filter(None, places):
        if len(os.fsencode(os.path.join(place, "flow-images-12345678", "x.sock"))) > _MAX_SOCKET_PATH:
            errors.append(f"{place}: too long a path for a Unix socket")
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="flow-images-", dir=place))
        except OSError as error:
            errors.append(f"{place}: {error.strerror}")
    raise StatusError(
        Code.FAILED_PRECONDITION,
        f"there is no place for the server's socket ({'; '.join(errors)}): let TMPDIR name a folder that can be "
        "written to",
    )


def _place_for_temporary_files() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # which lists places that the next ones to be tried are among
        return os.environ.get("TMPDIR", "")


def _accepts(path: Path) -> bool:
    """Whether somebody listens: the server opens its socket only when it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def follow_parent(pipe_fd: int, socket_path: str) -> None:
    """Ends this process when its parent ends: the pipe's other end closes, or the parent's id changes.

    The system's own death signal is not used, since it fires when the *thread* that started the child ends. The id is
    looked at besides, since a fork of the parent may keep the pipe open.
    """
    parent = os.getppid()

    def follow() -> None:
        while True:
            closed, _, _ = select.select([pipe_fd], [], [], 1.0)
            if closed or os.getppid() != parent:
                break
        with suppress(OSError):
            shutil.rmtree(Path(socket_path).parent)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, name="follow-parent", daemon=True).start()
