"""The server in this process."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from serving.process.tensorflow_import import check_not_forked
from serving.server.models.base_path import absolute, check_base_path
from serving.server.models.servable import Servable
from serving.server.ports.grpc_port import GrpcServer
from serving.server.ports.listen_addresses import reachable
from serving.server.rpc.core import ServerCore
from serving.server.run.server_options import ANY_PORT, ServerOptions

if TYPE_CHECKING:
    from serving.server.ports.rest_port import RestServer

log = logging.getLogger(__name__)


class EmbeddedServer:
    """TensorFlow Serving's API over the models of a folder, in this process.

        with EmbeddedServer("/models/dogs", model_name="dogs") as server:
            stub = PredictionServiceStub(grpc.insecure_channel(server.address))

    Versions are watched as TensorFlow Serving watches them. Entering the block loads the model and opens the port.
    """

    def __init__(
        self,
        model_base_path: str | os.PathLike[str] | None = None,
        *,
        model_name: str = "default",
        port: int = 0,
        host: str = "127.0.0.1",
        options: ServerOptions | None = None,
        **flags: Any,
    ) -> None:
        """Describes the server; `start`, or entering the block, starts it.

        Args:
          model_base_path: the folder that holds the version folders (`models/dogs`, not `models/dogs/1`).
          model_name: what clients call it.
          port: TCP port for gRPC; 0 takes any free one.
          host: the address that the ports bind to.
          options: all flags at once, instead of the four above.
          **flags: further fields of ServerOptions, such as `enable_batching=True`.

        Raises:
          StatusError: the options contradict each other, or a config file does not parse.
          UsageError: this process was forked from one in which TensorFlow had run.
        """
        check_not_forked()
        if options is None:
            options = ServerOptions(
                model_base_path=absolute(model_base_path) if model_base_path else "",
                model_name=model_name,
                port=port or (0 if flags.get("grpc_socket_path") else ANY_PORT),
                host=host,
                **flags,
            )
        elif flags or model_base_path is not None:
            raise TypeError("give either options or the fields of ServerOptions, not both")
        self.options = options
        self._core = ServerCore(options)
        self._grpc: GrpcServer | None = None
        self._rest: RestServer | None = None
        self._stopped = threading.Event()

    def start(self, *, fail_fast: bool = True) -> EmbeddedServer:
        """Loads the models, then opens the ports.

        Args:
          fail_fast: a missing folder, or the first failed load, is an error at once. TensorFlow Serving instead waits
            for a folder to appear and tries a load again for minutes.

        Raises:
          StatusError: nothing could be loaded, or a port can't be bound.
        """
        try:
            if fail_fast and not self.options.model_config_file:
                check_base_path(self.options.model_base_path)
            self._core.start(at_first_failure=fail_fast, give_up=self._stopped.is_set)
            if not self._stopped.is_set():
                self._open_ports()
        except BaseException:
            self.stop(grace_s=0)
            raise
        return self

    def _open_ports(self) -> None:
        options = self.options
        self._grpc = GrpcServer(self._core)
        if options.rest_api_port and options.rest_api_port == options.port != ANY_PORT:
            log.error("--rest_api_port cannot be same as --port. Skipped exporting HTTP/REST API.")
        elif options.rest_api_port:
            from serving.server.ports.rest_port import RestServer

            self._rest = RestServer(self._core)
            self._rest.start()
        self._grpc.start()
        if options.model_config_file and options.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._core.poll_config_file, args=(self._stopped,), daemon=True).start()

    @property
    def address(self) -> str:
        """Where gRPC clients connect: `127.0.0.1:PORT`, or `unix:PATH` for a socket alone."""
        if self._grpc is None:
            raise RuntimeError("the server is not running: use it in a with block, or call start()")
        return self._grpc.address

    @property
    def listening(self) -> bool:
        """Whether the ports are open, and requests may be in flight."""
        return self._grpc is not None

    @property
    def rest_address(self) -> str:
        """Where REST clients connect, `127.0.0.1:PORT`; empty if REST is off."""
        return f"{reachable(self.options.host)}:{self._rest.port}" if self._rest else ""

    def models(self) -> list[Servable]:
        """What is loaded: `name`, `version`, `path`, `signatures` of each."""
        return self._core.manager.available()

    def stop(self, grace_s: float | None = None) -> bool:
        """Turns NOT_SERVING, takes no new requests, gives those in flight `grace_s` seconds, and unloads.

        Args:
          grace_s: default `options.shutdown_grace_s`.

        Returns:
          False if a request still runs, whose client has been told CANCELLED.
        """
        self._stopped.set()
        grace_s = self.options.shutdown_grace_s if grace_s is None else grace_s
        over = self._grpc.stop(grace_s) if self._grpc is not None else None
        if self._rest is not None:
            self._rest.stop(grace_s)
        if self._grpc is not None and over is not None:
            over.wait()
            self._grpc.close()
        self._grpc = self._rest = None
        return self._core.stop()

    def remove_socket(self) -> None:
        """Removes the Unix socket, if this server opened one; `stop` does so itself when it is over."""
        if self._grpc is not None and self.options.grpc_socket_path:
            with contextlib.suppress(OSError):
                os.unlink(self.options.grpc_socket_path)

    def request_stop(self) -> None:
        """Ends `wait`, or a `start` that waits for a model, from any thread. `stop` does the rest."""
        self._stopped.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until `stop` or `request_stop` is called elsewhere; False if `timeout_s` came first."""
        return self._stopped.wait(timeout_s)

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(grace_s=1.0 if error is not None else None)
