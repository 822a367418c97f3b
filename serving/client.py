"""A client of TensorFlow Serving's gRPC API that needs no TensorFlow.

Protocol: `tensorflow_serving/apis/prediction_service.proto` and `model_service.proto`.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, starmap
from typing import Any, NamedTuple, Self, TypeVar

import grpc
import numpy as np
from google.protobuf import message

from serving import contract as contract_
from serving.contract import ModelContract
from serving.errors import (
    AccessDenied,
    DeadlineExceeded,
    MalformedAnswer,
    ModelNotFound,
    RequestTooLarge,
    ServerUnavailable,
    ServingError,
    WrongAddress,
    translated,
)
from serving.network.proxy import goes_direct, proxy_for
from serving.network.tls_probe import speaks_tls
from serving.options import Endpoint, RetryPolicy, bearer_token
from serving.protos import prediction_pb2 as pb
from serving.protos import tensor_codec
from serving.retry import Retrier, retry_rejected, transient
from serving.waiting import Waiting

Array = np.ndarray[Any, np.dtype[Any]]
Reply = TypeVar("Reply")

MAX_MESSAGE_BYTES = 2**31 - 1
"""protobuf's limit, and the server's receive limit."""
AVAILABLE = 30
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", AVAILABLE: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_COMING = {"START", "LOADING"}

_CHANNEL_OPTIONS = [
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


class TensorSpec(NamedTuple):
    """A tensor of a signature: dtype as TensorFlow names it; -1 for an unknown size, None for an unknown rank."""

    dtype: str
    shape: tuple[int, ...] | None


class Signature(NamedTuple):
    """Named tensors that a signature takes and gives."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]


class ModelMetadata(NamedTuple):
    """The version that answered and its signatures."""

    version: int
    signatures: dict[str, Signature]


