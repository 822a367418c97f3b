"""Errors that cross a runner: the worker's own come out again, whatever was done to them on the way."""

import logging
import pickle

import pytest

from beam_jobs import run  # noqa: F401  which imports every error that a worker may raise
from beam_jobs.parts import BrokenPart
from beam_jobs.plan import OutputGone
from beam_jobs.runner_errors import error_classes, error_from_text, worker_errors
from beam_jobs.source_outage import SourceGone
from beam_jobs.stop_request import Interrupted
from beam_jobs.worker import VersionGone
from serving.errors import DiskFull, FlowImagesError, ServerUnavailable, StorageError, StorageUnavailable

KINDS = error_classes()
STEP = " [while running 'Predict/ParDo(_PredictChunk)']"
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def test_all_errors_of_a_worker_are_known() -> None:
    of_workers = {Interrupted, BrokenPart, OutputGone, SourceGone, VersionGone, StorageError, StorageUnavailable}
    assert of_workers | {DiskFull, ServerUnavailable, FlowImagesError} <= set(KINDS)
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS)  # or one could not be told from another


@every_kind
def test_errors_survive_a_pickle(kind: type[FlowImagesError]) -> None:
    for args in (("gone",), ("gone", "host:1")):
        raised = kind(*args)
        error = pickle.loads(pickle.dumps(raised))
        assert type(error) is kind
        assert error.args == raised.args
        assert str(error) == str(raised)


@every_kind
def test_the_step_is_taken_out_of_the_message(kind: type[FlowImagesError]) -> None:
    """Beam makes the error anew with the step's name in its first argument."""
    with pytest.raises(kind) as error, worker_errors():
        raise kind("a.jpg is gone" + STEP, "host:1")
    assert type(error.value) is kind
    assert error.value.args[:2] == kind("a.jpg is gone", "host:1").args[:2]


@every_kind
def test_an_error_is_found_in_the_text_of_a_runner(kind: type[FlowImagesError]) -> None:
    text = f"""bundle failed: Traceback (most recent call last):
  File "worker.py", line 1, in work
ValueError: a cause

The above exception was the direct cause of the following exception:

{kind.__module__}.{kind.__name__}: a.jpg is gone: it was there{STEP}

"""
    with pytest.raises(kind) as error, worker_errors():
        raise RuntimeError(text)
    assert type(error.value) is kind
    assert error.value.args == kind("a.jpg is gone: it was there").args


def test_what_is_not_ours_is_the_runners() -> None:
    error = error_from_text("RuntimeError: no job service")
    assert type(error) is FlowImagesError
    assert str(error) == "the Beam runner failed: RuntimeError: no job service"


def test_a_stack_trace_is_logged_for_others_errors_only(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("apache_beam.runners.common")
    with worker_errors():
        for error in (FlowImagesError("ours"), ValueError("theirs")):
            try:
                raise error
            except Exception:
                logger.exception("a step failed")
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]
    assert not logger.filters
