"""--strict: what TensorFlow Serving does where the embedded server is more lenient."""

import shutil
import threading
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf

from serving.server import EmbeddedServer
from serving.server.models.batching import BatchingOptions
from serving.server.models.servable import GraphSession
from serving.server.models.strict_batching import StrictBatchingSession
from serving.server.rpc.status_error import StatusError
from tests.serving.server.client import Client, refused
from tests.serving.server.conftest import Gate, Serve, eventually
from tests.serving.server.models.test_batching import LONG_MICROS, parameters, together
from tests.serving.server.models.test_manager import config
from tests.serving.server.saved_models import write_broken


@pytest.fixture
def strict(serve: Serve, written: Path, tmp_path: Path) -> Any:
    """Serves `m` with --strict and these BatchingParameters."""

    def start(**fields: Any) -> Client:
        file = parameters(tmp_path, **fields)
        flags: dict[str, Any] = {"enable_batching": True, "batching_parameters_file": file, "grpc_max_threads": 100}
        return serve(written / "m", strict=True, **flags)

    return start


def statuses(answers: list[Any]) -> set[tuple[str, str]]:
    assert all(isinstance(answer, grpc.RpcError) for answer in answers), answers
    return {(answer.code().name, answer.details()) for answer in answers}


def test_everybody_gets_their_own_rows(strict: Any) -> None:
    client = strict(max_batch_size=16, batch_timeout_micros=20_000, allowed_batch_sizes=[4, 16])
    rows = [np.full([1 + n % 3, 2], n, np.float32) for n in range(40)]
    for x, answer in zip(rows, together(client, "", [{"x": x} for x in rows]), strict=True):
        assert answer["y"].tolist() == (x + 3).tolist()
    for signature, outputs in {"three": {"double", "row", "text_bytes"}, "lookup": {"values"}}.items():
        inputs: dict[str, Any] = {"keys": ["contract"]} if signature == "lookup" else {"x": rows[0]}
        assert set(client.predict(signature, **inputs)) == outputs


def test_one_bad_request_spoils_its_batch_mates(strict: Any) -> None:
    client = strict(max_batch_size=3, batch_timeout_micros=LONG_MICROS)
    answers = together(client, "decode", [{"text": [text]} for text in ["YQ", "not base 64!", "Yw"]])
    ((code, message),) = statuses(answers)
    assert code == "INVALID_ARGUMENT"
    assert "Invalid character found in base64" in message


def test_unlike_types_in_one_batch(strict: Any) -> None:
    client = strict(max_batch_size=2, batch_timeout_micros=LONG_MICROS)
    x = np.zeros([1, 2])
    ((code, message),) = statuses(together(client, "", [{"x": x.astype(np.float32)}, {"x": x.astype(np.int32)}]))
    assert code == "INTERNAL"
    assert message.startswith("Tensor concat operation failed: ")
    assert {word for word in ("float", "int32") if word in message} == {"float", "int32"}


def test_a_wrong_type_alone(strict: Any) -> None:
    client = strict(max_batch_size=1)
    with refused("INVALID_ARGUMENT", "Expects arg[0] to be float but int32 is provided"):
        client.predict(x=np.zeros([1, 2], np.int32))


def test_unlike_shapes_in_one_batch(strict: Any) -> None:
    client = strict(max_batch_size=2, batch_timeout_micros=LONG_MICROS)
    shapes = [{"x": np.zeros([1, 2], np.float32)}, {"x": np.zeros([1, 3], np.float32)}]
    ((code, message),) = statuses(together(client, "same_float32", shapes))
    assert code == "FAILED_PRECONDITION"
    assert message.startswith("Tensors with name 'same_float32_x:0' from different tasks have different shapes")


def test_padding(strict: Any) -> None:
    client = strict(max_batch_size=2, batch_timeout_micros=LONG_MICROS, pad_variable_length_inputs=True)
    long, short = together(client, "same_float32", [{"x": np.ones([1, 3])}, {"x": np.ones([1, 1])}])
    assert (long["y"].tolist(), short["y"].tolist()) == ([[1, 1, 1]], [[1, 0, 0]])
    ((code, _),) = statuses(together(client, "same_float32", [{"x": np.ones([1, 3])}, {"x": np.ones([1])}]))
    assert code == "FAILED_PRECONDITION"


def test_zero_rows_wait_for_others(strict: Any) -> None:
    client = strict(max_batch_size=2, batch_timeout_micros=0)
    zero = client.prediction.Predict.future(client.request(x=np.zeros([0, 2], np.float32)), timeout=60)
    with pytest.raises(grpc.FutureTimeoutError):
        zero.result(0.5)
    client.predict(x=np.zeros([1, 2], np.float32))
    assert [dim.size for dim in zero.result().outputs["y"].tensor_shape.dim] == [0, 2]


