"""`fi.beam` with Beam's local runner and real servers: each element comes out once, or the bundle fails."""

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apache_beam as beam
import grpc
import numpy as np
import pytest
from apache_beam.io import WriteToText
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, SlidingWindows, TimestampedValue
from dask.distributed import Client

from flow_images.beam import Classify, DaskRunner, TFServingModelHandler, classify, shared_in_process
from flow_images.classification import Classification
from serving.errors import ContractError, ServerUnavailable, UsageError
from serving.network.protos import prediction_pb2 as pb
from tests.beam_jobs.dask.clusters import Cluster
from tests.conftest import IMAGE_SIZE, MODEL_NAME
from tests.e2e.test_predict import plain_loop
from tests.faults.front import Front
from tests.web_server import Web

BRIEF: dict[str, Any] = {"patience_s": 0.5}
"""For servers that stay away."""


def pipeline() -> beam.Pipeline:
    return beam.Pipeline(runner=FnApiRunner())


class _Keep(beam.DoFn):
    """Keeps elements in this process; the runner pickles steps, so they find the list by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def process(self, element: Any) -> None:
        _KEPT[self._name].append(element)


_KEPT: dict[str, list[Any]] = {}


def collect(*outputs: Any) -> list[list[Any]]:
    """Lists that have the elements of each output when the pipeline has run."""
    names = [str(next(_NUMBERS)) for _ in outputs]
    for name, output in zip(names, outputs, strict=True):
        _KEPT[name] = []
        output | f"Keep {name}" >> beam.ParDo(_Keep(name))
    return [_KEPT[name] for name in names]


_NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def paths(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, str]]:
    """Paths of whole images, and of others with the reason that they can't be classified for."""
    folder = tmp_path_factory.mktemp("images")
    whole = sorted(str(path) for path in (drawn / "train").iterdir())
    (folder / "page.jpg").write_bytes(b"<html>not found</html>")
    (folder / "cut.jpg").write_bytes(Path(whole[0]).read_bytes()[:2000])
    (folder / "empty.jpg").write_bytes(b"")
    reasons = {"page.jpg": "not_an_image", "cut.jpg": "corrupt", "empty.jpg": "empty", "gone.jpg": "missing"}
    return whole, {str(folder / name): reason for name, reason in reasons.items()}


@pytest.mark.parametrize("wire", ["float32", "encoded"])
def test_each_path_comes_out_once_as_a_plain_loop_gives_it(
    server: str, model_store: Path, paths: tuple[list[str], dict[str, str]], wire: Any
) -> None:
    whole, broken = paths
    with pipeline() as p:
        results = p | beam.Create([*whole, *broken]) | Classify(server, MODEL_NAME, batch_size=7, wire=wire)
        predictions, failures = collect(*results)
    expected = plain_loop(model_store, whole)
    for one in predictions:
        assert (one.label, one.score) == (expected[one.image][0], pytest.approx(expected[one.image][1], abs=1e-4))
    assert sorted(one.image for one in predictions) == whole
    assert {(one.image, one.reason) for one in failures} == set(broken.items())
    assert len(failures) == len(broken)
    assert all(len(one.top) == 5 for one in predictions)
    assert all(one.verdict == "rejected" and one.message for one in failures)


def test_on_dask_each_path_comes_out_once_too(
    server: str, paths: tuple[list[str], dict[str, str]], tmp_path: Path
) -> None:
    """In bundles, on two workers."""
    whole, broken = paths
    (tmp_path / "cluster").mkdir()
    with Cluster(tmp_path / "cluster") as cluster, Client(cluster.address) as client:
        for _ in range(2):
            cluster.start_worker()
        with beam.Pipeline(runner=DaskRunner(client, partition_size=9)) as p:
            results = p | beam.Create([*whole, *broken]) | Classify(server, MODEL_NAME, wire="encoded")
            results.predictions | beam.Map(lambda one: one.image) | WriteToText(f"{tmp_path}/predicted")
            failed = results.failures | "Failed" >> beam.Map(lambda one: f"{one.image} {one.reason}")
            failed | "Write failed" >> WriteToText(f"{tmp_path}/failed")
    predicted, failed = (
        sorted(line for file in tmp_path.glob(f"{name}-*") for line in file.read_text().splitlines())
        for name in ("predicted", "failed")
    )
    assert predicted == whole
    assert failed == sorted(f"{path} {reason}" for path, reason in broken.items())


