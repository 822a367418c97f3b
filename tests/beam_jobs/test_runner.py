"""Running the pipeline: the worker's own errors come out, and nothing is left behind."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest

from beam_jobs.beam_flags import parse_beam_flags
from beam_jobs.runner import run_pipeline
from beam_jobs.source_check import SourceGone
from beam_jobs.worker import WorkerSpec
from serving.errors import ServerUnavailable
from tests.beam_jobs.model_server import ModelServer, Refusal
from tests.beam_jobs.runs import parts_of


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
