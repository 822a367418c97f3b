"""Batching across requests, against TensorFlow Serving's table of refusals."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from serving.server.models.batching import BatchingOptions
from serving.server.rpc.status_error import StatusError
from tests.serving.server.client import Client, examples, refused
from tests.serving.server.conftest import Gate, Serve, eventually

LONG_MICROS = 40_000_000
"""A wait that a batch ends by being full; a test that had to wait for it would show in its time only."""


def parameters(tmp_path: Path, **fields: Any) -> str:
    """A BatchingParameters file."""
    lines = []
    for name, value in fields.items():
        if name == "allowed_batch_sizes":
            lines += [f"allowed_batch_sizes: {size}" for size in value]
        elif name == "pad_variable_length_inputs":
            lines.append(f"{name}: {str(value).lower()}")
        else:
            lines.append(f"{name} {{ value: {str(value).lower()} }}")
    file = tmp_path / "batching.config"
    file.write_text("\n".join(lines))
    return str(file)


@pytest.fixture
def batching(serve: Serve, written: Path, tmp_path: Path) -> Any:
    """Serves `m` with these BatchingParameters."""

    def start(**fields: Any) -> Client:
        file = parameters(tmp_path, **fields)
        return serve(written / "m", enable_batching=True, batching_parameters_file=file)

    return start


def together(client: Client, signature: str, arrays: list[dict[str, Any]]) -> list[Any]:
    """Asks for all at once; the answers, or the errors."""
    ready = threading.Barrier(len(arrays))

    def ask(inputs: dict[str, Any]) -> Any:
        ready.wait()
        try:
            return client.predict(signature, **inputs)
        except grpc.RpcError as error:
            return error

    with ThreadPoolExecutor(len(arrays)) as pool:
        return list(pool.map(ask, arrays))


def test_everybody_gets_their_own_rows(batching: Any) -> None:
    client = batching(max_batch_size=16, batch_timeout_micros=20_000)
    rows = [np.full([1 + n % 3, 2], n, np.float32) for n in range(40)]
    answers = together(client, "", [{"x": x} for x in rows])
    for x, answer in zip(rows, answers, strict=True):
        assert answer["y"].tolist() == (x + 3).tolist()


def test_requests_share_a_batch(batching: Any) -> None:
    # The counter of this signature rises once a run, not once a request.
    client = batching(max_batch_size=4, batch_timeout_micros=LONG_MICROS)
    zero = np.zeros(1, np.float32)
    answers = together(client, "count", [{"x": zero}] * 4)
    assert len({float(answer["y"][0]) for answer in answers}) == 1


def test_outputs_that_are_not_asked_for_together_are_not_batched_together(batching: Any) -> None:
    client = batching(max_batch_size=2, batch_timeout_micros=0)
    request = client.request("three", x=np.ones([1, 2], np.float32))
    request.output_filter.append("row")
    assert list(client.send(request).outputs) == ["row"]
    assert set(client.predict("three", x=np.ones([1, 2], np.float32))) == {"double", "row", "text_bytes"}


def test_the_order_of_an_output_filter_is_kept(batching: Any) -> None:
    client = batching(max_batch_size=2)
    for aliases in (["row", "double"], ["double", "row"]):
        request = client.request("three", x=np.ones([1, 2], np.float32))
        request.output_filter.extend(aliases)
        outputs = client.send(request).outputs
        assert (list(outputs["row"].float_val), list(outputs["double"].float_val)) == ([2], [2, 2])


def test_clients_cannot_make_queues_without_end(batching: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.server.models.batching.MAX_QUEUES", 1)
    client = batching(max_batch_size=1)
    rows = np.ones([2, 2], np.float32)
    with refused("INVALID_ARGUMENT", "Task size 2 is larger than maximum input batch size 1"):
        client.predict(x=rows)
    assert client.predict("matmul", x=rows)["y"].shape == (2, 3)  # unbatched, and so of any size


def test_strings_tables_and_examples_go_through_the_queue(batching: Any) -> None:
    client = batching(max_batch_size=8)
    assert client.predict("lookup", keys=["contract", "x"])["values"].tolist() == [b"{}", b"missing"]
    values = [r.value for r in client.regress("regress", examples(1, 2)).result.regressions]
    assert values == [1.5, 2.5]


def test_reference_variables_of_tf1(serve: Serve, written: Path) -> None:
    client = serve(written / "half_plus_two", enable_batching=True)
    assert client.predict(x=np.array([[2], [4]], np.float32))["y"].tolist() == [[3], [4]]
    assert [c.score for c in client.classify("classify_x_to_y", examples(2)).result.classifications[0].classes] == [3]


def test_a_multi_inference_goes_through_the_queue(serve: Serve, written: Path) -> None:
    client = serve(written / "half_plus_two", enable_batching=True)
    tasks = [("regress_x_to_y", "regress"), ("regress_x2_to_y2", "regress")]
    results = client.multi(examples(2), tasks).results
    assert [result.regression_result.regressions[0].value for result in results] == [3, 3]


def test_padding_to_an_allowed_size_is_not_seen(batching: Any) -> None:
    client = batching(max_batch_size=8, allowed_batch_sizes=[4, 8])
    for rows in (1, 3, 4, 5, 8):
        x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
        assert client.predict(x=x)["y"].tolist() == (x + 3).tolist()


def test_a_request_larger_than_a_batch(batching: Any) -> None:
    client = batching(max_batch_size=4)
    with refused("INVALID_ARGUMENT", "Task size 5 is larger than maximum input batch size 4", exact=True):
        client.predict(x=np.zeros([5, 2], np.float32))


@pytest.mark.parametrize("sizes", [{}, {"allowed_batch_sizes": [2, 4]}, {"max_execution_batch_size": 2}])
def test_large_requests_are_split_if_asked(batching: Any, sizes: dict[str, Any]) -> None:
    client = batching(max_batch_size=4, enable_large_batch_splitting=True, **sizes)
    x = np.arange(22, dtype=np.float32).reshape(11, 2)
    assert client.predict(x=x)["y"].tolist() == (x + 3).tolist()


def test_a_full_queue(batching: Any, gate: Gate) -> None:
    client = batching(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    calls = [gate.send(client) for _ in range(12)]
    gate.wait_until_reached()
    eventually(lambda: sum(call.done() for call in calls) >= 10)  # one runs, one is in the queue
    gate.open()
    refusals = [call for call in calls if call.exception() is not None]
    assert 10 <= len(refusals) < len(calls)
    assert {call.code().name for call in refusals} == {"UNAVAILABLE"}
    assert all("The batch scheduling queue to which this task was submitted is full" in c.details() for c in refusals)
    assert client.predict(x=np.zeros([1, 2], np.float32))["y"].tolist() == [[3, 3]]


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("", {"x": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        (
            "two",
            {"a": np.ones(2, np.float32), "b": np.ones(3, np.float32)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        ("constant", {}, "Batching Run() must have at least one input tensor"),
        ("", {"x": np.array([[1, 2]], np.int32)}, "Expects arg[0] to be float but int32 is provided"),
    ],
)
def test_inputs_that_cannot_be_batched(batching: Any, signature: str, inputs: dict[str, Any], message: str) -> None:
    client = batching(max_batch_size=4)
    with refused("INVALID_ARGUMENT", message):
        client.predict(signature, **inputs)


def test_an_output_that_has_no_rows(batching: Any) -> None:
    client = batching(max_batch_size=4)
    with refused("FAILED_PRECONDITION", "Batched output tensor has 0 dimensions", exact=True):
        client.predict("total", x=np.ones([2, 2], np.float32))


def test_zero_rows_do_not_wait_for_others(batching: Any) -> None:
    client = batching(max_batch_size=4, batch_timeout_micros=LONG_MICROS * 100)
    assert client.predict("matmul", x=np.zeros([0, 2], np.float32))["y"].shape == (0, 3)


def test_unlike_shapes_in_one_batch_without_padding(batching: Any) -> None:
    client = batching(max_batch_size=2, batch_timeout_micros=LONG_MICROS)
    answers = together(
        client, "same_float32", [{"x": np.zeros([1, 2], np.float32)}, {"x": np.zeros([1, 3], np.float32)}]
    )
    for error in answers:
        assert isinstance(error, grpc.RpcError)
        assert error.code().name == "FAILED_PRECONDITION"
        assert error.details() == (
            "Tensors with name 'same_float32_x:0' from different tasks have different shapes and padding is turned "
            "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal "
            "dimensions starting with the first dim."
        )


def test_the_input_whose_shapes_clash_is_named(batching: Any) -> None:
    client = batching(max_batch_size=2, batch_timeout_micros=LONG_MICROS)
    one, wide, wider = (np.ones(shape, np.float32) for shape in ([1], [1, 1], [1, 2]))
    for error in together(client, "two", [{"a": one, "b": wide}, {"a": one, "b": wider}]):
        assert isinstance(error, grpc.RpcError)
        assert error.details().startswith("Tensors with name 'two_b:0' from different tasks")


def test_variable_lengths_are_padded_if_asked(batching: Any) -> None:
    client = batching(max_batch_size=3, batch_timeout_micros=LONG_MICROS, pad_variable_length_inputs=True)
    rows = [np.ones([1, 2, 1], np.float32), np.ones([1, 1, 3], np.float32), np.ones([1, 1, 1], np.float32)]
    answers = together(client, "same_float32", [{"x": x} for x in rows])
    assert [answer["y"].shape for answer in answers] == [(1, 2, 3)] * 3
    for x, answer in zip(rows, answers, strict=True):
        expected = np.zeros([1, 2, 3], np.float32)
        expected[:, : x.shape[1], : x.shape[2]] = x
        assert answer["y"].tolist() == expected.tolist()


def test_unlike_ranks_with_padding_are_answered_apart(batching: Any) -> None:
    client = batching(max_batch_size=2, batch_timeout_micros=1000, pad_variable_length_inputs=True)
    shapes = [(1,), (1, 2), (1, 2, 3), (1,), (1, 2)]
    answers = together(client, "same_float32", [{"x": np.ones(shape, np.float32)} for shape in shapes])
    assert [answer["y"].size for answer in answers] == [1, 2, 6, 1, 2]


def test_one_bad_request_does_not_spoil_its_batch_mates(batching: Any) -> None:
    client = batching(max_batch_size=4, batch_timeout_micros=LONG_MICROS)
    texts = ["YQ", "Yg", "not base 64!", "Yw"]
    answers = together(client, "decode", [{"text": [text]} for text in texts])
    assert [answers[n]["raw"].tolist() for n in (0, 1, 3)] == [[b"a"], [b"b"], [b"c"]]
    assert isinstance(answers[2], grpc.RpcError)
    assert answers[2].code().name == "INVALID_ARGUMENT"


def test_nor_does_one_whose_refusal_is_no_text(batching: Any) -> None:
    client = batching(max_batch_size=2, batch_timeout_micros=LONG_MICROS)
    good, bad = together(
        client,
        "regress",
        [{"inputs": [examples(1).example_list.examples[0].SerializeToString()]}, {"inputs": [b"\xff"]}],
    )
    assert good["outputs"].tolist() == [[1.5]]
    assert bad.code().name == "INVALID_ARGUMENT"


def test_a_deadline_in_the_queue(batching: Any, gate: Gate) -> None:
    client = batching(max_batch_size=1, num_batch_threads=1, max_enqueued_batches=100)
    running = gate.send(client)
    gate.wait_until_reached()
    with refused("DEADLINE_EXCEEDED"):
        client.send(client.request("gate", path=[gate.path]), timeout=0.2)
    gate.open()
    assert running.result().outputs["y"].string_val == [gate.path.encode()]


def test_parameters_from_the_version_folder(serve: Serve, written: Path, base: Path, tmp_path: Path) -> None:
    (base / "1").mkdir()
    for child in (written / "m" / "1").iterdir():
        (base / "1" / child.name).symlink_to(child)
    (base / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    client = serve(base, enable_batching=True, enable_per_model_batching_parameters=True)
    with refused("INVALID_ARGUMENT", "Task size 3 is larger than maximum input batch size 2"):
        client.predict(x=np.zeros([3, 2], np.float32))
    plain = serve(written / "m", enable_batching=True, enable_per_model_batching_parameters=True)
    assert plain.predict("constant")["y"] == 3  # which batching would refuse


def test_parameters_without_batching_are_an_error(tmp_path: Path, written: Path, serve: Serve) -> None:
    with pytest.raises(StatusError, match="batching_parameters_file is set without setting"):
        serve(written / "m", batching_parameters_file=parameters(tmp_path, max_batch_size=2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"max_batch_size": 8, "allowed_batch_sizes": (2, 4)},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8",
        ),
        ({"max_batch_size": 8, "allowed_batch_sizes": (4, 2, 8)}, "monotonically increasing"),
        ({"max_batch_size": 0}, "max_batch_size must be at least 1"),
        ({"num_batch_threads": 0}, "num_batch_threads must be at least 1"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative"),
    ],
)
def test_parameters_that_make_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(StatusError, match=message):
        BatchingOptions(**fields)


def test_tensorflow_servings_defaults() -> None:
    options = BatchingOptions()
    assert (options.max_batch_size, options.batch_timeout_micros, options.max_enqueued_batches) == (1000, 0, 10)
    assert options.thread_pool_name == "batch_threads"
