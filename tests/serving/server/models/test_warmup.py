"""Warm-up records."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, prediction_log_pb2

from serving.server import EmbeddedServer
from serving.server.rpc.status_error import Code, StatusError
from tests.serving.server.client import Client, examples


@pytest.fixture
def version(base: Path, written: Path) -> Path:
    """A version folder that may be written to."""
    shutil.copytree(written / "m" / "1", base / "1")
    return base / "1"


def record(signature: str, **inputs: object) -> prediction_log_pb2.PredictionLog:
    request = Client("localhost:1", "whatever").request(signature, **inputs)
    request.model_spec.version.value = 99  # neither name nor version of a record matter
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def write(version: Path, *records: prediction_log_pb2.PredictionLog) -> None:
    (version / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for item in records:
            writer.write(item.SerializeToString())


ZERO = np.zeros(1, np.float32)


@pytest.mark.parametrize(("iterations", "runs"), [(0, 2), (3, 6)])
def test_records_run_before_the_version_is_available(version: Path, iterations: int, runs: int) -> None:
    request = classification_pb2.ClassificationRequest(input=examples(1))
    request.model_spec.signature_name = "classify"
    log = prediction_log_pb2.PredictionLog(classify_log=prediction_log_pb2.ClassifyLog(request=request))
    write(version, record("count", x=ZERO), log, prediction_log_pb2.PredictionLog(), record("count", x=ZERO))
    with EmbeddedServer(version.parent, model_name="m", num_request_iterations_for_warmup=iterations) as server:
        assert Client(server.address).predict("count", x=ZERO)["y"].tolist() == [runs + 1]


def test_warm_up_can_be_turned_off(version: Path) -> None:
    write(version, record("no such signature", x=ZERO))
    with EmbeddedServer(version.parent, model_name="m", enable_model_warmup=False) as server:
        assert Client(server.address).predict("count", x=ZERO)["y"].tolist() == [1]


def failure(version: Path, **flags: Any) -> str:
    with pytest.raises(StatusError) as caught:
        EmbeddedServer(version.parent, model_name="m", **flags).start()
    assert caught.value.code is Code.UNKNOWN
    return caught.value.message


def test_a_record_that_fails_fails_the_load(version: Path) -> None:
    write(version, record("other", x=ZERO))
    assert 'FAILED_PRECONDITION: Serving signature key "other" not found.' in failure(version)


def test_records_pass_the_batching_layer(version: Path, tmp_path: Path) -> None:
    write(version, record("count", x=np.zeros(3, np.float32)))
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 2 }")
    message = failure(version, enable_batching=True, batching_parameters_file=str(file))
    assert "Task size 3 is larger than maximum input batch size 2" in message


def test_too_many_records(version: Path) -> None:
    write(version, *[record("lookup", keys=["a"])] * 1001)
    assert "Number of warmup records exceeds the maximum (1000) at " in failure(version)


def test_what_is_no_record(version: Path) -> None:
    (version / "assets.extra").mkdir()
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.write_bytes(b"this is not a TFRecord file at all")
    assert "Please verify your warmup data is in TFRecord format." in failure(version)
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff\xff")
    assert "INVALID_ARGUMENT: Failed to parse warmup record" in failure(version)


def test_kinds_that_are_not_replayed(version: Path) -> None:
    write(version, prediction_log_pb2.PredictionLog(session_run_log=prediction_log_pb2.SessionRunLog()))
    assert "UNIMPLEMENTED" in failure(version)
