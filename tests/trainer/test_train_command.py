"""`flow-images train` as a user runs it."""

import csv
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from click.testing import CliRunner, Result

from serving.contract import ModelContract
from serving.errors import FlowImagesError, NotBlessed, UsageError
from tests.conftest import IMAGE_SIZE
from trainer.golden import undetected_errors
from trainer.train_command import train
from trainer.train_options import TrainOptions


def run(*arguments: object) -> Result:
    return CliRunner().invoke(train, [str(argument) for argument in arguments])


@pytest.fixture
def flags(drawn: Path, hub_module: Path, tmp_path: Path) -> list[object]:
    """A complete command over the drawn images."""
    return ["--labels", drawn / "labels.csv", "--images", drawn / "train", "--hub-model", hub_module, "--image-size",
            IMAGE_SIZE, "--model-store", tmp_path / "models", "--name", "textures", "--version", 5]  # fmt: skip


def extra(version: Path, name: str) -> Any:
    return json.loads((version / "assets.extra" / name).read_text())


def test_images_become_a_model_that_is_measured_and_reported(flags: list[object], drawn: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    labels = ["checks", "clouds", "dots", "rings", "stripes", "waves"]
    groups.write_text(
        "label,group\n" + "".join(f"{label},{'round' if label in 'dots,rings' else 'other'}\n" for label in labels)
    )
    done = run(*flags, "--min-accuracy", 0.4, "--min-lift", 0.1, "--groups", groups, "--target-precision", 0.3,
               "--tensorboard", tmp_path / "board", "--report", tmp_path / "copy")  # fmt: skip
    assert done.exception is None, done.output
    version = tmp_path / "models" / "textures" / "5"
    assert f"model: {version}" in done.output
    assert f"flow-images predict --model {version} " in done.output
    record, evaluation = extra(version, "training.json"), extra(version, "evaluation.json")
    assert record["accuracy"] == evaluation["accuracy"]["value"] > 0.4  # 6 classes: 0.17 by chance
    low, high = record["accuracy_interval"]
    assert (
        f"accuracy: {record['accuracy']:.3f} of {evaluation['images']} test images that the model has not seen, "
        f"{low:.3f} to {high:.3f} with 95 % confidence; so few images say little"
    ) in done.output
    parts = ", ".join(f"{count} for {part}" for part, count in record["images"].items())
    assert f"48 images of 6 classes: {parts}\n" in done.output
    assert sum(record["images"].values()) == 48
    assert record["left_out"] == {}
    assert record["images"]["test"] == evaluation["images"] == sum(row["images"] for row in evaluation["classes"])
    assert [gate["name"] for gate in record["gates"]] == ["min_accuracy", "min_lift"]
    rows = list(csv.DictReader((version / "assets.extra" / "training_images.csv").open()))
    assert len(rows) == 48
    assert rows[0]["digest"] == hashlib.sha256(Path(rows[0]["path"]).read_bytes()).hexdigest()
    contract = ModelContract.from_json((version / "assets.extra" / "contract.json").read_bytes())
    assert contract.groups is not None
    assert contract.groups["dots"] == "round"
    assert (contract.threshold, contract.target_precision) == (record["threshold"], 0.3)
    page = (version / "report.html").read_text()
    assert page == (tmp_path / "copy" / "report.html").read_text()
    assert f"{evaluation['accuracy']['value']:.1%}" in page
    assert "Published: it passed min_accuracy, min_lift." in page
    assert list((tmp_path / "board").rglob("events*"))
    checked = list(csv.DictReader((version / "assets.extra" / "label_check.csv").open()))
    assert len(checked) == record["images"]["training"]


def test_a_model_that_fails_a_gate_is_reported_and_not_published(flags: list[object], tmp_path: Path) -> None:
    done = run(*flags, "--epochs", 1, "--min-accuracy", 1, "--report", tmp_path / "why")
    assert isinstance(done.exception, NotBlessed)
    assert done.exception.exit_code == 4
    assert "the model was not published: `min_accuracy` wanted at least 1.000, found 0." in str(done.exception)
    assert f"Report: {tmp_path}/why/report.html" in str(done.exception)
    assert done.exception.report == f"{tmp_path}/why/report.html"
    assert "test images that the model has not seen" in done.output
    page = (tmp_path / "why" / "report.html").read_text()
    assert "Not published: it failed min_accuracy." in page
    assert "Images that min_accuracy failed on" in page
    assert page.count("data:image/webp") > 2
    assert not (tmp_path / "models").exists()


def test_a_model_that_is_worse_than_the_one_in_service_is_not_published(flags: list[object], tmp_path: Path) -> None:
    first = run(*flags, "--max-regression", 0, "--test-share", 0.25, "--no-thumbnails")
    assert first.exception is None, first.output
    assert "found no version is in service" in first.output
    assert "data:image" not in (tmp_path / "models" / "textures" / "5" / "report.html").read_text()
    spoilt = tmp_path / "spoilt.csv"  # the training images' labels are moved on by one class, the others' are right
    names = ["checks", "clouds", "dots", "rings", "stripes", "waves"]
    rows = list(csv.DictReader((tmp_path / "models/textures/5/assets.extra/training_images.csv").open()))
    with spoilt.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for row in rows:
            wrong = names[(names.index(row["label"]) + 1) % 6]
            writer.writerow([row["path"], wrong if row["split"] == "training" else row["label"], row["split"]])
    again = ["--labels", spoilt, *flags[4:], "--version", 6]
    done = run(*again, "--max-regression", 0.2)
    assert isinstance(done.exception, NotBlessed), done.output
    assert "`max_regression` wanted at most 0.200 below the version in service, found 0." in str(done.exception)
    assert "of version 5, on 12 images" in str(done.exception)


def test_what_cannot_be_used_stops_or_is_left_out(drawn: Path, flags: list[object], tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(drawn, folder)
    images = sorted((folder / "train").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:-900])
    with (folder / "labels.csv").open("a") as file:
        file.write("gone,dots\n")
    spoilt = ["--labels", folder / "labels.csv", "--images", folder / "train", *flags[4:], "--epochs", 1]
    done = run(*spoilt)
    assert isinstance(done.exception, UsageError)
    for words in ("2 problems with the images", "gone.jpg", f"{images[0]} is damaged"):
        assert words in str(done.exception)
    done = run(*spoilt, "--skip-bad")
    assert done.exception is None, done.output
    assert "2 of 48 images can't be used and are left out; the report names them" in done.output
    assert "left out: 2 that can't be used\n" in done.output
    assert extra(tmp_path / "models" / "textures" / "5", "training.json")["left_out"] == {"that can't be used": 2}
    assert "Left out: 2" in (tmp_path / "models" / "textures" / "5" / "report.html").read_text()


def test_the_same_training_again_finds_its_version_and_succeeds(flags: list[object], tmp_path: Path) -> None:
    first = run(*flags, "--epochs", 1)
    assert first.exception is None, first.output
    version = tmp_path / "models" / "textures" / "5"
    before = {path: path.stat().st_mtime_ns for path in version.rglob("*")}
    again = run(*flags, "--epochs", 1, "--report", tmp_path / "elsewhere")
    assert again.exception is None, again.output
    assert (
        f"{version} exists already, made of the same images with the same options; nothing was trained" in again.stdout
    )
    assert {path: path.stat().st_mtime_ns for path in version.rglob("*")} == before
    other = run(*flags, "--epochs", 2)
    assert isinstance(other.exception, UsageError)
    assert other.exception.exit_code == 2
    assert "exists already" in str(other.exception)
    assert "not made of these images with these options" in str(other.exception)


def test_an_existing_version_is_refused_before_anything_is_trained(flags: list[object], tmp_path: Path) -> None:
    (tmp_path / "models" / "textures" / "5").mkdir(parents=True)
    done = run(*flags)
    assert isinstance(done.exception, UsageError)
    assert "exists already" in str(done.exception)
    assert "epoch" not in done.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param([], "say where the images are", id="nothing"),
        pytest.param(["--labels", "a.csv", "--folder", "b"], "not both", id="both"),
        pytest.param(["--folder", "b", "--train-batch-norm"], "does nothing without `fine_tune`", id="batch norm"),
        pytest.param(["--folder", "b", "--mixed-precision"], "does nothing without `fine_tune` or", id="16 bits"),
        pytest.param(["--folder", "b", "--images", "c"], "`images` goes with `labels`", id="images"),
        pytest.param(["--folder", "/nowhere"], "`folder` /nowhere: no such folder", id="absent"),
        pytest.param(["--folder", __file__], "is a file; name a folder", id="file"),
        pytest.param(["--folder", "ftp://b/c"], "ftp:// is not supported", id="scheme"),
    ],
)
def test_wrong_usage_is_told_at_once(arguments: list[str], told: str) -> None:
    done = run(*arguments, "--model-store", "/tmp/never", "--name", "x")
    assert isinstance(done.exception, UsageError)
    assert told in str(done.exception)