def test_a_url_that_cannot_be_read_is_a_failure_and_costs_the_others_nothing(
    server: str, paths: tuple[list[str], Any]
) -> None:
    whole = paths[0][:8]
    with Web({f"/{number}.jpg": Path(path).read_bytes() for number, path in enumerate(whole)}) as web, pipeline() as p:
        urls = [web.url + path for path in web.files]
        results = p | beam.Create([f"{web.url}/500", *urls]) | Classify(server, MODEL_NAME, **BRIEF)
        predictions, failures = collect(results.predictions, results.failures)
    assert sorted(one.image for one in predictions) == sorted(urls)
    assert [(one.image, one.verdict, one.reason) for one in failures] == [(f"{web.url}/500", "failed", "unreadable")]


def test_pairs_keep_their_key_whether_they_bring_a_path_or_bytes(server: str, paths: tuple[list[str], Any]) -> None:
    whole, _ = paths
    elements: list[tuple[Any, Any]] = [(number, Path(path).read_bytes()) for number, path in enumerate(whole[:6])]
    elements += [(("a", 1), Path(whole[0]).read_bytes()), (7, b"no image"), (8, whole[8])]
    with pipeline() as p:
        results = p | beam.Create(elements) | Classify(server, MODEL_NAME, top_k=2)
        by_path = p | "Paths" >> beam.Create(whole[:6]) | "By path" >> Classify(server, MODEL_NAME, top_k=2)
        keyed, failed, unkeyed = collect(*results, by_path.predictions)
    labels = {one.image: (one.label, pytest.approx(one.score, abs=1e-4)) for one in unkeyed}
    found = {key: (one.label, one.score) for key, one in keyed}
    assert found.keys() == {0, 1, 2, 3, 4, 5, ("a", 1), 8}
    assert [found[number] for number in range(6)] == [labels[path] for path in whole[:6]]
    assert {key: one.image for key, one in keyed}[("a", 1)] == "('a', 1)"
    assert [(key, one.image, one.reason) for key, one in failed] == [(7, 7, "not_an_image")]


def test_the_same_path_twice_comes_out_twice(server: str, paths: tuple[list[str], Any]) -> None:
    with pipeline() as p:
        results = p | beam.Create([paths[0][0]] * 3 + ["/nowhere.jpg"] * 2) | Classify(server, MODEL_NAME)
        counts = [output | f"Count {n}" >> beam.combiners.Count.Globally() for n, output in enumerate(results)]
        assert_that(counts[0], equal_to([3]), label="predictions")
        assert_that(counts[1], equal_to([2]), label="failures")


def test_results_cross_a_shuffle(server: str, paths: tuple[list[str], Any]) -> None:
    with pipeline() as p:
        results = p | beam.Create(paths[0][:5]) | Classify(server, MODEL_NAME)
        by_label = results.predictions | beam.Map(lambda one: (one.label, one)) | beam.GroupByKey()
        (groups,) = collect(by_label | beam.Map(lambda group: (group[0], list(group[1]))))
    assert sorted(one.image for label, ones in groups for one in ones if one.label == label) == paths[0][:5]
    assert all(isinstance(one, Classification) for _, ones in groups for one in ones)


class _Stamped(beam.DoFn):
    """The name of a result's image, its timestamp and the start of its window."""

    def process(self, one: Any, time: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam) -> Any:
        yield Path(one.image).name, int(time), int(window.start)


