"""`flow-images models` tells which versions there are, how they were made, and what differs."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from serving.errors import UsageError
from serving.storage.stores import Stores
from tests.terminal import on_terminal
from trainer.evaluation.evaluation import EVALUATION_FILE
from trainer.images.labelled_images import LabelledImage
from trainer.images.split import Split
from trainer.lineage import IMAGES_FILE, GateRecord, TrainingRecord, images_csv, origin
from trainer.models_command import models
from trainer.train_options import TrainJob


def run(*words: object) -> Result:
    return CliRunner().invoke(models, [str(word) for word in words])


def put(folder: str, files: dict[str, str]) -> str:
    storage = Stores()(folder)
    for name, text in files.items():
        if "://" not in folder:
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
        assert storage.create(f"{folder}/{name}", text.encode())
    return folder


def version(folder: str, accuracy: float, images: list[str], **options: Any) -> str:
    """A published version, as far as it tells of itself."""
    job = TrainJob(folder="photos", model_store="m", name="dogs", **options)
    gates = (GateRecord(name="min_accuracy", passed=True, wanted="x", found="y"),)
    record = TrainingRecord(
        **origin("train", job), accuracy=accuracy, accuracy_interval=(0.5, 0.9), seed=0, gates=gates,
        images={"training": len(images)}, hyperparameters={"dropout": 0.4},
    )  # fmt: skip
    split = Split([LabelledImage(name, "pug") for name in images], [], [])
    return put(folder, {
        "assets.extra/training.json": record.model_dump_json(),
        "assets.extra/training_images.csv": images_csv(split, {name: f"digest of {name}" for name in images}),
        "saved_model.pb": "x",
    })  # fmt: skip


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store with the model dogs: version 3 made elsewhere, 5 and 9 trained, 9 with another seed and images."""
    root = f"{tmp_path}/store" if request.param == "disk" else request.getfixturevalue("s3_folder")
    put(f"{root}/dogs/3", {"saved_model.pb": "x"})
    version(f"{root}/dogs/5", 0.8, ["a.jpg", "b.jpg"], seed=1)
    version(f"{root}/dogs/9", 0.85, ["b.jpg", "c.jpg"], seed=2, fine_tune=True)
    return str(root)


def test_all_versions_are_listed(store: str) -> None:
    done = run("list", store, "--json")
    assert done.exception is None, done.output
    found = json.loads(done.output)
    assert [(one["version"], one["in_service"]) for one in found] == [(9, True), (5, False), (3, False)]
    assert found[0]["training"]["accuracy"] == 0.85
    assert found[2]["training"] is None
    assert json.loads(run("list", f"{store}/dogs", "--json").output) == found
    table = run("list", store).output
    for words in ("dogs", "0.850", "yes"):
        assert words in table


def test_a_terminal_of_80_columns_breaks_no_word_of_the_list(tmp_path: Path) -> None:
    name = "cats-and-dogs-and-everything-that-barks-or-meows"
    version(f"{tmp_path}/{name}/1796069772", 0.8, ["a.jpg"], seed=1)
    code, screen, _ = on_terminal(80, "models", "list", tmp_path)
    assert code == 0
    words = [word for line in screen for word in line.split()]
    assert {"1796069772", "0.800", "min_accuracy", "yes"} <= set(words), screen
    assert [word for word in words if re.fullmatch(r"\d{4}-\d\d-\d\d", word)]
    assert name in "".join(line.split()[0] for line in screen)  # below one another, and whole
    wide = on_terminal(200, "models", "list", tmp_path).screen
    assert f" {name} " in f" {wide[-1]} "
    assert "0.800 (0.500 to 0.900)" in wide[-1]


def test_one_version_is_shown(store: str) -> None:
    done = run("show", f"{store}/dogs")
    assert done.output.startswith(f"{store}/dogs/9 (in service)\n")
    assert "--fine-tune" in done.output
    assert "report               " + f"{store}/dogs/9/report.html" in done.output
    assert run("show", f"{store}/dogs/5").output.startswith(f"{store}/dogs/5\n")
    assert "it does not say how it was made" in run("show", f"{store}/dogs/3").output
    missing = run("show", f"{store}/dogs/4")
    assert isinstance(missing.exception, UsageError)
    assert "has no version 4, but 9, 5, 3" in str(missing.exception)


def test_what_differs_between_two_is_shown(store: str) -> None:
    found = json.loads(run("diff", f"{store}/dogs/5", f"{store}/dogs/9", "--json").output)
    assert found["measured"]["accuracy"] == [0.8, 0.85]
    assert found["options"] == {"fine_tune": [False, True], "seed": [1, 2]}
    assert found["images"] == {"added": ["c.jpg"], "removed": ["a.jpg"]}
    assert found["hyper-parameters"] == {}
    told = run("diff", f"{store}/dogs/5", f"{store}/dogs/9").output
    assert "0.8000 → 0.8500 (+0.0500)" in told
    assert "added                    1\n    c.jpg\n" in told
    assert isinstance(run("diff", f"{store}/dogs/3", f"{store}/dogs/9").exception, UsageError)


def test_a_spoilt_record_is_told_and_others_are_listed(tmp_path: Path) -> None:
    put(f"{tmp_path}/m/1", {"saved_model.pb": "x", "assets.extra/training.json": '{"accuracy": "high"}'})
    version(f"{tmp_path}/m/2", 0.5, ["a.jpg"])
    done = run("list", f"{tmp_path}/m")
    assert done.exception is None
    assert "0.500" in done.output
    assert f"{tmp_path}/m/1: training.json can't be read" in done.stderr


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    for words in (["list", f"{tmp_path}/none"], ["show", f"{tmp_path}/none/dogs"]):
        done = run(*words)
        assert isinstance(done.exception, UsageError)
        assert "none" in str(done.exception)


@pytest.mark.parametrize("name", [EVALUATION_FILE, IMAGES_FILE])
def test_a_damaged_file_of_a_version_is_named(tmp_path: Path, name: str) -> None:
    for number in (1, 2):
        version(f"{tmp_path}/m/{number}", 0.5, ["a.jpg"])
    (tmp_path / "m/2/assets.extra" / name).write_text("{")
    done = run("diff", f"{tmp_path}/m/1", f"{tmp_path}/m/2")
    assert isinstance(done.exception, UsageError)
    assert f"{tmp_path}/m/2/assets.extra/{name} is damaged" in str(done.exception)


def test_a_number_is_never_cut(tmp_path: Path) -> None:
    version(f"{tmp_path}/m/1795728989", 0.5, ["a.jpg"])
    assert " 1795728989 " in run("list", f"{tmp_path}/m").output


def test_versions_that_were_measured_on_other_images_are_told_apart(tmp_path: Path) -> None:
    for number, images in ((1, "ab"), (2, "bcd"), (3, "bcd")):
        split = Split([], [], [LabelledImage(f"{name}.jpg", "pug") for name in images])
        rows = images_csv(split, {f"{name}.jpg": name for name in images})
        record = TrainingRecord(**origin("train", TrainJob(folder="x", model_store="m", name="dogs")))
        put(f"{tmp_path}/m/{number}", {"assets.extra/training.json": record.model_dump_json(),
                                       "assets.extra/training_images.csv": rows, "saved_model.pb": "x"})  # fmt: skip
    found = json.loads(run("diff", f"{tmp_path}/m/1", f"{tmp_path}/m/2", "--json").output)
    assert found["test images"] == {"only of the old": 1, "only of the new": 2, "of both": 1}
    assert json.loads(run("diff", f"{tmp_path}/m/2", f"{tmp_path}/m/3", "--json").output)["test images"] == {}