@pytest.mark.parametrize("share", ["0", "1", "-0.5", "nan"])
def test_no_sane_share_is_wrong_usage(share: str) -> None:
    done = run("--folder", "b", "--validation-share", share, "--model-store", "/tmp/never", "--name", "x")
    assert done.exit_code == 2
    assert "--validation-share" in done.output


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--learning-rate", "nan"), ("--learning-rate", "inf"), ("--learning-rate", "1e10"), ("--learning-rate", "0"),
        ("--learning-rate", "1e-300"), ("--epochs", "1000000000"), ("--epochs", "0"), ("--batch-size", "100000"),
        ("--seed", "-1"), ("--seed", 2**70), ("--image-size", "0"), ("--image-size", "100000"),
        ("--min-accuracy", "nan"), ("--min-accuracy", "1.5"), ("--version", "-1"), ("--version", 2**63),
    ],
)  # fmt: skip
def test_a_number_without_a_meaning_is_refused_with_its_flag(flag: str, value: str) -> None:
    done = run("--folder", "b", "--model-store", "/tmp/never", "--name", "x", flag, value)
    assert done.exit_code == 2
    assert f"Invalid value for '{flag}'" in done.stderr


def test_a_learning_that_diverges_publishes_nothing(flags: list[object], tmp_path: Path) -> None:
    class Blown(tf.Module):
        """Features so large that the loss is not a number."""

        @tf.function(input_signature=[tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 3], tf.float32)])
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(images, [1, 2]) * 1e38 * 1e38

    tf.saved_model.save(Blown(), str(tmp_path / "blown"))
    done = run(*flags, "--hub-model", tmp_path / "blown")
    assert isinstance(done.exception, FlowImagesError)
    assert done.exception.exit_code == 1
    assert "the loss is not a number with any `learning_rate` that was tried" in str(done.exception)
    assert not (tmp_path / "models").exists()


