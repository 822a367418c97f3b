"""What can be asked of a model by TensorFlow Serving's gRPC API, as operations; no TensorFlow needed.

Protocol: `tensorflow_serving/apis/prediction_service.proto` and `model_service.proto`.
"""

import copy
import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, starmap
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from google.protobuf import message

from serving.client.channels import MAX_MESSAGE_BYTES
from serving.client.client_options import Endpoint
from serving.console.waiting import Waiting
from serving.contract import (
    CONTRACT_INPUT,
    CONTRACT_KEY,
    CONTRACT_OUTPUT,
    CONTRACT_SIGNATURE,
    STANDARD_SIGNATURES,
    ModelContract,
)
from serving.errors import (
    AccessDenied,
    DeadlineExceeded,
    MalformedAnswer,
    ModelNotFound,
    RequestTooLarge,
    ServerUnavailable,
    ServingError,
    UsageError,
    WrongAddress,
)
from serving.network.grpc_errors import translated
from serving.network.protos import prediction_pb2 as pb
from serving.network.protos import tensor_codec
from serving.network.proxy import Proxy
from serving.network.retry import Retrier, RetryPolicy, repeat_rejected, transient
from serving.network.sans_io import Call, Operation, Work
from serving.network.tls_probe import speaks_tls

Array = np.ndarray[Any, np.dtype[Any]]
Reply = TypeVar("Reply")
T = TypeVar("T")

AVAILABLE = 30
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", AVAILABLE: "AVAILABLE", 40: "UNLOADING", 50: "END"}
_COMING = {"START", "LOADING"}


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


@dataclasses.dataclass
class _Contact:
    """What has been seen of a server, for all that ask it."""

    reached: bool = False
    tried_tls: bool = False