@pytest.mark.parametrize("most", [1024, 4], ids=["at the end of a bundle", "and within it"])
def test_each_result_is_in_the_window_of_its_element(
    server: str, paths: tuple[list[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(classify, "_MOST_ELEMENTS", most)
    times = {path: 7 * number for number, path in enumerate([*paths[0][:9], *paths[1]])}
    stamped = [TimestampedValue(path, time) for path, time in times.items()]
    with pipeline() as p:
        fixed = p | beam.Create(stamped) | beam.Map(lambda v: v) | "Fixed" >> beam.WindowInto(FixedWindows(10))
        results = fixed | Classify(server, MODEL_NAME)
        stamps = collect(*(output | f"Stamp {n}" >> beam.ParDo(_Stamped()) for n, output in enumerate(results)))
    expected = [
        [(Path(path).name, times[path], times[path] // 10 * 10) for path in group] for group in (paths[0][:9], paths[1])
    ]
    assert [sorted(one) for one in stamps] == [sorted(one) for one in expected]


def test_an_image_in_two_windows_has_a_result_in_each(server: str, paths: tuple[list[str], Any]) -> None:
    with pipeline() as p:
        elements = p | beam.Create([TimestampedValue(path, 12) for path in paths[0][:3]])
        windowed = elements | beam.WindowInto(SlidingWindows(10, 5))
        (stamps,) = collect((windowed | Classify(server, MODEL_NAME)).predictions | beam.ParDo(_Stamped()))
    assert sorted(stamps) == [(Path(path).name, 12, start) for path in paths[0][:3] for start in (5, 10)]


class _Recorder(Front):
    """A front that keeps which version each Predict call asked for, and can do something before one."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.versions: list[int] = []
        self.before: Callable[[int], None] = lambda count: None

    def service(self, handler_call_details: Any) -> grpc.RpcMethodHandler:
        handler = super().service(handler_call_details)
        if not handler_call_details.method.endswith("/Predict"):
            return handler

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.versions.append(pb.PredictRequest.FromString(request).model_spec.version.value)
            self.before(len(self.versions))
            reply: bytes = handler.unary_unary(request, context)
            return reply

        return grpc.unary_unary_rpc_method_handler(answer)


def test_a_version_that_is_published_meanwhile_is_not_asked(
    model_store: Path, paths: tuple[list[str], Any], tmp_path: Path
) -> None:
    from serving.server import EmbeddedServer

    shutil.copytree(model_store / "1", tmp_path / "m" / "1")
    published = threading.Event()
    with EmbeddedServer(tmp_path / "m", model_name=MODEL_NAME, file_system_poll_wait_seconds=0.05) as running:

        def publish(count: int) -> None:
            if count == 20:  # after the contract, the golden images and a first request
                shutil.copytree(model_store / "1", tmp_path / "aside")
                (tmp_path / "aside").rename(tmp_path / "m" / "2")
                published.set()

        with _Recorder(running.address) as front:
            front.before = publish
            with pipeline() as p:
                results = p | beam.Create(paths[0][:12]) | Classify(front.address, MODEL_NAME, batch_size=1)
                predictions, failures = collect(*results)
    assert published.is_set()
    assert len(front.versions) > 20
    assert set(front.versions) == {1}
    assert (len(predictions), failures) == (12, [])


def test_a_server_that_stays_away_fails_the_bundle(
    server: str, paths: tuple[list[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "_MOST_ELEMENTS", 4)
    with _Recorder(server) as front:

        def leave(count: int) -> None:
            if count == 22:
                front.refusals, front.refused_share = ((grpc.StatusCode.UNAVAILABLE, "gone"),), 1.0

        front.before = leave
        with pytest.raises(Exception, match="UNAVAILABLE: gone; tried for"), pipeline() as p:
            _ = p | beam.Create(paths[0]) | Classify(front.address, MODEL_NAME, batch_size=2, **BRIEF)
    assert front.asked > 22


def test_a_server_that_was_never_there_fails_the_pipeline(paths: tuple[list[str], Any]) -> None:
    with pytest.raises(ServerUnavailable), pipeline() as p:
        _ = p | beam.Create(paths[0]) | Classify("127.0.0.1:1", MODEL_NAME, patience_s=0)


def test_a_server_that_answers_otherwise_is_asked_about_no_image(server: str, paths: tuple[list[str], Any]) -> None:
    def reverse(reply: bytes) -> bytes:
        message = pb.PredictResponse.FromString(reply)
        if "probabilities" in message.outputs:
            scores = message.outputs["probabilities"].float_val
            scores[:] = list(scores)[::-1]
        return message.SerializeToString()

    with Front(server) as front:
        front.spoil, front.spoilt_share = reverse, 1.0
        with pytest.raises(ContractError, match="golden"), pipeline() as p:
            _ = p | beam.Create(paths[0]) | Classify(front.address, MODEL_NAME)


@pytest.mark.parametrize(
    ("element", "message"),
    [
        (7, "an element is int: Classify takes paths .* the element is 7"),
        (b"bytes" * 99, r"an element is bytes: .* the element is b'bytes.*\.\.\..*bytes'"),
        (("key", 7), r"a pair with int: .* the element is \('key', 7\)"),
        ({"path": "rex.jpg"}, "an element is dict: .* the element is {'path': 'rex.jpg'}"),
    ],
)
def test_an_element_of_another_kind_is_refused(server: str, element: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message), pipeline() as p:
        _ = p | beam.Create([element]) | Classify(server, MODEL_NAME)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 0}, "top_k"),
        ({"batch_size": 0}, "batch_size"),
        ({"patience_s": -1}, "patience_s"),
        ({"server": None}, "server"),
        ({"version": "1"}, "version"),
        ({"tls": "ca.pem"}, "tls"),
        ({"wire": "jpeg"}, "wire"),
        ({"overrides": {}}, "overrides"),
        ({"limits": 5}, "limits"),
        ({"max_memory": "1G"}, "max_memory"),
        ({"storage": "s3"}, "storage"),
    ],
)
def test_wrong_arguments_are_refused_before_the_pipeline_runs(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Classify(**{"server": "localhost:8500", "model_name": "dogs"} | arguments)


def test_a_pipeline_is_built_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    built = beam.Pipeline() | beam.Create(["a.jpg"]) | Classify("localhost:8500", "dogs")
    assert built.predictions is not built.failures
    assert not caplog.records


class _Thing:
    def __init__(self, key: str) -> None:
        self.key, self.closed = key, False

    def close(self) -> None:
        self.closed = True


def test_threads_share_a_value_until_the_last_one_leaves() -> None:
    made: list[_Thing] = []

    def make(key: str) -> _Thing:
        made.append(_Thing(key))
        return made[-1]

    shared = shared_in_process.SharedInProcess(make)
    with ThreadPoolExecutor(8) as threads:
        things = list(threads.map(shared.acquire, ["a"] * 16))
    assert set(things) == set(made)
    assert len(made) == 1
    other = shared.acquire("b")
    for _ in range(15):
        shared.release("a")
    assert not things[0].closed
    shared.release("a")
    assert things[0].closed
    assert not other.closed
    assert shared.acquire("a") is not things[0]


def test_threads_share_the_error_of_a_value_that_cant_be_made() -> None:
    tries: list[str] = []
    all_wait = threading.Barrier(8)

    def make(key: str) -> _Thing:
        tries.append(key)
        waiting.wait()
        if len(tries) == 1:
            raise ServerUnavailable("away", key)
        return _Thing(key)

    waiting = threading.Event()
    shared = shared_in_process.SharedInProcess(make)

    def acquire(_: int) -> str:
        all_wait.wait()
        with pytest.raises(ServerUnavailable) as error:
            shared.acquire("a")
        return str(error.value)

    with ThreadPoolExecutor(8) as threads:
        errors = [threads.submit(acquire, number) for number in range(8)]
        while shared.users("a") < 8:
            pass
        waiting.set()
        assert {error.result() for error in errors} == {"away (asked a)"}
    assert len(tries) == 1
    assert not shared.acquire("a").closed
    assert shared.users("a") == 1


@pytest.fixture(scope="module")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server of the model `m`, versions 1 and 2, that has a signature for each case."""
    from serving.server import EmbeddedServer, ServerOptions
    from tests.serving.server.saved_models import write_model

    folder = tmp_path_factory.mktemp("small")
    write_model(folder / "m", 1)
    write_model(folder / "m", 2)
    config = folder / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{folder}/m" model_platform: "tensorflow"'
        " model_version_policy { latest { num_versions: 2 } } } }"
    )
    with EmbeddedServer(options=ServerOptions(model_config_file=str(config), port=-1, host="127.0.0.1")) as running:
        yield running.address


def infer(handler: Any, examples: Sequence[Any]) -> list[Any]:
    """The results of RunInference, in the order of the bundle."""
    with pipeline() as p:
        (results,) = collect(p | beam.Create(examples) | RunInference(handler))
    return results


def rows(count: int) -> list[np.ndarray[Any, Any]]:
    return [np.array([n, -n], np.float32) for n in range(count)]


def test_run_inference_answers_each_example(small_server: str) -> None:
    results = infer(TFServingModelHandler(small_server, "m", batch_size=4), rows(11))
    assert len(results) == 11
    for result in results:
        np.testing.assert_allclose(result.inference["y"], result.example + 2)  # version 2 adds 2
        assert result.model_id == "m/2"
    assert sorted(result.example[0] for result in results) == list(range(11))


def test_run_inference_with_keys_and_a_pinned_version(small_server: str) -> None:
    handler = KeyedModelHandler(TFServingModelHandler(small_server, "m", version=1, batch_size=3))
    results = infer(handler, [(f"key {n}", row) for n, row in enumerate(rows(8))])
    assert {key: result.inference["y"].tolist() for key, result in results} == {
        f"key {n}": [n + 1, 1 - n] for n in range(8)
    }
    assert {result.model_id for _, result in results} == {"m/1"}


def test_run_inference_of_named_tensors_and_chosen_outputs(small_server: str) -> None:
    handler = TFServingModelHandler(small_server, "m", signature="two", outputs=["product"])
    results = infer(handler, [{"a": np.float32(n), "b": 3} for n in range(5)])
    assert sorted(float(result.inference["product"]) for result in results) == [0, 3, 6, 9, 12]
    assert {tuple(result.inference) for result in results} == {("product",)}


def test_run_inference_gives_every_output_strings_included(small_server: str) -> None:
    (result,) = infer(TFServingModelHandler(small_server, "m", signature="three"), [np.array([1, 2], np.float32)])
    assert result.inference["double"].tolist() == [2, 4]
    assert result.inference["row"] == 3
    assert result.inference["text_bytes"].startswith(b"1.0")


def test_run_inference_between_functions_of_the_user(small_server: str) -> None:
    handler = (
        TFServingModelHandler(small_server, "m")
        .with_preprocess_fn(lambda number: np.array([number, 0], np.float32))
        .with_postprocess_fn(lambda result: float(result.inference["y"][0]))
    )
    assert sorted(infer(handler, [1, 2, 3])) == [3, 4, 5]


def test_a_broken_image_is_a_result_and_costs_the_others_nothing(
    server: str, model_store: Path, paths: tuple[list[str], Any]
) -> None:
    files = {path: Path(path).read_bytes() for path in paths[0][:5]} | {"broken": b"no image"}
    handler = KeyedModelHandler(TFServingModelHandler(server, MODEL_NAME, signature="serving_encoded"))
    results = {key: result.inference for key, result in infer(handler, list(files.items()))}
    assert {key: bool(row["ok"]) for key, row in results.items()} == {key: key != "broken" for key in files}
    for path, (_, score) in plain_loop(model_store, paths[0][:5]).items():
        assert results[path]["probabilities"].max() == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("signature", ["serving_default", "serving_uint8"])
def test_run_inference_of_image_arrays(server: str, signature: str) -> None:
    dtype = np.float32 if signature == "serving_default" else np.uint8
    results = infer(
        TFServingModelHandler(server, MODEL_NAME, signature=signature),
        [np.ones((IMAGE_SIZE, IMAGE_SIZE, 3), dtype)] * 3,
    )
    assert [result.inference["probabilities"].sum() for result in results] == pytest.approx([1, 1, 1], abs=1e-4)


def test_an_answer_that_lacks_rows_fails_the_bundle(small_server: str) -> None:
    handler = TFServingModelHandler(small_server, "m", signature="total")
    with pytest.raises(Exception, match=r"output y is float32 \[\] for a request of 3 examples"):
        infer(handler, rows(3))


def test_an_answer_that_is_cut_on_its_way_fails_the_bundle(small_server: str) -> None:
    def cut(reply: bytes) -> bytes:
        message = pb.PredictResponse.FromString(reply)
        tensor = message.outputs["y"]
        del tensor.float_val[-2:]
        tensor.tensor_shape.dim[0].size -= 1
        return message.SerializeToString()

    with Front(small_server) as front:
        front.spoil, front.spoilt_share = cut, 1.0
        with pytest.raises(Exception, match=r"output y is float32 \[2, 2\] for a request of 3 examples"):
            infer(TFServingModelHandler(front.address, "m"), rows(3))


@pytest.mark.parametrize(
    ("signature", "examples", "message"),
    [
        ("serving_default", [np.zeros(2)], r"an example is float64 \[2\]; input x .* takes float32 \[2\]"),
        ("serving_default", [b"bytes"], "an example is bytes; input x"),
        ("serving_default", [np.zeros(3, np.float32)], r"an example is float32 \[3\]; input x .* takes float32 \[2\]"),
        ("serving_default", [np.zeros([2, 1], np.float32)], r"an example is float32 \[2, 1\]"),
        ("row_sizes", [*rows(1), np.zeros(3, np.float32)], "the same shape for a whole batch"),
        ("two", rows(1), "has the inputs a, b: an example must be a dict"),
        ("two", [{"a": np.float32(1)}], "an example has a; signature two has the inputs a, b"),
        ("decode", rows(1), "input text of signature decode takes bytes"),
    ],
)
def test_an_example_that_does_not_fit_is_not_sent(
    small_server: str, signature: str, examples: list[Any], message: str
) -> None:
    with Front(small_server) as front:
        with pytest.raises(Exception, match=f"{message}.*nothing was sent"):
            infer(TFServingModelHandler(front.address, "m", signature=signature), examples)
        assert front.asked == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"signature": "other"}, "the model has no signature other"), ({"outputs": ["z"]}, "has no output z, but y")],
)
def test_a_signature_that_is_not_there(small_server: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        TFServingModelHandler(small_server, "m", **arguments).load_model()


def test_a_refused_request_fails_the_bundle(small_server: str) -> None:
    handler = TFServingModelHandler(small_server, "m", signature="decode")
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        infer(handler, [b"not base 64!"])


def test_run_inference_fails_when_the_server_goes_away(small_server: str) -> None:
    with Front(small_server) as front:
        front.spared, front.refused_share = 2, 1.0
        front.refusals = ((grpc.StatusCode.UNAVAILABLE, "gone"),)
        with pytest.raises(Exception, match="UNAVAILABLE: gone; tried for"):
            infer(TFServingModelHandler(front.address, "m", batch_size=2, **BRIEF), rows(10))
    assert front.asked > 3  # once more, at least


@pytest.mark.parametrize(
    "arguments",
    [{"signature": None}, {"outputs": 3}, {"batch_size": "many"}, {"max_batch_duration_secs": -1}, {"tls": "ca.pem"}],
)
def test_wrong_arguments_of_a_handler_are_refused(arguments: dict[str, Any]) -> None:
    [name] = arguments
    with pytest.raises(UsageError, match=f"`{name}`"):
        TFServingModelHandler("localhost:8500", "m", **arguments)


def test_what_run_inference_asks_a_handler_about() -> None:
    handler = TFServingModelHandler("localhost:8500", "m", batch_size=16, max_batch_duration_secs=2)
    assert handler.batch_elements_kwargs() == {
        "min_batch_size": 16,
        "max_batch_size": 16,
        "max_batch_duration_secs": 2,
    }
    assert handler.get_num_bytes([b"1234", {"a": np.zeros(3, np.float32), "b": b"56"}]) == 4 + 12 + 2
    assert handler.get_metrics_namespace() == "flow_images"
    assert not handler.share_model_across_processes()
    handler.validate_inference_args(None)
    with pytest.raises(UsageError, match="temperature"):
        handler.validate_inference_args({"temperature": 1})