def test_a_model_that_has_learnt_nothing_is_told(flags: list[object]) -> None:
    done = run(*flags, "--epochs", 2, "--learning-rate", 1, "--value-range", "0..255")
    assert done.exception is None, done.output
    assert "WARNING: the model is no better than chance: accuracy 0." in done.stderr
    assert "1.792 if each class were as likely. Look at the labels, --value-range and --learning-rate" in done.stderr


def test_too_little_memory_is_told(flags: list[object], tmp_path: Path) -> None:
    class Huge(tf.Module):
        """Needs petabytes for any batch."""

        @tf.function(input_signature=[tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 3], tf.float32)])
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            petabytes = tf.zeros([tf.shape(images)[0], 1024 * 1024, 1024 * 1024])
            return tf.reduce_mean(images, [1, 2]) + petabytes[:, 0, :3] * tf.reduce_sum(petabytes)

    tf.saved_model.save(Huge(), str(tmp_path / "huge"))
    done = run(*flags, "--hub-model", tmp_path / "huge")
    assert isinstance(done.exception, FlowImagesError), done.output
    assert "there is too little memory to run one image through" in str(done.exception)
    assert not (tmp_path / "models").exists()


def test_a_version_that_is_not_the_highest_is_told_and_named(flags: list[object], tmp_path: Path) -> None:
    (tmp_path / "models" / "textures" / "202611251800").mkdir(parents=True)
    done = run(*flags, "--epochs", 1)
    assert done.exception is None, done.output
    assert "WARNING: --version 5 is below version 202611251800" in done.stderr
    assert f"flow-images predict --model {tmp_path}/models/textures/5 " in done.output


def test_odd_names_of_files_and_labels_are_shown_as_they_are(drawn: Path, hub_module: Path, tmp_path: Path) -> None:
    """Rich's markup, emoji codes, and a file name in Latin-1."""
    folder = tmp_path / "photos"
    for number, path in enumerate(sorted((drawn / "train").iterdir())[:8]):
        label = ["[red]pug", ":dog:"][number % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / label / f"{number}-d\udce9p.jpg")
    done = run("--folder", folder, "--hub-model", hub_module, "--image-size", IMAGE_SIZE, "--epochs", 1,
               "--model-store", tmp_path / ":dog:", "--name", "odd", "--version", 1)  # fmt: skip
    assert done.exception is None, done.output
    assert f"model: {tmp_path}/:dog:/odd/1" in done.stdout
    contract = ModelContract.from_json(
        (tmp_path / ":dog:" / "odd" / "1" / "assets.extra" / "contract.json").read_bytes()
    )
    assert contract.labels == [":dog:", "[red]pug"]


