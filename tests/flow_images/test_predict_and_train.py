"""`fi.train` and `fi.predict`: the commands' work as functions, with real models and servers."""

import csv
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import flow_images as fi
from beam_jobs import stop_request
from tests.conftest import IMAGE_SIZE, MODEL_NAME
from tests.faults.front import Front


def column(path: Path, name: str) -> list[str]:
    with open(path, newline="", encoding="utf-8") as file:
        return [row[name] for row in csv.DictReader(file)]


def test_a_model_is_trained_and_then_predicts(drawn: Path, hub_module: Path, tmp_path: Path) -> None:
    trained = fi.train(
        labels=str(drawn / "labels.csv"),
        images=str(drawn / "train"),
        hub_model=str(hub_module),
        image_size=IMAGE_SIZE,
        epochs=8,
        model_store=str(tmp_path / "models"),
        name="dogs",
        version=7,
    )
    assert (trained.path, trained.version) == (str(tmp_path / "models" / "dogs" / "7"), 7)
    assert (Path(trained.path) / "saved_model.pb").is_file()
    assert trained.labels == ("checks", "clouds", "dots", "rings", "stripes", "waves")
    found = trained.evaluation
    assert trained.training_images + trained.validation_images + found.images == 48
    assert trained.accuracy == sum(one.right for one in found.classes) / found.images
    assert [one.label for one in found.classes] == list(trained.labels)
    assert Path(trained.report).read_text().startswith("<!DOCTYPE html>")

    again = fi.evaluate(model=trained.path, labels=str(drawn / "labels.csv"), images=str(drawn / "train"),
                        output=str(tmp_path / "evaluated"))  # fmt: skip
    assert (again.version, again.evaluation.images, again.known) == (7, 48, 48 - found.images)

    account = fi.predict(inputs=[str(drawn / "train")], output=str(tmp_path / "out"), model=trained.path)
    assert (account.listed, account.predicted, account.rejected, account.failed) == (48, 48, 0, 0)
    paths = column(tmp_path / "out" / "predictions.csv", "path")
    assert paths == sorted(str(path) for path in (drawn / "train").iterdir())
    assert json.loads((tmp_path / "out" / "run.json").read_text())["model"]["version"] == 7


def test_a_complete_job_gives_its_account_again(
    server: str, drawn: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(drawn / "train", tmp_path / "in")
    (tmp_path / "in" / "page.jpg").write_bytes(b"<html>")
    job: dict[str, Any] = {"inputs": [str(tmp_path / "in")], "output": str(tmp_path / "out"), "model_name": MODEL_NAME}
    first = fi.predict(server=server, batch_size=16, wire="encoded", **job)
    assert (first.listed, first.predicted, first.rejected, first.failed) == (49, 48, 1, 0)
    assert fi.predict(server="127.0.0.1:1", wire="encoded", **job) == first  # nothing is left to ask
    assert "complete since " in caplog.text
    assert "with version 1 of textures: nothing is left to do" in caplog.text


def test_a_server_that_is_away_stops_the_job_resumably(server: str, drawn: Path, tmp_path: Path) -> None:
    job: dict[str, Any] = {"inputs": [str(drawn / "train")], "output": str(tmp_path / "out"), "model_name": MODEL_NAME}
    with pytest.raises(fi.errors.Resumable):
        fi.predict(server="127.0.0.1:1", patience_s=0, **job)
    assert fi.predict(server=server, wire="encoded", **job).predicted == 48


def test_ctrl_c_leaves_the_job_resumable(server: str, drawn: Path, tmp_path: Path) -> None:
    job: dict[str, Any] = {"inputs": [str(drawn / "train")], "output": str(tmp_path / "out"), "model_name": MODEL_NAME}
    with Front(server) as front:
        front.hold_after(3)

        def press() -> None:
            while not front.held:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=press, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            fi.predict(server=front.address, wire="encoded", batch_size=4, **job)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not (tmp_path / "out" / "run.json").exists()
    assert fi.predict(server=server, wire="encoded", batch_size=4, **job).predicted == 48


def test_ctrl_c_ends_the_call_while_an_import_can_not_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    importing, imported = threading.Event(), threading.Event()

    def job(*given: object) -> None:
        with stop_request.run_in_progress():
            importing.set()
            imported.wait()
            stop_request.raise_if_stopped()

    def press() -> None:
        importing.wait()
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("flow_images.prediction.run_job", job)
    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        fi.predict(inputs=["photos/"], output="out/", model="models/dogs")
    assert stop_request.STOP.is_set()
    imported.set()
    stop_request.wait_for_stopped_runs()  # as the next call does
    stop_request.raise_if_stopped()


def test_shards_are_merged_by_the_last(server: str, drawn: Path, tmp_path: Path) -> None:
    from beam_jobs.predict_options import Shard

    job: dict[str, Any] = {
        "inputs": [str(drawn / "train")], "output": str(tmp_path / "out"), "model_name": MODEL_NAME, "server": server,
        "wire": "encoded",
    }  # fmt: skip
    with pytest.raises(fi.errors.Resumable, match="shard 0/2 is done, but other shards are not: the last one"):
        fi.predict(shard=Shard(0, 2), **job)
    assert fi.predict(shard=Shard(1, 2), **job).predicted == 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"inputs": ["x"]}, "server", id="no server"),
        pytest.param({"inputs": ["x"], "server": "localhost:8500"}, "model_name", id="no name"),
        pytest.param({"inputs": ["x"], "server": "h:1", "model_name": "m", "output": ""}, "`output`", id="output"),
        pytest.param({"inputs": ["x"], "server": "h:1", "model_name": "m", "top_k": 0}, "`top_k`", id="top_k"),
    ],
)
def test_wrong_keywords_are_told_before_anything_is_asked(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(fi.errors.UsageError, match=message):
        fi.predict(**{"output": str(tmp_path / "out")} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({}, "`labels`", id="no images"),
        pytest.param({"labels": "a.csv", "folder": "b"}, "`folder`", id="both"),
        pytest.param({"labels": "a.csv", "epochs": 0}, "`epochs`", id="epochs"),
        pytest.param({"labels": "/nowhere.csv"}, "/nowhere.csv", id="no such file"),
    ],
)
def test_wrong_keywords_of_a_training(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(fi.errors.UsageError, match=message):
        fi.train(model_store=str(tmp_path), name="dogs", **arguments)
    assert not list(tmp_path.iterdir())
