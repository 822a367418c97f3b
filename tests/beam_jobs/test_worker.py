"""A worker alone: real files, a real server, one part a chunk or none."""

import dataclasses
import pickle
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from beam_jobs import progress, stop_request
from beam_jobs.chunk_predictor import ChunkOptions
from beam_jobs.parts import Outcome
from beam_jobs.source_outage import SourceGone
from beam_jobs.stop_request import Interrupted
from beam_jobs.worker import ChunkWorker, VersionGone, WorkerSpec
from serving.errors import ServerUnavailable
from serving.network.retry import RetryPolicy
from serving.storage.storage_options import S3Options, StorageOptions
from tests.beam_jobs.model_server import ModelServer, Refusal, image
from tests.beam_jobs.runs import make_unreadable, parts_of


def work(spec: WorkerSpec, *chunks: int) -> list[dict[str, int]]:
    with ChunkWorker(spec) as worker:
        return [dict(worker.work(chunk)) for chunk in chunks]


def test_a_chunk_gets_its_part_once(spec: WorkerSpec, model: ModelServer) -> None:
    assert work(spec, 1) == [{"predicted": 4}]
    assert [one.row for one in parts_of(spec).read(0, 1)] == [0, 1, 2, 3]
    assert sorted(model.asked) == sorted(image(10 * number + 3) for number in range(4, 8))  # requests overlap
    assert work(spec, 1) == [{}]
    assert len(model.asked) == 4


def test_a_part_tells_when_it_was_made_and_what_was_repeated(spec: WorkerSpec, model: ModelServer) -> None:
    refusals = iter(range(3))

    def busy(files: Any) -> None:
        if next(refusals, None) is not None:
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "busy")

    patient = dataclasses.replace(spec, retry=RetryPolicy(patience_s=60, deadline_s=30, first_delay_s=0))
    before = time.time()
    with ChunkWorker(patient) as worker:
        worker.work(0)
        model.step = busy
        worker.work(1)
        model.step = lambda files: None
        worker.work(2)
    first, second, third = sorted(parts_of(spec).works())
    assert (first.requests, second.requests, third.requests) == (0, 3, 0)
    assert before - 0.001 <= first.began <= second.began <= third.began <= third.ended <= time.time() + 0.001
    assert [one.images for one in (first, second, third)] == [4, 4, 4]
    assert [one.row for one in parts_of(spec).read(0, 1)] == [0, 1, 2, 3]


def test_progress_is_reported_row_by_row(spec: WorkerSpec) -> None:
    done: list[str] = []
    with progress.listening(spec.plan.id, done.append):
        work(spec, 0)
    assert done == ["predicted"] * 4


def test_a_later_generation_asks_only_for_what_may_change(spec: WorkerSpec, model: ModelServer) -> None:
    parts = parts_of(spec)
    verdicts = ("predicted", "failed", "rejected", "failed")
    parts.write(0, 0, [Outcome(row, verdict) for row, verdict in enumerate(verdicts)])  # type: ignore[arg-type]
    parts.add_generation(1, {0: [1, 3]})
    assert work(dataclasses.replace(spec, generation=1), 0) == [{"predicted": 2}]
    assert sorted(model.asked) == sorted([image(13), image(33)])
    assert [one.row for one in parts.read(1, 0)] == [1, 3]


def test_an_image_that_is_gone_is_missing(spec: WorkerSpec, images: Path) -> None:
    (images / "02.png").unlink()
    assert work(spec, 0) == [{"predicted": 3, "rejected": 1}]
    assert parts_of(spec).read(0, 0)[2].reason == "missing"


def test_images_that_are_all_gone_are_no_rows(spec: WorkerSpec, images: Path) -> None:
    images.rename(images.parent / "away")
    with pytest.raises(SourceGone, match=str(images)):
        work(spec, 0)
    assert not parts_of(spec).exists(0, 0)
    (images.parent / "away").rename(images)
    assert work(spec, 0) == [{"predicted": 4}]


def test_an_image_that_cannot_be_read_fails_alone(spec: WorkerSpec, images: Path) -> None:
    make_unreadable(images / "02.png")
    assert work(spec, 0) == [{"predicted": 3, "failed": 1}]
    found = parts_of(spec).read(0, 0)[2]
    assert (found.stage, found.reason) == ("read", "unreadable")
    assert "Input/output error" in found.message


def test_images_that_all_cannot_be_read_are_no_rows(spec: WorkerSpec, images: Path) -> None:
    """As a mount answers whose disk is broken."""
    for path in images.iterdir():
        make_unreadable(path)
    with pytest.raises(SourceGone, match=f"{images} .*can no longer be read.*the same command continues") as error:
        work(spec, 0)
    assert error.value.exit_code == 75
    assert not parts_of(spec).exists(0, 0)


def test_a_version_that_is_gone_stops_the_run(spec: WorkerSpec, model: ModelServer) -> None:
    model.versions = [2]
    with pytest.raises(VersionGone, match="version 1 of brightness is no longer served") as error:
        work(spec, 0)
    assert error.value.exit_code == 75
    assert not parts_of(spec).exists(0, 0)


def test_a_stop_drops_the_chunk(spec: WorkerSpec, model: ModelServer) -> None:
    model.step = lambda files: stop_request.request_stop()
    with stop_request.run_in_progress(), pytest.raises(Interrupted):
        work(dataclasses.replace(spec, chunk=ChunkOptions(batch_size=4)), 0)  # one request
    assert not parts_of(spec).exists(0, 0)


def test_a_worker_goes_on_after_a_failure(spec: WorkerSpec, model: ModelServer) -> None:
    """As in the next bundle, or when a runner tries the same one again."""

    def away(files: Any) -> None:
        raise Refusal(grpc.StatusCode.UNAVAILABLE, "going away")

    with ChunkWorker(spec) as worker:
        model.step = away
        with pytest.raises(ServerUnavailable):
            worker.work(0)
        model.step = lambda files: None
        worker.forget_failure()
        assert worker.work(0) == {"predicted": 4}


def test_a_spec_travels_and_shows_no_secrets(spec: WorkerSpec) -> None:
    secret = dataclasses.replace(spec, storage=StorageOptions(s3=S3Options(secret_access_key="hunter2")))
    assert pickle.loads(pickle.dumps(secret)) == secret
    assert "hunter2" not in repr(secret)