def test_a_class_that_is_left_out_whole_is_told(drawn: Path, hub_module: Path, tmp_path: Path) -> None:
    (tmp_path / "m" / "x" / "1").mkdir(parents=True)  # so that it ends when the images were read
    text = (drawn / "labels.csv").read_text()
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "some.csv").write_text(f"{text}{tmp_path}/page,pages\n")
    done = run("--labels", tmp_path / "some.csv", "--images", drawn / "train", "--model-store", tmp_path / "m",
               "--name", "x", "--hub-model", hub_module, "--version", 1, "--skip-bad")  # fmt: skip
    assert "WARNING: 1 classes have too few images that can be used, and are left out: 'pages'\n" in done.stderr
    assert "exists already" in str(done.exception)


def test_a_folder_that_is_a_split_is_trained_on_as_that(drawn: Path, hub_module: Path, tmp_path: Path) -> None:
    """Keras' layout."""
    rows = list(csv.DictReader((drawn / "labels.csv").open()))
    for number, row in enumerate(rows):
        folder = tmp_path / "data" / ("validation" if number % 4 == 0 else "train") / row["breed"]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(drawn / "train" / f"{row['id']}.jpg", folder)
    done = run("--folder", tmp_path / "data", "--hub-model", hub_module, "--image-size", IMAGE_SIZE, "--epochs", 1,
               "--model-store", tmp_path / "models", "--name", "textures", "--version", 1)  # fmt: skip
    assert done.exception is None, done.output
    assert f"{tmp_path}/data is a split, and taken as that: train (training), validation (validation)" in done.stderr
    version = tmp_path / "models" / "textures" / "1"
    assert ModelContract.from_json((version / "assets.extra" / "contract.json").read_bytes()).labels == sorted(
        {row["breed"] for row in rows}
    )
    kept = list(csv.DictReader((version / "assets.extra" / "training_images.csv").open()))
    assert {(Path(row["path"]).parts[-3], row["split"]) for row in kept} == {
        ("train", "training"), ("train", "test"), ("validation", "validation"),
    }  # fmt: skip


def test_what_is_left_out_is_told(drawn: Path, hub_module: Path, tmp_path: Path) -> None:
    (tmp_path / "m" / "x" / "1").mkdir(parents=True)  # so that it ends when the images were read
    lines = (drawn / "labels.csv").read_text().splitlines()
    (tmp_path / "some.csv").write_text("\n".join(lines[:-1]) + "\n")
    done = run("--labels", tmp_path / "some.csv", "--images", drawn / "train", "--model-store", tmp_path / "m",
               "--name", "x", "--hub-model", hub_module, "--version", 1)  # fmt: skip
    assert (
        f"no label names 1 of the files in {drawn / 'train'}; they are left out: {lines[-1].split(',')[0]}.jpg\n"
        in (done.stderr)
    )
    assert "exists already" in str(done.exception)


def test_flags_have_the_defaults_of_the_library() -> None:
    defaults: dict[str, Any] = {option.name or "": option.default for option in train.params}
    for field in dataclasses.fields(TrainOptions):
        assert defaults[field.name] == field.default


def test_real_photos(shared_data: Path, tmp_path: Path) -> None:
    """150 photos of 25 breeds."""
    photos, module = shared_data / "photos", shared_data / "hub" / "mobilenet_v2_100_224_classification"
    done = run("--labels", photos / "labels.csv", "--images", photos / "train", "--hub-model", module,
               "--model-store", tmp_path, "--name", "dogs", "--version", 1, "--min-accuracy", 0.7)  # fmt: skip
    assert done.exception is None, done.output
    contract = ModelContract.from_json((tmp_path / "dogs" / "1" / "assets.extra" / "contract.json").read_bytes())
    assert contract.golden is not None
    assert undetected_errors(contract.golden) == []
    rows = list(csv.DictReader((tmp_path / "dogs" / "1" / "assets.extra" / "training_images.csv").open()))
    parts = {row["digest"]: row["split"] for row in rows}
    assert (len(rows), len(parts)) == (150, 150)