class ModelCalls:
    """Operations that ask one model on one server, with retries. Several may run at once, in threads or on a loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        policy: RetryPolicy,
        is_connected: Callable[[], bool],
        proxy: Proxy | None = None,
        *,
        stop: threading.Event | None = None,
        retried: Callable[[BaseException], bool] = transient,
        turn: Callable[[], object] | None = None,
    ) -> None:
        """Asks nothing yet.

        Args:
          endpoint: server, model and the version to pin.
          policy: patience, deadline and budget.
          is_connected: says whether the channel has a connection; may block, and any thread may ask.
          proxy: that the channel goes through.
          stop: when set, ends retries.
          retried: says which errors of a call are retried, such as `serving.network.retry.transient_in_time`.
          turn: called before each try of a request for predictions; may wait.
        """
        self._turn = turn
        self.endpoint = endpoint
        self._policy = policy
        self._is_connected = is_connected
        self._proxy = proxy
        # A socket's path is mostly one of ours, for a server that was started beside us.
        is_socket = endpoint.address.startswith("unix:")
        server = f"the server of model {endpoint.model_name}" if is_socket else endpoint.address
        waiting = Waiting(server, policy.patience_s, self._why_silent, policy.deadline_s)
        self._retrier = Retrier(policy, stop, waiting, retried=retried)
        self._retries_calls = True
        self._contact = _Contact()

    @property
    def retries(self) -> int:
        """Retries made so far."""
        return self._retrier.retries

    def pinned(self, version: int) -> Self:
        """The same, but for one version, with the same budget of retries."""
        pinned = copy.copy(self)
        pinned.endpoint = dataclasses.replace(self.endpoint, version=version)
        return pinned

    def without_retries(self) -> Self:
        """The same, but each call is tried once: for what `repeat` repeats as a whole."""
        once = copy.copy(self)
        once._retries_calls = False
        return once

    def repeat(self, operation: Callable[[], Operation[T]]) -> Operation[T]:
        """The value of an operation of several calls, which is begun again after what may pass.

        Args:
          operation: begins it; its calls are those of `without_retries`.

        Raises:
          Transient: still failing after `RetryPolicy.patience_s`, or the retry budget is spent.
        """
        return self._retrier.repeat_all(operation)

    def predict(
        self,
        inputs: Mapping[str, tensor_codec.Value],
        *,
        signature: str = STANDARD_SIGNATURES["float32"].name,
        outputs: Sequence[str] = (),
    ) -> Operation[dict[str, Array]]:
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
          UsageError: an input that can't be sent.
          ModelNotFound: no such model or version; also when another version answered than the pinned one.
          Transient: still failing after `RetryPolicy.patience_s`, or the retry budget is spent.
        """
        outputs = [outputs] if isinstance(outputs, str) else outputs
        return (yield from self.send(self.request(inputs, signature=signature, outputs=outputs), outputs))

    def request(self, inputs: Mapping[str, tensor_codec.Value], *, signature: str, outputs: Sequence[str]) -> bytes:
        """The message by which `predict` asks. It ends with the numbers of the last input.

        Raises:
          RequestTooLarge: it would be over gRPC's limit.
          UsageError: an input that can't be sent.
        """
        rest = pb.PredictRequest(model_spec=self._spec(signature), output_filter=outputs)
        pieces = [rest.SerializeToString(), *chain.from_iterable(starmap(_input_entry, inputs.items()))]
        if sum(map(len, pieces)) > MAX_MESSAGE_BYTES:
            raise RequestTooLarge("the request is over gRPC's 2 GiB: use a smaller batch", self.endpoint.address)
        return b"".join(pieces)

    def send(self, request: bytes, outputs: Sequence[str]) -> Operation[dict[str, Array]]:
        """The answer to a `request`; raises what `predict` does."""
        reply = yield from self._call("PredictionService/Predict", request, pb.PredictResponse, self._turn)
        self._check_version(reply.model_spec.version.value)
        return {name: self._unpack(name, reply.outputs) for name in outputs or reply.outputs}

    def metadata(self) -> Operation[ModelMetadata]:
        """The version that answers and its signatures.

        Raises:
          ModelNotFound: no such model or version.
        """
        request = pb.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        reply = yield from self._call(
            "PredictionService/GetModelMetadata", request.SerializeToString(), pb.GetModelMetadataResponse
        )
        found = pb.SignatureDefMap.FromString(reply.metadata["signature_def"].value)
        signatures = {
            name: Signature(_specs(definition.inputs), _specs(definition.outputs))
            for name, definition in found.signature_def.items()
        }
        return ModelMetadata(reply.model_spec.version.value, signatures)

    def versions(self) -> Operation[list[VersionStatus]]:
        """All versions that the server knows of the model, highest first.

        Raises:
          ModelNotFound: none.
        """
        return self._try(self._versions)

    def available_version(self) -> Operation[int]:
        """The version to pin: the endpoint's, or the highest one that is available.

        It is waited for while it is loaded, and while the endpoint's is higher than all that the server knows: it may
        just have been published, and a server looks for new versions only now and then.

        Raises:
          ModelNotFound: it is neither there nor on its way.
          ServerUnavailable: it has not come within the patience.
        """
        return self._try(self._available_version)

    def _available_version(self) -> Operation[int]:
        versions, wanted = (yield from self._versions()), self.endpoint.version
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

    def _versions(self) -> Operation[list[VersionStatus]]:
        request = pb.GetModelStatusRequest(model_spec=pb.ModelSpec(name=self.endpoint.model_name))
        reply = yield from self._once(
            "ModelService/GetModelStatus", request.SerializeToString(), pb.GetModelStatusResponse
        )
        return [
            VersionStatus(one.version, STATES.get(one.state, str(one.state)), one.status.error_message)
            for one in reply.model_version_status
        ]

    def lookup(self, key: str) -> Operation[bytes]:
        """The value that the model's `contract` signature has for a key, empty for an unknown one.

        One key a request: a server's largest batch may be small.

        Raises:
          ServingError: as `predict`.
        """
        name = CONTRACT_OUTPUT

        def once() -> Operation[bytes]:
            asked = {CONTRACT_INPUT: [key.encode()]}
            answer = yield from self.predict(asked, signature=CONTRACT_SIGNATURE, outputs=[name])
            values = answer[name]
            if values.shape != (1,) or not isinstance(values[0], bytes):
                raise MalformedAnswer(f"output {name} is not a single string", self.endpoint.address)
            return values[0]

        return repeat_rejected(once)

    def contract(self) -> Operation[ModelContract | None]:
        """The model's contract, or None for a model without one.

        Raises:
          ContractError: there is one that this release can't keep.
        """
        metadata = yield from self.metadata()
        if CONTRACT_SIGNATURE not in metadata.signatures:
            return None
        return ModelContract.from_json((yield from self.lookup(CONTRACT_KEY)))

    def _spec(self, signature: str = "") -> pb.ModelSpec:
        spec = pb.ModelSpec(name=self.endpoint.model_name, signature_name=signature)
        if self.endpoint.version is not None:
            spec.version.value = self.endpoint.version
        return spec

    def _call(
        self, method: str, request: bytes, reply: type[Reply], turn: Callable[[], object] | None = None
    ) -> Operation[Reply]:
        return self._try(lambda: self._once(method, request, reply), turn)

    def _try(self, call: Callable[[], Operation[T]], turn: Callable[[], object] | None = None) -> Operation[T]:
        def attempt() -> Operation[T]:
            if turn:
                yield Work(turn, waits=True)  # before the user is told that a call takes long
            return (yield from self._retrier.once(call))

        return self._retrier.repeat_all(attempt) if self._retries_calls else attempt()

    def _once(self, method: str, request: bytes, reply: type[Reply]) -> Operation[Reply]:
        try:
            with translated(self.endpoint.address):
                answer = yield Call(method, request)
        except (ServerUnavailable, DeadlineExceeded, AccessDenied, WrongAddress) as error:
            raise (yield from self._explained(error)) from error.__cause__
        try:
            parsed: Reply = reply.FromString(answer)  # type: ignore[attr-defined]
        except message.DecodeError as error:
            raise MalformedAnswer("the answer is not a message of this API", self.endpoint.address) from error
        self._contact.reached = True
        return parsed

    def _explained(self, error: ServingError) -> Operation[ServingError]:
        """The error with what only the client knows: the proxy, and whether it ever got through."""
        message = error.args[0]
        if self._contact.reached:
            # It has answered before, so it is away for a moment.
            return ServerUnavailable(*error.args) if isinstance(error, WrongAddress) else error
        if isinstance(error, DeadlineExceeded):
            message += f" after {self._policy.deadline_s:g} s: {yield Work(self._why_silent, waits=True)}"
        elif self._proxy:
            message += f" ({self._proxy})"
        elif isinstance(error, ServerUnavailable) and (yield Work(self._needs_tls, waits=True)):
            return WrongAddress("the server wants TLS: add `tls`", *error.args[1:])
        return type(error)(message, *error.args[1:])

    def _needs_tls(self) -> bool:
        """Does the server want TLS? Tried once: gRPC can't tell such a server from one that is just starting."""
        if self.endpoint.tls is not None or self._contact.tried_tls:
            return False
        self._contact.tried_tls = True
        return speaks_tls(self.endpoint.target)

    def _why_silent(self) -> str:
        """Why a call has no answer yet, as far as the channel can tell."""
        if not self._is_connected():
            where = f" ({self._proxy})" if self._proxy else ""
            return f"no connection yet; resolving its name, reaching it or its handshake takes long{where}"
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


def _input_entry(name: str, value: tensor_codec.Value) -> list[bytes | memoryview]:
    try:
        return tensor_codec.input_entry(name, value)
    except TypeError as error:
        raise UsageError(f"input {name}: {error}") from error


def _specs(infos: Mapping[str, pb.TensorInfo]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            tensor_codec.dtype_name(info.dtype),
            None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim),
        )
        for name, info in infos.items()
    }
