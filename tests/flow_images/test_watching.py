"""What a caller's function is told of a whole job, and what becomes of its errors."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flow_images as fi
from tests.conftest import MODEL_NAME

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def job(server: str, drawn: Path, tmp_path: Path) -> dict[str, Any]:
    """Keywords of a prediction of 48 images, and one that is none."""
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    return {
        "inputs": [str(drawn / "train"), str(tmp_path / "page.jpg")], "output": str(tmp_path / "out"),
        "model_name": MODEL_NAME, "server": server, "wire": "encoded", "batch_size": 1,
    }  # fmt: skip


def test_a_function_is_told_of_each_image(job: dict[str, Any]) -> None:
    told: list[fi.Progress] = []
    fi.predict(**job, progress=told.append)
    assert [now.done for now in told if now.step == "predicting"] == list(range(50))
    assert {now.total for now in told if now.step == "predicting"} == {49}
    steps = list(dict.fromkeys(now.step for now in told))
    assert steps == [
        f"asking {job['server']}", "checking 16 golden images", "listing the images", "predicting",
        "writing the results", "complete",
    ]  # fmt: skip
    assert told[-1] == fi.Progress("complete", 49, 49, "1 rejected")


class Unwanted(Exception):
    """Of a caller's own."""


@pytest.mark.parametrize(("step", "at"), [("listing the images", 0), ("predicting", 20), ("writing the results", 0)])
def test_an_error_of_the_function_reaches_the_caller_and_the_same_call_goes_on(
    job: dict[str, Any], step: str, at: int
) -> None:
    calls: list[fi.Progress] = []

    def fail(now: fi.Progress) -> None:
        calls.append(now)
        if (now.step, now.done) == (step, at):
            raise Unwanted(now)

    with pytest.raises(Unwanted, match=step):
        fi.predict(**job, progress=fail)
    assert (calls[-1].step, calls[-1].done) == (step, at)  # it isn't called again
    assert fi.predict(**job).predicted == 48


def test_what_is_done_before_an_error_of_the_function_is_kept(job: dict[str, Any]) -> None:
    def fail(now: fi.Progress) -> None:
        if now.step == "writing the results":
            raise Unwanted

    with pytest.raises(Unwanted):
        fi.predict(**job, progress=fail)
    told: list[fi.Progress] = []
    fi.predict(**job, progress=told.append)
    assert "predicting" not in [now.step for now in told]


def test_a_function_is_told_of_a_training_and_may_end_it(drawn: Path, hub_module: Path, tmp_path: Path) -> None:
    told: list[fi.Progress] = []

    def fail(now: fi.Progress) -> None:
        told.append(now)
        if now.step == "training the head" and now.done == 3:
            raise Unwanted

    with pytest.raises(Unwanted):
        fi.train(
            labels=str(drawn / "labels.csv"), images=str(drawn / "train"), hub_model=str(hub_module), image_size=64,
            epochs=8, model_store=str(tmp_path / "models"), name="dogs", progress=fail,
        )  # fmt: skip
    assert not list((tmp_path / "models").rglob("saved_model.pb"))
    reading = [now.done for now in told if now.step == "reading and checking 48 images"]
    assert reading == list(range(49))
    assert told[-1].total == 8
    assert told[-1].detail.startswith("validation accuracy ")


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(fi.errors.UsageError, match="`progress` must be True, False, None or a function, not 'bar'"):
        fi.predict(inputs=["x"], output="out", server="h:1", model_name="m", progress="bar")  # type: ignore[arg-type]


@pytest.mark.parametrize(("progress", "shown"), [("None", False), ("False", False), ("True", True)])
def test_elsewhere_a_job_is_silent_unless_it_is_told_to_show_its_progress(
    job: dict[str, Any], progress: str, shown: bool
) -> None:
    script = f"import flow_images as fi; fi.predict(**{job!r}, progress={progress})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == ""
    assert ("flow-images: predicting 49 images" in done.stderr) == shown == bool(done.stderr)
