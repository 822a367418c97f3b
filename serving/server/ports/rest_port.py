"""The REST port: Starlette's request and response around `rest_api`, on a uvicorn server in a thread of its own."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import anyio.to_thread
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.server.models import textprotos
from serving.server.ports import monitoring
from serving.server.ports.listen_addresses import family
from serving.server.ports.rest_api import Answer, RestApi
from serving.server.rpc.core import ServerCore
from serving.server.rpc.status_error import Code, StatusError
from serving.server.run.server_options import ANY_PORT, ServerOptions

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)
_MAX_BODY = 2**31 - 1
"""The largest body, which is as large as a gRPC message may be."""


class RestServer:
    """The REST server of a ServerCore. The port is bound by the constructor and served from `start` on."""

    def __init__(self, core: ServerCore) -> None:
        """Binds the port.

        Raises:
          StatusError: it can't be bound, or the monitoring file does not parse.
        """
        self._options = core.options
        self._core = core
        self._api = RestApi(core)
        self._metrics_path = _metrics_path(core.options)
        self._socket = _bind(core.options)
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            log_config=None,
            access_log=False,
            lifespan="off",
            log_level="warning",
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="rest", daemon=True)
        self._limiter: anyio.CapacityLimiter | None = None

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)

    def stop(self, grace_s: float) -> None:
        """Takes no new requests and gives those in flight `grace_s` seconds."""
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        self._thread.join(grace_s + 5)
        self._socket.close()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
        path = raw.partition(b"?")[0].decode("ascii", "replace")
        query = request.scope["query_string"].decode("ascii", "replace")
        target = f"{path}?{query}" if query else path
        if self._metrics_path and path == self._metrics_path:
            return self._metrics(target)
        body = await _body(request, math.inf if self._options.strict else _MAX_BODY)
        if body is None:
            return Response(status_code=413)
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._options.rest_api_num_threads or 4 * (os.cpu_count() or 1))
        answer: Answer = await anyio.to_thread.run_sync(
            self._api.answer,
            request.method,
            target,
            body,
            request.headers.get("content-encoding", ""),
            limiter=self._limiter if request.method == "POST" else None,  # status doesn't wait behind models
        )
        headers = {"Content-Type": answer.content_type, **answer.headers}
        return Response(answer.body.encode("utf-8", "surrogateescape"), status_code=answer.status, headers=headers)

    def _metrics(self, target: str) -> Response:
        headers = {"Content-Type": monitoring.CONTENT_TYPE}
        if target != self._metrics_path:
            return Response(f"Unexpected path: {target}. Should be {self._metrics_path}", 400, headers)
        return Response(self._core.metrics.page(), headers=headers)


async def _body(request: Request, limit: float) -> bytes | None:
    """The whole body; None if it has more bytes than `limit`."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        return None
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            return None
    return b"".join(chunks)


def _metrics_path(options: ServerOptions) -> str:
    """Where the Prometheus page is; empty without one."""
    if not options.monitoring_config_file:
        return ""
    config = textprotos.read(options.monitoring_config_file, textprotos.MonitoringConfig())
    if not config.prometheus_config.enable:
        return ""
    return config.prometheus_config.path or monitoring.DEFAULT_PATH


def _bind(options: ServerOptions) -> socket.socket:
    host = options.host.strip("[]")
    port = 0 if options.rest_api_port == ANY_PORT else options.rest_api_port
    try:
        if host == "0.0.0.0" and socket.has_dualstack_ipv6():  # the binary's REST port takes IPv6, too
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
        return socket.create_server((host, port), family=family(host), backlog=1024)
    except OSError as error:
        raise StatusError(Code.UNAVAILABLE, f"Can't listen on {host}:{port} for REST: {error}") from error
