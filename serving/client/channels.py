"""gRPC channels to a server of models: one for threads, one for an event loop.

Both send bytes and give bytes, as gRPC would log a traceback where it can't parse an answer.
"""

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

from serving.client.client_options import Endpoint, bearer_token
from serving.errors import ClientClosed, UsageError
from serving.network.proxy import Proxy, goes_direct, proxy_for
from serving.network.sans_io import Call, Join, Pause, Step
from serving.process.forks import check_not_forked, threads_start

MAX_MESSAGE_BYTES = 2**31 - 1
"""protobuf's limit, and the server's receive limit."""

_WAITING_THREADS = 64
"""Files that a client on an event loop reads at once. A thread that waits costs little, and is made when needed."""

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.enable_retries", 0),  # retrying is ours, once
    # A server that is restarted is found again within seconds, not gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A connection cut without a word is noticed; a server allows two pings without data.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class Route:
    """The way to a server: target, options, credentials and what is sent with each call."""

    def __init__(self, endpoint: Endpoint, token: str | None = None) -> None:
        """Opens nothing.

        Args:
          endpoint: the server.
          token: bearer token; None for that of the environment.

        Raises:
          UsageError: a file of the TLS options can't be read, or a token is given without TLS.
        """
        self.target = endpoint.target
        self.address = endpoint.address
        self.proxy: Proxy | None = None if goes_direct(self.target) else proxy_for(self.target)
        self.options: list[tuple[str, Any]] = list(_OPTIONS)
        if self.proxy is None:
            self.options.append(("grpc.enable_http_proxy", 0))
        self.credentials: grpc.ChannelCredentials | None = None
        if endpoint.tls is not None:
            self.credentials = endpoint.tls.credentials()
            if endpoint.tls.server_name:
                self.options.append(("grpc.ssl_target_name_override", endpoint.tls.server_name))
        bearer = bearer_token(endpoint, token)
        self.metadata = (("authorization", f"Bearer {bearer}"),) if bearer else ()

    def closed(self) -> ClientClosed:
        """The error of a call after the channel's end, or in flight at it."""
        return ClientClosed("the client is closed", self.address)


class BlockingChannel:
    """Performs the steps of operations in the caller's thread. Safe to use from several threads."""

    def __init__(self, route: Route, deadline_s: float, stop: threading.Event | None = None) -> None:
        """Opens no connection yet.

        Args:
          route: the way to the server.
          deadline_s: seconds that a call may take.
          stop: when set, ends pauses.

        Raises:
          UsageError: see `serving.process.forks`.
        """
        check_not_forked()
        self._route = route
        self._deadline_s = deadline_s
        self._stop = stop or threading.Event()
        self._closed = False
        if route.credentials is None:
            self._channel = grpc.insecure_channel(route.target, route.options)
        else:
            self._channel = grpc.secure_channel(route.target, route.credentials, route.options)
        self._methods: dict[str, Callable[..., bytes]] = {}

    def perform(self, step: Step) -> Any:
        """Does a step.

        Raises:
          grpc.RpcError: the call failed.
          ClientClosed: the channel was closed.
        """
        if isinstance(step, Call):
            return self._call(step)
        if isinstance(step, Pause):
            return self._stop.wait(step.seconds)
        if isinstance(step, Join):
            return step.future.result()
        return step.function()

    def _call(self, call: Call) -> bytes:
        check_not_forked()
        method = self._methods.get(call.method)
        if method is None:
            method = self._methods[call.method] = self._channel.unary_unary(_path(call.method))
        try:
            return method(call.request, timeout=self._deadline_s, metadata=self._route.metadata)
        except (grpc.RpcError, ValueError) as error:
            if self._closed:
                raise self._route.closed() from error
            raise

    def is_connected(self) -> bool:
        """False where there is no connection; True also where that is unknown."""
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        with contextlib.suppress(ValueError, queue.Empty):  # of a channel that was closed meanwhile
            self._channel.subscribe(states.put)
            try:
                return states.get(timeout=1) is grpc.ChannelConnectivity.READY
            finally:
                self._channel.unsubscribe(states.put)
        return True

    def close(self) -> None:
        """Ends the channel; calls in flight fail."""
        self._closed = True
        self._channel.close()


