"""`python -m serving.server`: a drop-in for `tensorflow_model_server`, with its flags and exit codes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from serving.server.options import FlagError, ServerOptions, parse_flags, usage

if TYPE_CHECKING:
    from serving.server.embedded import EmbeddedServer

log = logging.getLogger("serving.server")

_FAILED = 255


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or SIGINT.

    Returns:
      0 after a drained shutdown, 255 for flags that don't parse or a start that fails.
    """
    program = "python -m serving.server"
    try:
        options, unknown = parse_flags(argv)
    except FlagError as error:
        print(error, file=sys.stderr)
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
        print(f"unknown argument: {unknown[0]}\n{usage(program)}", flush=True)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    if options.parent_pipe_fd >= 0:
        from serving.server.process import follow_parent

        follow_parent(options.parent_pipe_fd, options.grpc_socket_path)
    from serving.server.status import ServingError

    try:
        run(options)
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", flush=True)
        return _FAILED
    return 0


def _log_ready(server: EmbeddedServer) -> None:
    log.info("Running gRPC ModelServer at %s ...", server.address)
    if server.rest_address:
        log.info("Exporting HTTP/REST API at:%s ...", server.rest_address)


def run(
    options: ServerOptions, *, fail_fast: bool = False, ready: Callable[[EmbeddedServer], None] = _log_ready
) -> None:
    """Runs the server in the main thread until SIGTERM or SIGINT, then drains it.

    Args:
      options: all flags.
      fail_fast: see `EmbeddedServer.start`.
      ready: called once the ports are open.

    Raises:
      ServingError: the start failed.
    """
    from serving.server.embedded import EmbeddedServer
    from serving.signals import hearing

    server = EmbeddedServer(options=options)

    def end(number: int) -> None:
        if server.wait(0):  # a second one does not wait for the drain
            os._exit(128 + number)
        server.request_stop()

    with hearing(end):
        server.start(fail_fast=fail_fast)
        if not server.wait(0):
            ready(server)
        server.wait()
        if not server.stop():
            log.warning("Some requests did not finish in %g s", options.shutdown_grace_s)
            sys.stdout.flush()
            os._exit(0)  # a plain exit would wait for their threads


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
