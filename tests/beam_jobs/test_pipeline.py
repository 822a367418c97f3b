"""The transform on Beam's own local runner: each chunk number comes back, and has its part."""

from pathlib import Path

import apache_beam as beam
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.pipeline import PredictChunks
from beam_jobs.worker import WorkerSpec
from tests.beam_jobs.conftest import COUNT
from tests.beam_jobs.model_server import ModelServer
from tests.beam_jobs.runs import parts_of


def predict(spec: WorkerSpec, chunks: list[int]) -> dict[str, int]:
    """Runs the transform, and gives its counters."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    done = pipeline | beam.Create(chunks) | PredictChunks(spec)
    assert_that(done, equal_to(chunks))
    metrics = pipeline.run().metrics().query(MetricsFilter().with_namespace("flow_images"))
    return {counter.key.metric.name: counter.committed for counter in metrics["counters"]}


def part_times(spec: WorkerSpec) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(parts_of(spec).folder).glob("*.jsonl")}


def test_each_chunk_gets_its_part_and_each_outcome_is_counted(spec: WorkerSpec, images: Path) -> None:
    (images / "00.png").write_bytes(b"no image")
    counters = predict(spec, [0, 1, 2, 3])
    assert {name: count for name, count in counters.items() if count} == {"predicted": COUNT - 1, "rejected": 1}
    outcomes = [parts_of(spec).read(0, chunk) for chunk in range(4)]
    assert [one.row for part in outcomes for one in part] == [0, 1, 2, 3] * 4


def test_a_bundle_that_is_run_again_writes_nothing_anew(spec: WorkerSpec, model: ModelServer) -> None:
    predict(spec, [0, 1])
    before, asked = part_times(spec), len(model.asked)
    counters = predict(spec, [1, 0, 2])
    assert counters["predicted"] == 4
    assert len(model.asked) == asked + 4
    assert before.items() <= part_times(spec).items()


def test_a_chunk_that_comes_twice_at_once_has_one_part(spec: WorkerSpec) -> None:
    predict(spec, [3, 3, 3, 3])
    assert [one.row for one in parts_of(spec).read(0, 3)] == [0, 1, 2, 3]
    assert list(part_times(spec)) == ["0-00000003.jsonl"]
