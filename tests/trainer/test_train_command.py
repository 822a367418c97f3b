"""`flow-images train` as a user runs it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from click.testing import CliRunner, Result

from serving.contract import ModelContract
from serving.errors import FlowImagesError, UsageError
from tests.conftest import IMAGE_SIZE
from trainer.golden import undetected_errors
from trainer.labelled_images import read_labels, stratified_split
from trainer.options import TrainOptions
from trainer.train_command import train


def run(*arguments: object) -> Result:
    return CliRunner().invoke(train, [str(argument) for argument in arguments])


@pytest.fixture
def flags(drawn: Path, hub_module: Path, tmp_path: Path) -> list[object]:
    """A complete command over the drawn images."""
    return ["--labels", drawn / "labels.csv", "--images", drawn / "train", "--hub-model", hub_module, "--image-size",
            IMAGE_SIZE, "--model-store", tmp_path / "models", "--name", "textures", "--version", 5]  # fmt: skip


def test_images_become_a_model_that_has_learnt(flags: list[object], tmp_path: Path) -> None:
    done = run(*flags, "--epochs", 30)
    assert done.exception is None, done.output
    version = tmp_path / "models" / "textures" / "5"
    assert f"model: {version}" in done.output
    assert f"flow-images predict --model {version} " in done.output
    assert done.stderr.count("epoch ") == 30
    record = json.loads((version / "assets.extra" / "training.json").read_text())
    assert f"accuracy {record['accuracy']:.3f} on 12 images" in done.output
    assert record["accuracy"] > 0.4  # 6 classes: 0.17 by chance
    assert record["training_pictures"] + record["validation_pictures"] == 48
    assert {name: found["pictures"] for name, found in record["classes"].items()} == dict.fromkeys(
        ["checks", "clouds", "dots", "rings", "stripes", "waves"], 2
    )


def test_a_model_below_the_wanted_accuracy_is_not_published(flags: list[object], tmp_path: Path) -> None:
    done = run(*flags, "--epochs", 1, "--assert-accuracy", 1)
    assert isinstance(done.exception, FlowImagesError)
    assert done.exception.exit_code == 1
    assert "below `assert_accuracy` 1.0: no model was published" in str(done.exception)
    assert list((tmp_path / "models" / "textures").iterdir()) == []


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
        ("--assert-accuracy", "nan"), ("--assert-accuracy", "1.5"), ("--version", "-1"), ("--version", 2**63),
    ],
)  # fmt: skip
def test_a_number_without_a_meaning_is_refused_with_its_flag(flag: str, value: str) -> None:
    done = run("--folder", "b", "--model-store", "/tmp/never", "--name", "x", flag, value)
    assert done.exit_code == 2
    assert f"Invalid value for '{flag}'" in done.stderr


def test_a_learning_that_diverges_publishes_nothing(flags: list[object], tmp_path: Path) -> None:
    class Blown(tf.Module):
        """Features so large that the loss is no number."""

        @tf.function(input_signature=[tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 3], tf.float32)])
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(images, [1, 2]) * 1e38 * 1e38

    tf.saved_model.save(Blown(), str(tmp_path / "blown"))
    done = run(*flags, "--hub-model", tmp_path / "blown")
    assert isinstance(done.exception, FlowImagesError)
    assert done.exception.exit_code == 1
    assert "the loss is nan after epoch 1: take a smaller `learning_rate`" in str(done.exception)
    assert list((tmp_path / "models" / "textures").iterdir()) == []


def test_too_little_memory_is_told_with_the_batch_size(flags: list[object], tmp_path: Path) -> None:
    class Huge(tf.Module):
        """Needs petabytes for any batch."""

        @tf.function(input_signature=[tf.TensorSpec([None, IMAGE_SIZE, IMAGE_SIZE, 3], tf.float32)])
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            petabytes = tf.zeros([tf.shape(images)[0], 1024 * 1024, 1024 * 1024])
            return tf.reduce_mean(images, [1, 2]) + petabytes[:, 0, :3] * tf.reduce_sum(petabytes)

    tf.saved_model.save(Huge(), str(tmp_path / "huge"))
    done = run(*flags, "--hub-model", tmp_path / "huge")
    assert isinstance(done.exception, FlowImagesError), done.output
    assert "too little memory for `batch_size` 32" in str(done.exception)
    assert list((tmp_path / "models" / "textures").iterdir()) == []


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
    for text in ("[red]pug", " :dog: ", f"model: {tmp_path}/:dog:/odd/1"):
        assert text in done.stdout
    contract = ModelContract.from_json(
        (tmp_path / ":dog:" / "odd" / "1" / "assets.extra" / "contract.json").read_bytes()
    )
    assert contract.labels == [":dog:", "[red]pug"]


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
    """150 photos of 25 breeds: fewer epochs than by default, enough for most of the accuracy."""
    photos, module = shared_data / "photos", shared_data / "hub" / "mobilenet_v2_100_224_classification"
    done = run("--labels", photos / "labels.csv", "--images", photos / "train", "--hub-model", module, "--epochs", 4,
               "--model-store", tmp_path, "--name", "dogs", "--version", 1, "--assert-accuracy", 0.7)  # fmt: skip
    assert done.exception is None, done.output
    contract = ModelContract.from_json((tmp_path / "dogs" / "1" / "assets.extra" / "contract.json").read_bytes())
    assert contract.golden is not None
    assert undetected_errors(contract.golden) == []
    images = read_labels(str(photos / "labels.csv"), str(photos / "train"))
    training, validation = stratified_split(images, share=0.2, seed=0)
    assert {image.path for image in training}.isdisjoint(image.path for image in validation)