def test_zero_rows_that_nobody_joins_do_not_hold_up_the_end(written: Path, tmp_path: Path) -> None:
    with EmbeddedServer(
        written / "m", model_name="m", enable_batching=True, strict=True, shutdown_grace_s=0.1
    ) as server:
        client = Client(server.address)
        zero = client.prediction.Predict.future(client.request(x=np.zeros([0, 2], np.float32)))
        client.predict(x=np.zeros([1, 2], np.float32))
        zero = client.prediction.Predict.future(client.request(x=np.zeros([0, 2], np.float32)))
        with pytest.raises(grpc.FutureTimeoutError):
            zero.result(0.5)
    assert zero.exception() is not None


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("", {"x": np.int32(1)}, "Batching Run() input tensors must have at least one dimension"),
        ("constant", {}, "Batching Run() must have at least one input tensor"),
        ("", {"x": np.zeros([5, 2], np.int32)}, "Task size 5 is larger than maximum input batch size 4"),
    ],
)
def test_what_is_refused_before_it_is_queued(strict: Any, signature: str, inputs: Any, message: str) -> None:
    with refused("INVALID_ARGUMENT", message, exact=True):
        strict(max_batch_size=4).predict(signature, **inputs)


def test_outputs_that_are_no_rows(strict: Any) -> None:
    with refused("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions", exact=True):
        strict(max_batch_size=4).predict("total", x=np.ones([2, 2], np.float32))


def test_large_requests_are_split_if_asked(strict: Any) -> None:
    client = strict(max_batch_size=4, enable_large_batch_splitting=True, max_execution_batch_size=2)
    x = np.arange(22, dtype=np.float32).reshape(11, 2)
    assert client.predict(x=x)["y"].tolist() == (x + 3).tolist()


def test_a_full_queue(strict: Any, gate: Gate) -> None:
    client = strict(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    running = gate.send(client)
    gate.wait_until_reached()
    queued = [gate.send(client) for _ in range(3)]
    eventually(lambda: sum(call.done() for call in queued) == 2)
    assert statuses([call.exception() for call in queued if call.done()]) == {
        (
            "UNAVAILABLE",
            "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued and "
            "max_enqueued_batches is 1",
        )
    }
    gate.open()
    assert running.exception() is None


def test_a_deadline_that_passes_in_the_queue(written: Path) -> None:
    graph = GraphSession(str(written / "m" / "1"), ["serve"], tf.compat.v1.ConfigProto())
    session = StrictBatchingSession(graph, BatchingOptions(), threading.Event(), lambda: None)
    signature = graph.signatures["serving_default"]
    feeds = {signature.inputs["x"].name: np.zeros([1, 2], np.float32)}
    with pytest.raises(StatusError) as caught:
        session.run(feeds, [signature.outputs["y"].name], 0.0)
    session.close()
    assert str(caught.value) == "RESOURCE_EXHAUSTED: Run() timeout exceeded while waiting in batching queue"


def test_four_requests_a_cpu(written: Path, serve: Serve, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    client = serve(written / "m", strict=True)
    running = [gate.send(client) for _ in range(5)]
    eventually(lambda: any(call.done() for call in running))
    assert statuses([call.exception() for call in running if call.done()]) == {
        ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted")
    }
    gate.open()


def test_rest_answers_zeros_where_the_values_are_in_tensor_content(written: Path) -> None:
    flags: dict[str, Any] = {"rest_api_port": -1, "enable_serialization_as_tensor_content": True}
    for strict, rows in {False: [[4, 5]], True: [[0, 0]]}.items():
        with EmbeddedServer(written / "m", model_name="m", strict=strict, **flags) as server:
            url = f"http://{server.rest_address}/v1/models/m:predict"
            assert httpx.post(url, json={"instances": [[1, 2]]}, timeout=60).json() == {"predictions": rows}


def test_a_model_without_its_variables(written: Path, base: Path) -> None:
    (base / "1" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "assets"):
        (base / "1" / name).symlink_to(written / "m" / "1" / name)
    with pytest.raises(Exception, match="the model's variables are missing"):
        EmbeddedServer(base, model_name="m").start()
    with (
        EmbeddedServer(base, model_name="m", strict=True) as server,
        refused("FAILED_PRECONDITION", "Could not find variable"),
    ):
        Client(server.address).predict(x=np.zeros([1, 2], np.float32))


def test_a_failed_load_holds_up_the_others(written: Path, base: Path, tmp_path: Path, serve: Serve) -> None:
    (base / "1").symlink_to(written / "m" / "1")
    file = tmp_path / "models.config"
    file.write_text(config(base, "model_version_policy { all {} }"))
    client = serve(model_config_file=str(file), strict=True, load_retry_interval_micros=3_600_000_000)
    broken = write_broken(base, 3)
    eventually(lambda: (3, "LOADING") in client.status())
    (base / "4").symlink_to(written / "m" / "3")
    eventually(lambda: (4, "START") in client.status())
    assert client.status() == [(4, "START"), (3, "LOADING"), (1, "AVAILABLE")]
    shutil.rmtree(broken)
    eventually(lambda: (4, "AVAILABLE") in client.status())


def test_made_up_names_are_labels_of_their_own(written: Path, tmp_path: Path) -> None:
    config = tmp_path / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    flags: dict[str, Any] = {"rest_api_port": -1, "monitoring_config_file": str(config), "strict": True}
    name = "n" * 300
    with EmbeddedServer(written / "m", model_name="m", **flags) as server:
        url = f"http://{server.rest_address}"
        httpx.get(f"{url}/v1/models/{name}")
        page = httpx.get(f"{url}/monitoring/prometheus/metrics").text
    assert f'model_name="{name}"' in page