class VersionStatus(NamedTuple):
    """A version that the server knows: state by name (`AVAILABLE`, …) and its error, empty if none."""

    version: int
    state: str
    error: str


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
    ) -> None:
        """Opens no connection yet.

        Args:
          endpoint: server, model and the version to pin.
          retry: patience, deadline and budget.
          stop: when set, ends waits between retries.
          retried: says which errors of a call are retried, such as `serving.retry.transient_in_time`.
        """
        self.endpoint = endpoint
        self._policy = retry or RetryPolicy()
        self._waiting = Waiting(endpoint.address, self._policy.patience_s, self._why_silent, self._policy.deadline_s)
        self._retrier = Retrier(self._policy, stop, self._waiting, retried=retried)
        self._reached = self._tried_tls = False
        options = list(_CHANNEL_OPTIONS)
        self._proxy = None if goes_direct(endpoint.target) else proxy_for(endpoint.target)
        if self._proxy is None:
            options.append(("grpc.enable_http_proxy", 0))
        if endpoint.tls is None:
            self._channel = grpc.insecure_channel(endpoint.target, options)
        else:
            if endpoint.tls.server_name:
                options.append(("grpc.ssl_target_name_override", endpoint.tls.server_name))
            self._channel = grpc.secure_channel(endpoint.target, endpoint.tls.credentials(), options)
        token = bearer_token(endpoint)
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._predict = self._method("PredictionService/Predict", pb.PredictResponse)
        self._get_metadata = self._method("PredictionService/GetModelMetadata", pb.GetModelMetadataResponse)
        self._get_status = self._method("ModelService/GetModelStatus", pb.GetModelStatusResponse)

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
        return self._retrier.retries

    def predict(
        self,
        inputs: Mapping[str, tensor_codec.Value],
        *,
        signature: str = contract_.STANDARD_SIGNATURES["float32"].name,
        outputs: Sequence[str] = (),
    ) -> dict[str, Array]:
        """Runs a signature once.

        Args:
          inputs: arrays, lists of their rows, or lists of byte strings for string tensors, by the signature's names.
          signature: its name.
          outputs: names of the outputs wanted; empty for all.
        Returns:
          Arrays by output name.
        Raises:
          InvalidRequest: refused by the server, RequestTooLarge over a size limit, MalformedAnswer where an output
            is missing or can't be read.
          ModelNotFound: no such model or version; also when another version answered than the pinned one.
          Transient: still failing after `RetryPolicy.patience_s`, or the retry budget is spent.
        """
        rest = pb.PredictRequest(model_spec=self._spec(signature), output_filter=outputs)
        pieces = [rest.SerializeToString(), *chain.from_iterable(starmap(tensor_codec.input_entry, inputs.items()))]
        if sum(map(len, pieces)) > MAX_MESSAGE_BYTES:
            raise RequestTooLarge("the request is over gRPC's 2 GiB: use a smaller batch", self.endpoint.address)
        request = b"".join(pieces)
        del pieces
        reply = self._call(self._predict, request)
        self._check_version(reply.model_spec.version.value)
        return {name: self._unpack(name, reply.outputs) for name in outputs or reply.outputs}

    def metadata(self) -> ModelMetadata:
        """The version that answers and its signatures.

        Raises:
          ModelNotFound: no such model or version.
        """
        request = pb.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        reply = self._call(self._get_metadata, request.SerializeToString())
        found = pb.SignatureDefMap.FromString(reply.metadata["signature_def"].value)
        signatures = {
            name: Signature(_specs(definition.inputs), _specs(definition.outputs))
            for name, definition in found.signature_def.items()
        }
        return ModelMetadata(reply.model_spec.version.value, signatures)

    def versions(self) -> list[VersionStatus]:
        """All versions that the server knows of the model, highest first.

        Raises:
          ModelNotFound: none.
        """
        return self._retrier(self._versions)

    def available_version(self) -> int:
        """The version to pin: the endpoint's, or the highest one that is available.

        It is waited for while it is loaded, and while the endpoint's is higher than all that the server knows: it may
        just have been published, and a server looks for new versions only now and then.

        Raises:
          ModelNotFound: it is neither there nor on its way.
          ServerUnavailable: it has not come within the patience.
        """
        return self._retrier(self._available_version)

    def _available_version(self) -> int:
        versions, wanted = self._versions(), self.endpoint.version
        states = {one.version: one.state for one in versions if wanted in (None, one.version)}
        if ready := [version for version, state in states.items() if state == STATES[AVAILABLE]]:
            return max(ready)
        known = ", ".join(f"{one.version} is {one.state} {one.error}".rstrip() for one in versions)
        if wanted is None:
            message = f"no version of model {self.endpoint.model_name} is available: {known}"
        else:
            message = f"version {wanted} of model {self.endpoint.model_name} is not available: {known}"
        newer = wanted is not None and wanted > max((one.version for one in versions), default=0)
        awaited = newer or not _COMING.isdisjoint(states.values())
        raise (ServerUnavailable if awaited else ModelNotFound)(message, self.endpoint.address)

    def _versions(self) -> list[VersionStatus]:
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=self.endpoint.model_name))
        reply = self._once(self._get_status, request.SerializeToString())
        return [
            VersionStatus(one.version, STATES.get(one.state, str(one.state)), one.status.error_message)
            for one in reply.model_version_status
        ]

    def lookup(self, key: str) -> bytes:
        """The value that the model's `contract` signature has for a key, empty for an unknown one.

        One key a request: a server's largest batch may be small.

        Raises:
          ServingError: as `predict`.
        """
        name = contract_.CONTRACT_OUTPUT

        def once() -> bytes:
            asked = {contract_.CONTRACT_INPUT: [key.encode()]}
            values = self.predict(asked, signature=contract_.CONTRACT_SIGNATURE, outputs=[name])[name]
            if values.shape != (1,) or not isinstance(values[0], bytes):
                raise MalformedAnswer(f"output {name} is no single string", self.endpoint.address)
            return values[0]

        return retry_rejected(once)

    def contract(self) -> ModelContract | None:
        """The model's contract, or None for a model without one.

        Raises:
          ContractError: there is one that this release can't keep.
        """
        if contract_.CONTRACT_SIGNATURE not in self.metadata().signatures:
            return None
        return ModelContract.from_json(self.lookup(contract_.CONTRACT_KEY))

    def _method(self, name: str, reply: type[Reply]) -> Callable[..., Reply]:
        # Bytes, as gRPC would log a traceback where it can't parse an answer.
        method: Callable[..., bytes] = self._channel.unary_unary(f"/tensorflow.serving.{name}")

        def ask(request: bytes, **options: Any) -> Reply:
            answer = method(request, **options)
            try:
                return reply.FromString(answer)  # type: ignore[attr-defined]
            except message.DecodeError as error:
                raise MalformedAnswer("the answer is no message of this API", self.endpoint.address) from error

        return ask

    def _spec(self, signature: str = "") -> pb.ModelSpec:
        spec = pb.ModelSpec(name=self.endpoint.model_name, signature_name=signature)
        if self.endpoint.version is not None:
            spec.version.value = self.endpoint.version
        return spec

    def _call(self, method: Callable[..., Reply], request: bytes) -> Reply:
        return self._retrier(lambda: self._once(method, request))

    def _once(self, method: Callable[..., Reply], request: bytes) -> Reply:
        try:
            with translated(self.endpoint.address):
                reply = method(request, timeout=self._policy.deadline_s, metadata=self._metadata)
        except (ServerUnavailable, DeadlineExceeded, AccessDenied, WrongAddress) as error:
            raise self._explained(error) from error.__cause__
        self._reached = True
        return reply

    def _explained(self, error: ServingError) -> ServingError:
        """The error with what only the client knows: the proxy, and whether it ever got through."""
        message = error.args[0]
        if self._reached:
            # What was a server of models a moment ago will be one again.
            return ServerUnavailable(*error.args) if isinstance(error, WrongAddress) else error
        if isinstance(error, DeadlineExceeded):
            message += f" after {self._policy.deadline_s:g} s: {self._why_silent()}"
        elif self._proxy:
            message += f" ({self._proxy})"
        elif isinstance(error, ServerUnavailable) and self._needs_tls():
            return WrongAddress("the server wants TLS: add `tls`", *error.args[1:])
        return type(error)(message, *error.args[1:])

    def _needs_tls(self) -> bool:
        """Asked once: gRPC can't tell a server that wants TLS from one that is just starting."""
        if self.endpoint.tls is not None or self._tried_tls:
            return False
        self._tried_tls = True
        return speaks_tls(self.endpoint.target)

    def _why_silent(self) -> str:
        """Why a call has no answer yet, as far as the channel can tell."""
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        with contextlib.suppress(ValueError, queue.Empty):  # of a channel that was closed meanwhile
            self._channel.subscribe(states.put)
            try:
                if states.get(timeout=1) is not grpc.ChannelConnectivity.READY:
                    where = f" ({self._proxy})" if self._proxy else ""
                    return f"no connection yet; its name, the way to it or its handshake takes long{where}"
            finally:
                self._channel.unsubscribe(states.put)
        return f"no answer yet; a request may take {self._policy.deadline_s:g} s (`deadline_s`)"

    def _unpack(self, name: str, outputs: Mapping[str, pb.Tensor]) -> Array:
        if name not in outputs:
            raise MalformedAnswer(f"the answer has no output {name}", self.endpoint.address)
        try:
            return tensor_codec.unpack(outputs[name])
        except (ValueError, OverflowError) as error:
            raise MalformedAnswer(f"output {name} can't be read: {error}", self.endpoint.address) from error

    def _check_version(self, answered: int) -> None:
        wanted = self.endpoint.version
        if wanted is not None and answered != wanted:
            raise ModelNotFound(f"version {answered} answered for version {wanted}", self.endpoint.address)


def _specs(infos: Mapping[str, pb.TensorInfo]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            tensor_codec.dtype_name(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in infos.items()
    }
