"""The pipeline on Beam's own local runner: each chunk has its part, errors come out, and nothing is left behind."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.beam_flags import parse_beam_flags
from beam_jobs.pipeline import PredictChunks, run_pipeline
from beam_jobs.source_outage import SourceGone
from beam_jobs.worker import WorkerSpec
from serving.errors import ServerUnavailable
from tests.beam_jobs.conftest import COUNT
from tests.beam_jobs.model_server import ModelServer, Refusal
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


def test_nothing_of_beam_is_left_where_temporary_files_are(
    spec: WorkerSpec, model: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while the pipeline runs: a process that is killed then could not remove it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    found: list[Path] = []
    model.step = lambda files: found.extend((tmp_path / "temporary").iterdir())
    run_pipeline(spec, [0, 1, 2, 3], parse_beam_flags([]))
    assert parts_of(spec).done(0) == {0, 1, 2, 3}
    assert found == list((tmp_path / "temporary").iterdir()) == []


def test_an_error_comes_out_as_the_worker_raised_it(
    spec: WorkerSpec, model: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    def away(files: Sequence[bytes]) -> None:
        raise Refusal(grpc.StatusCode.UNAVAILABLE, "going away")

    model.step = away
    with pytest.raises(ServerUnavailable) as error:
        run_pipeline(spec, [0, 1], parse_beam_flags([]))
    assert str(error.value) == f"UNAVAILABLE: going away (asked {model.address})"
    assert "Traceback" not in caplog.text


def test_a_source_that_is_gone_is_named(spec: WorkerSpec, images: Path) -> None:
    images.rename(images.parent / "away")
    with pytest.raises(SourceGone, match=f"^{images} .* lists again what is there$"):
        run_pipeline(spec, [0, 1], parse_beam_flags([]))


def test_without_chunks_nobody_is_asked(spec: WorkerSpec, model: ModelServer) -> None:
    run_pipeline(spec, [], parse_beam_flags([]))
    assert not model.asked