class AsyncChannel:
    """Performs the steps of operations on the event loop of its first call.

    Blocking work runs in threads of its own: asyncio's are few, and the program looks up names with them. What waits
    for a disk or a network has others than what doesn't, so bytes at hand never wait for somebody's slow web server.
    """

    def __init__(self, route: Route, deadline_s: float) -> None:
        """Opens nothing yet, so no event loop need run.

        Args:
          route: the way to the server.
          deadline_s: seconds that a call may take.
        """
        self._route = route
        self._deadline_s = deadline_s
        self._closed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._choosing_loop = threading.Lock()
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, Callable[..., Any]] = {}
        self._workers = ThreadPoolExecutor((os.cpu_count() or 1) + 4, "flow-images-work")
        self._readers = ThreadPoolExecutor(_WAITING_THREADS, "flow-images-read")

    async def perform(self, step: Step) -> Any:
        """Does a step; blocking work in a thread.

        Raises:
          grpc.RpcError: the call failed.
          ClientClosed: the channel was closed.
          UsageError: this is not the event loop of the first call; or see `serving.process.forks`.
        """
        check_not_forked()
        self._check_loop()
        if self._closed.is_set():
            raise self._route.closed()
        if isinstance(step, Call):
            return await self._call(step)
        if isinstance(step, Pause):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), step.seconds)
            return None
        if isinstance(step, Join):
            return await asyncio.wrap_future(step.future)
        threads = self._readers if step.waits else self._workers
        in_context = contextvars.copy_context().run  # as asyncio's own threads have it
        return await asyncio.get_running_loop().run_in_executor(threads, in_context, step.function)

    async def _call(self, call: Call) -> bytes:
        method = self._method(call.method)
        try:
            answer: bytes = await method(call.request, timeout=self._deadline_s, metadata=self._route.metadata)
        except (asyncio.CancelledError, grpc.RpcError, grpc.aio.UsageError) as error:
            # A channel that is closed cancels its calls, which looks as if their tasks were.
            if self._closed.is_set() and not _is_cancelled():
                raise self._route.closed() from error
            raise
        return answer

    def _check_loop(self) -> None:
        """Before anything that belongs to a loop is touched: from another one, it would be waited for without end."""
        loop = asyncio.get_running_loop()
        with self._choosing_loop:  # two threads may make the first call at once, each with a loop of its own
            if self._loop is None:
                self._loop = loop
        if loop is not self._loop:
            raise UsageError("this AsyncClient was used on another event loop before: make one for each loop")

    def _method(self, name: str) -> Callable[..., Any]:
        if self._channel is None:
            threads_start()  # gRPC's own, which outlive the channel
            if self._route.credentials is None:
                self._channel = grpc.aio.insecure_channel(self._route.target, self._route.options)
            else:
                self._channel = grpc.aio.secure_channel(
                    self._route.target, self._route.credentials, self._route.options
                )
        if name not in self._methods:
            self._methods[name] = self._channel.unary_unary(_path(name))
        return self._methods[name]

    def is_connected(self) -> bool:
        """False where there is no connection; True also where that is unknown. Any thread may ask."""
        try:
            return self._channel is None or self._channel.get_state() is grpc.ChannelConnectivity.READY
        except grpc.aio.UsageError:  # it was closed meanwhile
            return True

    async def close(self) -> None:
        """Ends the channel; calls in flight fail. Any loop may ask."""
        loop = self._loop
        if loop is not None and loop.is_running() and loop is not asyncio.get_running_loop():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._close(), loop))
        else:
            await self._close()

    async def _close(self) -> None:
        self._closed.set()
        self._workers.shutdown(wait=False)
        self._readers.shutdown(wait=False)
        if self._channel is not None:
            await self._channel.close()


def _path(method: str) -> str:
    return f"/tensorflow.serving.{method}"


def _is_cancelled() -> bool:
    """Was the task that runs now asked to end?"""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
