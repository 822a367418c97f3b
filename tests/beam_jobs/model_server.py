"""A small gRPC server of a model with a contract: real calls over a real port, but no TensorFlow.

The model scores a whole file by its mean brightness. A test may look at what was asked, and step in before an answer.
"""

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
import numpy as np
from PIL import Image

from serving.client.client_options import Endpoint
from serving.contract import (
    CONTRACT_KEY,
    EMBEDDING_SIGNATURES,
    STANDARD_SIGNATURES,
    Embeddings,
    Golden,
    ModelContract,
    Preprocessing,
    golden_key,
)
from serving.network.protos import prediction_pb2 as pb
from serving.network.protos.tensor_codec import STRING, unpack

NAME = "brightness"
LABELS = ["bright", "dark"]
AVAILABLE = 30


def image(brightness: int, size: int = 16) -> bytes:
    """A PNG file of one grey."""
    file = io.BytesIO()
    Image.new("RGB", (size, size), (brightness,) * 3).save(file, "PNG")
    return file.getvalue()


def score(file: bytes) -> list[float]:
    """What the model answers about a file: probabilities of bright and dark."""
    bright = float(np.asarray(Image.open(io.BytesIO(file)).convert("L")).mean()) / 255
    return [bright, 1 - bright]


GOLDEN = [image(0), image(200)]
CONTRACT = ModelContract(
    labels=LABELS,
    preprocessing=Preprocessing(height=8, width=8),
    signatures={"encoded": STANDARD_SIGNATURES["encoded"]},
    golden=Golden(count=2, references={"encoded": list(map(score, GOLDEN))}, tolerance=0.01, controls={}),
)


WITH_EMBEDDINGS = CONTRACT.model_copy(
    update={"embeddings": Embeddings(width=2, signatures={"encoded": EMBEDDING_SIGNATURES["encoded"]})}
)
"""The same model, which also gives `embed`."""


def embed(file: bytes) -> list[float]:
    """What the layer before the head would be: brightness in 0..255, and 1; a wider one has zeros behind."""
    return [255 * score(file)[0], 1]


class Refusal(Exception):
    """Raised by a step of a test, makes the server answer with a status; `args` is (code, details)."""


Step = Callable[[Sequence[bytes]], object]


class ModelServer(grpc.GenericRpcHandler):
    """Serves CONTRACT's model as NAME. A context manager; its attributes may be changed while it runs."""

    def __init__(self) -> None:
        self.versions = [1]
        self.contract = CONTRACT
        self.step: Step = lambda files: None
        """Called with the files of each request before it is answered; golden and drawn images are asked, too."""
        self.asked: list[bytes] = []
        """All files that were asked about, but the golden and drawn ones."""
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(16), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    @property
    def endpoint(self) -> Endpoint:
        """How to ask it for the latest version."""
        return Endpoint(address=self.address, model_name=NAME)

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler | None:
        """The handler of a call."""
        method = handler_call_details.method.removeprefix("/tensorflow.serving.")
        answer = {
            "ModelService/GetModelStatus": self._status,
            "PredictionService/GetModelMetadata": self._metadata,
            "PredictionService/Predict": self._predict,
        }.get(method)
        return grpc.unary_unary_rpc_method_handler(answer) if answer else None

    def _status(self, _: bytes, __: grpc.ServicerContext) -> bytes:
        statuses = [pb.ModelVersionStatus(version=version, state=AVAILABLE) for version in self.versions]
        return pb.GetModelStatusResponse(model_version_status=statuses).SerializeToString()

    def _metadata(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        reply = pb.GetModelMetadataResponse()
        reply.model_spec.CopyFrom(self._spec(pb.GetModelMetadataRequest.FromString(data).model_spec, context))
        signatures = pb.SignatureDefMap(signature_def={"contract": pb.SignatureDef()})
        reply.metadata["signature_def"].value = signatures.SerializeToString()
        return reply.SerializeToString()

    def _predict(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        request = pb.PredictRequest.FromString(data)
        reply = pb.PredictResponse(model_spec=self._spec(request.model_spec, context))
        if request.model_spec.signature_name == "contract":
            key = unpack(request.inputs["keys"])[0].decode()
            _put_strings(reply.outputs["values"], [self._value(key)])
            return reply.SerializeToString()
        files = list(unpack(request.inputs["image_bytes"]))
        with self._lock:
            self.asked += [file for file in files if file not in GOLDEN]
        try:
            self.step(files)
        except Refusal as refusal:
            context.abort(*refusal.args)
        scores = [_score_or_none(file) for file in files]
        _put_array(reply.outputs["probabilities"], np.array([one or [0, 0] for one in scores], np.float32))
        if request.model_spec.signature_name == EMBEDDING_SIGNATURES["encoded"].name:
            assert self.contract.embeddings
            rows = np.zeros((len(files), self.contract.embeddings.width), np.float32)
            for row, file, scored in zip(rows, files, scores, strict=True):
                row[:2] = embed(file) if scored else 0
            _put_array(reply.outputs["embeddings"], rows)
        _put_array(reply.outputs["ok"], np.array([one is not None for one in scores]))
        return reply.SerializeToString()

    def _spec(self, asked: pb.ModelSpec, context: grpc.ServicerContext) -> pb.ModelSpec:
        version = asked.version.value if asked.HasField("version") else max(self.versions)
        if asked.name != NAME or version not in self.versions:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no version {version} of {asked.name}")
        spec = pb.ModelSpec(name=NAME)
        spec.version.value = version
        return spec

    def _value(self, key: str) -> bytes:
        values = {CONTRACT_KEY: self.contract.to_json().encode()}
        return (values | {golden_key(i): file for i, file in enumerate(GOLDEN)}).get(key, b"")


def _score_or_none(file: bytes) -> list[float] | None:
    try:
        return score(file)
    except OSError:
        return None


def _put_array(tensor: pb.Tensor, values: np.ndarray[Any, Any]) -> None:
    tensor.dtype = 10 if values.dtype == bool else 1
    tensor.tensor_shape.dim.extend(pb.TensorShape.Dim(size=size) for size in values.shape)
    tensor.tensor_content = values.tobytes()


def _put_strings(tensor: pb.Tensor, values: Sequence[bytes]) -> None:
    tensor.dtype = STRING
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.string_val.extend(values)
