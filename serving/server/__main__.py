"""`python -m serving.server`: a drop-in for `tensorflow_model_server`, with its flags and exit codes."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from typing_extensions import override

from serving.console.streams import open_streams
from serving.console.terminal import printable, say
from serving.server.run.server_options import FlagError, ServerOptions, parse_flags, usage

if TYPE_CHECKING:
    from serving.server.run.embedded import EmbeddedServer

log = logging.getLogger("serving.server")

_FAILED = 255
_LEAVE_AFTER_S = 10.0
"""What a stop may take beyond the grace; then the process ends whatever it waits for."""


class _PrintableFormatter(logging.Formatter):
    """Names of models and of clients' inputs are shown without control codes."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT, which end the process with 143 or 130 once it is drained.

    Returns:
      0 after --version, 255 for flags that don't parse or a start that fails.
    """
    program = "python -m serving.server"
    open_streams()
    try:
        options, unknown = parse_flags(argv)
    except FlagError as error:
        say(error, err=True)
        print(usage(program))
        return _FAILED
    if options.version:
        from importlib.metadata import version

        print(f"Flow Images embedded server: {version('flow-images')}\nTensorFlow Library: {version('tensorflow')}")
        return 0
    if "--help" in argv[:1] or not (options.model_base_path or options.model_config_file):
        print(usage(program))
        return _FAILED
    if unknown:
        say(f"unknown argument: {unknown[0]}\n{usage(program)}")

    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if options.parent_pipe_fd >= 0:
        from serving.server.run.process import follow_parent

        follow_parent(options.parent_pipe_fd, options.grpc_socket_path)
    from serving.errors import DiskFull, UsageError
    from serving.server.rpc.status_error import StatusError

    try:
        run(options)
    except (StatusError, UsageError, DiskFull) as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return _FAILED


def _log_ready(server: EmbeddedServer) -> None:
    log.info("Running gRPC ModelServer at %s ...", server.address)
    if server.rest_address:
        log.info("Exporting HTTP/REST API at:%s ...", server.rest_address)


def run(
    options: ServerOptions, *, fail_fast: bool = False, ready: Callable[[EmbeddedServer], None] = _log_ready
) -> NoReturn:
    """Runs the server in the main thread until SIGTERM or SIGINT, drains it, and ends the process with 143 or 130.

    A signal before the server is ready ends it, too; a second one ends it at once.

    Args:
      options: all flags.
      fail_fast: see `EmbeddedServer.start`.
      ready: called once the ports are open.

    Raises:
      StatusError: the start failed.
    """
    from serving.process.signals import handling_signals

    received: list[int] = []
    servers: list[EmbeddedServer] = []

    def end(number: int) -> None:
        if received or not servers:
            _leave(servers, number)
        received.append(number)
        log.warning("stopping; press Ctrl-C again to stop at once")
        server = servers[0]
        limit = threading.Timer(
            _LEAVE_AFTER_S + (options.shutdown_grace_s if server.listening else 0), _leave, (servers, number)
        )
        limit.daemon = True
        limit.start()
        server.request_stop()

    with handling_signals(end):
        try:
            _serve(options, servers, fail_fast, ready)
        except Exception:
            if not received:  # what a stop breaks off may fail in any way
                raise
        _leave(servers, received[0])


def _serve(
    options: ServerOptions,
    servers: list[EmbeddedServer],
    fail_fast: bool,
    ready: Callable[[EmbeddedServer], None],
) -> None:
    """Serves until the server, which is put into `servers`, is asked to stop."""
    from serving.process.tensorflow_import import import_tensorflow

    import_tensorflow(keras=False)
    from serving.server.run.embedded import EmbeddedServer

    gc.freeze()  # what is imported stays: no collection need look at it again
    server = EmbeddedServer(options=options)
    servers.append(server)
    server.start(fail_fast=fail_fast)
    gc.freeze()  # nor at what is loaded
    if not server.wait(0):
        ready(server)
    server.wait()
    if not server.stop():
        log.warning("Some requests did not finish in %g s", options.shutdown_grace_s)


def _leave(servers: Sequence[EmbeddedServer], number: int) -> NoReturn:
    """Ends the process as interrupted. Threads that are deep in TensorFlow would crash a plain exit, or hold it up."""
    for server in servers:
        server.remove_socket()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # before the signals are handled
        sys.exit(130)
