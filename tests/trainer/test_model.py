"""The hub module: as a folder, an archive or a URL, and every way in which it can be none."""

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.errors import UsageError
from tests.conftest import IMAGE_SIZE
from trainer.model import INPUT_SHAPE, MODEL_URL, OUTPUT_SHAPE, create_model, load_model

SHAPE = [None, IMAGE_SIZE, IMAGE_SIZE, 3]
IMAGES = np.random.default_rng(0).random((3, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def archive(hub_module: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module as TF Hub hands it out: a .tar.gz of the folder's content."""
    path = tmp_path_factory.mktemp("archive") / "gabor.tar.gz"
    with tarfile.open(path, "w:gz") as members:
        members.add(hub_module, arcname=".")
    return path


def save(folder: Path, call: Any, spec: list[int | None]) -> str:
    """A module of one function."""
    module = tf.Module()
    module.__call__ = tf.function(call, input_signature=[tf.TensorSpec(spec, tf.float32)])
    tf.saved_model.save(module, str(folder))
    return str(folder)


def test_constants_are_the_seeds() -> None:
    assert INPUT_SHAPE == [None, 224, 224, 3]
    assert OUTPUT_SHAPE == 120
    assert MODEL_URL == "https://tfhub.dev/google/imagenet/mobilenet_v2_130_224/classification/5"


def test_a_model_is_the_module_and_a_softmax_head(hub_module: Path) -> None:
    model = create_model(SHAPE, 5, str(hub_module))
    assert [type(layer).__name__ for layer in model.layers] == ["KerasLayer", "Dense"]
    assert len(model.trainable_variables) == 2  # the head's; the module is frozen
    assert model.loss.name == "categorical_crossentropy"
    assert type(model.optimizer).__name__ == "Adam"
    probabilities = model(IMAGES).numpy()
    assert probabilities.shape == (3, 5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_fine_tuning_trains_the_module_too(hub_module: Path) -> None:
    assert len(create_model(SHAPE, 5, str(hub_module), fine_tune=True).trainable_variables) == 3


def test_fine_tuning_a_module_without_trainable_weights_is_refused(tmp_path: Path) -> None:
    handle = save(tmp_path / "m", lambda x: tf.reduce_mean(x, [1, 2]), SHAPE)
    with pytest.raises(UsageError, match=f"{handle} has no weights .*`fine_tune`"):
        create_model(SHAPE, 5, handle, fine_tune=True)


@pytest.mark.parametrize("name", ["model", "model.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_saved_model_is_loaded_back(hub_module: Path, tmp_path: Path, name: str) -> None:
    model = create_model(SHAPE, 5, str(hub_module))
    model.save(tmp_path / name)
    np.testing.assert_allclose(load_model(str(tmp_path / name))(IMAGES), model(IMAGES), rtol=1e-5)


def test_an_archive_gives_the_folders_features(hub_module: Path, archive: Path) -> None:
    features = [create_model(SHAPE, 5, str(path)).layers[0](IMAGES) for path in (hub_module, archive)]
    np.testing.assert_array_equal(*features)


def test_another_size_is_refused_with_both(hub_module: Path) -> None:
    with pytest.raises(UsageError, match=f"`image_size` 96: .*{hub_module} takes .*{IMAGE_SIZE} x {IMAGE_SIZE}"):
        create_model([None, 96, 96, 3], 5, str(hub_module))


def test_a_module_for_any_size_is_taken(tmp_path: Path) -> None:
    handle = save(tmp_path / "m", lambda x: tf.reduce_mean(x, [1, 2]), [None, None, None, 3])
    assert create_model(SHAPE, 5, handle).output_shape == (None, 5)


def test_a_module_that_gives_a_map_of_features_is_refused(tmp_path: Path) -> None:
    handle = save(tmp_path / "m", lambda x: x[:, ::8, ::8], SHAPE)
    with pytest.raises(UsageError, match="feature_vector or classification"):
        create_model(SHAPE, 5, handle)


def test_a_module_for_something_else_is_refused(tmp_path: Path) -> None:
    handle = save(tmp_path / "m", lambda x: x, [None, 7])
    with pytest.raises(UsageError, match="can't be used on a batch of images"):
        create_model(SHAPE, 5, handle)


def test_a_saved_model_that_cannot_be_called_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "m"))
    with pytest.raises(UsageError, match=f"{tmp_path}/m is not a reusable TF 2 module"):
        create_model(SHAPE, 5, str(tmp_path / "m"))


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    for handle in (tmp_path, tmp_path / "absent", tmp_path / "absent.tar.gz"):
        with pytest.raises(UsageError, match=f"{handle}: no such SavedModel"):
            create_model(SHAPE, 5, str(handle))


def test_a_damaged_saved_model_is_refused(hub_module: Path, tmp_path: Path) -> None:
    shutil.copytree(hub_module, tmp_path / "m")
    (tmp_path / "m" / "saved_model.pb").write_bytes(b"\xff\xff no proto")
    with pytest.raises(UsageError, match=f"{tmp_path}/m is not a reusable TF 2 module"):
        create_model(SHAPE, 5, str(tmp_path / "m"))


def test_archives_that_are_none_or_reach_out_are_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "text.tar.gz").write_text("no archive")
    with tarfile.open(tmp_path / "empty.tar.gz", "w:gz"):
        pass
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as members:
        members.addfile(tarfile.TarInfo("../escaped/saved_model.pb"), io.BytesIO())
    (tmp_path / "cut.tar.gz").write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    for name, told in {
        "text": "not a module's archive",
        "cut": "not a module's archive",
        "empty": "no saved_model.pb",
        "evil": "outside",
    }.items():
        with pytest.raises(UsageError, match=f"{name}.tar.gz.*{told}"):
            create_model(SHAPE, 5, str(tmp_path / f"{name}.tar.gz"))
    assert not (tmp_path.parent / "escaped").exists()


def test_a_path_that_tensorflow_cannot_load_from_is_refused(hub_module: Path, tmp_path: Path) -> None:
    shutil.copytree(hub_module, tmp_path / "[m]")
    with pytest.raises(UsageError, match=r"`hub_model` .*\[m\]: TensorFlow loads no model from a path with \["):
        create_model(SHAPE, 5, str(tmp_path / "[m]"))
    with pytest.raises(UsageError, match=r"d\\xe9p: the name is not UTF-8: rename it"):
        create_model(SHAPE, 5, str(tmp_path / "d\udce9p"))
