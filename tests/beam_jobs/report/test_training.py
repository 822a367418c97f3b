"""What a model's folder says of its training."""

from pathlib import Path
from typing import Any

import pytest

from beam_jobs.complete_run import CompleteRun
from beam_jobs.plan import RunFolder
from beam_jobs.report.training import Training, find_training
from serving.storage.disk import Disk
from serving.storage.stores import Stores
from tests.beam_jobs.report.complete_runs import Image, complete


def training(output: Path, model: object) -> Training | None:
    recorded: dict[str, Any] = {} if model is None else {"model": str(model)}
    complete(output, [Image("a.png", [0.75, 0.25])], ["cat", "dog"], recorded=recorded)
    return find_training(CompleteRun(RunFolder(Disk(), str(output))), str(output), Stores())


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of the version that the run asked."""
    folder = tmp_path / "models" / "m" / "1"
    (folder / "assets.extra").mkdir(parents=True)
    (folder / "report.html").touch()
    (folder / "assets.extra" / "training.json").write_text(
        '{"accuracy": 0.9, "accuracy_interval": [0.8, 0.95], "x": 1}'
    )
    return folder


@pytest.mark.parametrize("named", ["models/m", "models/m/", "models/m/1"])
def test_the_folder_is_found_by_the_models_or_the_versions_name(
    tmp_path: Path, version: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Training(
        accuracy=0.9, accuracy_interval=(0.8, 0.95), report=f"{version}/report.html", link="../models/m/1/report.html"
    )
    assert training(tmp_path / "out", tmp_path / named) == expected
    monkeypatch.chdir(tmp_path)  # a relative name is that of the run's folder, whatever the caller's is later
    complete(tmp_path / "other", [Image("a.png", [0.75, 0.25])], ["cat", "dog"], recorded={"model": named})
    monkeypatch.chdir("/")
    run = CompleteRun(RunFolder(Disk(), str(tmp_path / "other")))
    assert find_training(run, str(tmp_path / "other"), Stores()) == expected


def test_a_model_that_was_not_trained_here_has_none(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    assert training(tmp_path / "out", tmp_path / "m") == Training()
    assert training(tmp_path / "gone", tmp_path / "nowhere") == Training()
    assert training(tmp_path / "served", None) is None


@pytest.mark.parametrize("text", ["", "[]", '{"accuracy": "high"}', '{"accuracy_interval": [1]}'], ids=range(4))
def test_a_record_that_can_not_be_read_is_left_out(tmp_path: Path, version: Path, text: str) -> None:
    (version / "assets.extra" / "training.json").write_text(text)
    found = training(tmp_path / "out", version.parent)
    assert found is not None
    assert (found.accuracy, found.accuracy_interval) == (None, None)
    assert found.report == f"{version}/report.html"


def test_a_model_in_a_bucket_is_told_and_not_linked(tmp_path: Path, s3_folder: str) -> None:
    store = Stores()(s3_folder)
    store.create(f"{s3_folder}/m/1/report.html", b"")
    store.create(f"{s3_folder}/m/1/assets.extra/training.json", b'{"accuracy": 0.9}')
    assert training(tmp_path / "out", f"{s3_folder}/m") == Training(accuracy=0.9, report=f"{s3_folder}/m/1/report.html")


def test_a_store_that_is_away_costs_only_this(tmp_path: Path) -> None:
    assert training(tmp_path / "out", "nostore://bucket/m") is None
