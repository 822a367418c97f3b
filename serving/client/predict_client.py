"""`serving.client.model_calls` for threads: each call blocks until it has its answer."""

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Self, TypeVar

from serving.client.channels import BlockingChannel, Route
from serving.client.client_options import Endpoint
from serving.client.model_calls import Array, ModelCalls, ModelMetadata, VersionStatus
from serving.contract import STANDARD_SIGNATURES, ModelContract
from serving.network.protos.tensor_codec import Value
from serving.network.retry import RetryPolicy, transient
from serving.network.sans_io import Operation, drive

T = TypeVar("T")


class PredictClient:
    """Asks one model on one server (or on all addresses behind its name), with deadlines and retries.

    Safe to use from several threads. A context manager; `close` ends its channel.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        retry: RetryPolicy | None = None,
        stop: threading.Event | None = None,
        retried: Callable[[BaseException], bool] = transient,
        turn: Callable[[], object] | None = None,
    ) -> None:
        """Opens no connection yet.

        Args:
          endpoint: server, model and the version to pin.
          retry: patience, deadline and budget.
          stop: when set, ends waits between retries.
          retried: says which errors of a call are retried, such as `serving.network.retry.transient_in_time`.
          turn: called before each try of a request for predictions; may wait, as a limit of requests does.
        """
        self.endpoint = endpoint
        policy, route = retry or RetryPolicy(), Route(endpoint)
        self._channel = BlockingChannel(route, policy.deadline_s, stop)
        self.calls = ModelCalls(
            endpoint, policy, self._channel.is_connected, route.proxy, stop=stop, retried=retried, turn=turn
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the channel; calls in flight fail."""
        self._channel.close()

    @property
    def retries(self) -> int:
        """Retries made so far."""
        return self.calls.retries

    def run(self, operation: Operation[T]) -> T:
        """The value of an operation on this client's `calls`."""
        return drive(operation, self._channel.perform)

    def predict(
        self,
        inputs: Mapping[str, Value],
        *,
        signature: str = STANDARD_SIGNATURES["float32"].name,
        outputs: Sequence[str] = (),
    ) -> dict[str, Array]:
        """See `ModelCalls.predict`."""
        return self.run(self.calls.predict(inputs, signature=signature, outputs=outputs))

    def metadata(self) -> ModelMetadata:
        """See `ModelCalls.metadata`."""
        return self.run(self.calls.metadata())

    def versions(self) -> list[VersionStatus]:
        """See `ModelCalls.versions`."""
        return self.run(self.calls.versions())

    def available_version(self) -> int:
        """See `ModelCalls.available_version`."""
        return self.run(self.calls.available_version())

    def lookup(self, key: str) -> bytes:
        """See `ModelCalls.lookup`."""
        return self.run(self.calls.lookup(key))

    def contract(self) -> ModelContract | None:
        """See `ModelCalls.contract`."""
        return self.run(self.calls.contract())


def pinned(endpoint: Endpoint, retry: RetryPolicy) -> Endpoint:
    """The endpoint with its version, or the highest that is available, which is waited for while it is loaded.

    Raises:
      ServingError: see `PredictClient.available_version`.
    """
    with PredictClient(endpoint, retry=retry) as client:
        return dataclasses.replace(endpoint, version=client.available_version())
