"""A gRPC server that passes every call on to a real one, unless it is told to misbehave.

It knows no messages: bytes in, bytes out, so what is refused, delayed or held back is the real protocol.
"""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc

Fault = tuple[grpc.StatusCode, str]
Spoil = Callable[[bytes], bytes]
BEFORE_IMAGES = 18
"""Predict calls for the contract, 16 golden images and their scores."""


class Front(grpc.GenericRpcHandler):
    """A front to a server. A context manager; its attributes may be changed while it runs."""

    def __init__(self, upstream: str, *, credentials: grpc.ServerCredentials | None = None) -> None:
        self.spared = 0
        """Predict calls that nothing happens to, at first; BEFORE_IMAGES of them come before any image."""
        self.refused_share = 0.0
        """Of the other Predict calls."""
        self.refusals: tuple[Fault, ...] = (
            (grpc.StatusCode.UNAVAILABLE, "going away"),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "ResourceExhausted: thread pool is full"),
            (grpc.StatusCode.DEADLINE_EXCEEDED, "too late"),
        )
        self.spoil: Spoil | None = None
        """Changes the answers of a share of the Predict calls on their way."""
        self.spoilt_share = 0.0
        self.delay_s = 0.0
        self.stall_share = 0.0
        """Of the Predict calls, which then take 2 s more."""
        self.open = threading.Event()
        """Cleared, every call hangs."""
        self.open.set()
        self.hanging = threading.Event()
        """Set by the first call that hangs."""
        self.abandoned = threading.Event()
        """Set when a client gives up a call that hangs."""
        self.token: str | None = None
        """Bearer token that each call must bring."""
        self.asked = 0
        """Predict calls so far."""
        self._counting = threading.Lock()
        self._held_from: int | None = None
        self._random = random.Random(5)
        self._upstream = grpc.insecure_channel(upstream, [("grpc.max_receive_message_length", -1)])
        self._server = grpc.server(
            ThreadPoolExecutor(16), handlers=[self], options=[("grpc.max_receive_message_length", -1)]
        )
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self._server.stop(None).wait()
        self._upstream.close()

    def hold_after(self, requests: int) -> None:
        """Clears `open` once so many requests for images were let through, in all: a middle of the run that stays.

        Of the 14 that `start` makes; after 7, some chunk has its part.
        """
        self._held_from = BEFORE_IMAGES + requests + 1

    @property
    def held(self) -> bool:
        """Do calls hang?"""
        return not self.open.is_set()

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        """The handler of any call."""
        method = handler_call_details.method
        metadata = dict(handler_call_details.invocation_metadata)

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self.token is not None and metadata.get("authorization") != f"Bearer {self.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is missing or wrong")
            if method.endswith("/Predict"):
                self._misbehave(context)
            while not self.open.wait(0.2):
                self.hanging.set()
                if not context.is_active():
                    self.abandoned.set()
                    return b""
            try:
                reply: bytes = self._upstream.unary_unary(method)(request, timeout=60)
                spoilt = method.endswith("/Predict") and self.asked > self.spared
                return (
                    self.spoil(reply) if self.spoil and spoilt and self._random.random() < self.spoilt_share else reply
                )
            except grpc.RpcError as error:
                context.abort(error.code(), error.details() or "")
                raise

        return grpc.unary_unary_rpc_method_handler(answer)

    def _misbehave(self, context: grpc.ServicerContext) -> None:
        with self._counting:
            self.asked += 1
            if self.asked == self._held_from:
                self.open.clear()
        if self.asked > self.spared and self._random.random() < self.refused_share:
            context.abort(*self._random.choice(self.refusals))
        time.sleep(self.delay_s + (2.0 if self._random.random() < self.stall_share else 0.0))
