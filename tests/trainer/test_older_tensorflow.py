"""What is exported, loaded and asked by the versions of TensorFlow that TensorFlow Serving's images carry."""

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from serving.contract import ModelContract, Preprocessing, golden_distance, golden_key
from serving.images.wire import WIRES
from tests import saved_model_answers
from tests.hub_modules import keras_3_module, tensorflow_1_module
from tests.older_tensorflow import VERSIONS, python_of
from tests.saved_model_answers import Tensors
from trainer.export import export
from trainer.golden import preprocessed
from trainer.hub.module import load_module
from trainer.model import model_of, with_temperature

pytestmark = pytest.mark.slow
LABELS = ["a", "b", "c", "d"]
_FORMATS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": 90},
    "progressive": {"format": "jpeg", "progressive": True},
    "png": {},
    "gif": {},
    "bmp": {},
    "webp": {},
    "lossless": {"format": "webp", "lossless": True},
}
_UNDECODED = {"2.19.1": ("webp", "lossless")}
"""What a version can't decode, and says so; clients send it as PNG (`serving.images.as_png`)."""


@pytest.fixture(scope="module", params=VERSIONS)
def older(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """An older version of TensorFlow, and the Python that has it."""
    version: str = request.param
    python = python_of(version)
    if python is None:
        pytest.skip(f"TensorFlow {version} is not installed: python -m tests.older_tensorflow")
    return version, python


@pytest.fixture(scope="module")
def versions(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Exported models, one of each kind of hub module."""
    folder = tmp_path_factory.mktemp("kinds")
    upright = Preprocessing(height=32, width=32, orientation="exif", value_range=(-1, 1))
    modules = {
        "tensorflow_1": load_module(tensorflow_1_module(folder / "tensorflow_1")),
        "keras_3": load_module(str(keras_3_module(folder / "keras_3") / "map"), trainable=True),
    }
    exported = [
        export(with_temperature(model_of(module, 4, 0.5), 1.5), LABELS, upright, None, store=str(folder), name=name)
        for name, module in modules.items()
    ]
    return [model_store / "1", *map(Path, exported)]


@pytest.fixture(scope="module")
def files(drawn: Path) -> dict[str, bytes]:
    """An image in each format, one that is turned, and what is none."""
    with Image.open(min((drawn / "train").iterdir())) as image:
        image.load()
    found = {}
    for name, options in _FORMATS.items():
        file = io.BytesIO()
        image.save(file, **{"format": name, **options})
        found[name] = file.getvalue()
    exif, turned = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    image.save(turned, "jpeg", exif=exif)
    return found | {"turned": turned.getvalue(), "broken": b"?", "cut off": found["jpeg"][:200]}


@pytest.fixture(scope="module")
def questions(versions: list[Path], files: dict[str, bytes]) -> Tensors:
    """To every signature: golden images, in `encoded` the files before them, and all keys of the contract."""
    found: Tensors = {}
    for folder in versions:
        contract = _contract(folder)
        assert contract.golden is not None
        keys = ["contract", *(golden_key(index) for index in range(contract.golden.count)), "unknown"]
        look_up = tf.saved_model.load(str(folder)).signatures["contract"]
        golden = look_up(tf.constant(keys[1:-1]))["values"].numpy().tolist()
        asked = found[str(folder)] = {"contract": {"keys": np.array(keys, object)}}
        for wire in WIRES:
            images = preprocessed(golden, contract.preprocessing, wire)
            value = np.array([*files.values(), *golden], object) if wire == "encoded" else np.array(images)
            for embeddings in (False, True):
                signature = contract.signature(wire, embeddings=embeddings)
                asked[signature.name] = {signature.input: value}
    return found


def _contract(folder: Path) -> ModelContract:
    return ModelContract.from_json((folder / "assets.extra" / "contract.json").read_bytes())


def _answers(python: Path, questions: Tensors, folder: Path) -> Tensors:
    (folder / "questions").write_bytes(pickle.dumps(questions))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script = [str(python), saved_model_answers.__file__, str(folder / "questions"), str(folder / "answers")]
    done = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers: Tensors = pickle.loads((folder / "answers").read_bytes())
    return answers


@pytest.fixture(scope="module")
def expected(questions: Tensors, files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """What the TensorFlow answers that exported them."""
    found = _answers(Path(sys.executable), questions, tmp_path_factory.mktemp("expected"))
    for signatures in found.values():
        is_image = [name not in ("broken", "cut off") for name in files]
        assert signatures["serving_encoded"]["ok"][: len(files)].tolist() == is_image
    return found


def test_an_older_tensorflow_gives_the_same_answers(
    older: tuple[str, Path], questions: Tensors, expected: Tensors, files: dict[str, bytes], tmp_path: Path
) -> None:
    version, python = older
    found = _answers(python, questions, tmp_path)
    undecoded = [place for place, name in enumerate(files) if name in _UNDECODED.get(version, ())]
    for folder, signatures in expected.items():
        assert len(signatures) == 7
        for name, outputs in signatures.items():
            assert found[folder][name].keys() == outputs.keys()
            for output, values in outputs.items():
                answered = found[folder][name][output]
                if "encoded" in name:
                    assert output != "ok" or not answered[undecoded].any()
                    answered, values = (np.delete(each, undecoded, axis=0) for each in (answered, values))
                if values.dtype.kind == "f":
                    np.testing.assert_allclose(answered, values, rtol=0, atol=1e-4, err_msg=f"{name}: {output}")
                else:
                    np.testing.assert_array_equal(answered, values, err_msg=f"{name}: {output}")
        _check_golden(Path(folder), found[folder])


def _check_golden(folder: Path, found: dict[str, dict[str, Any]]) -> None:
    contract = ModelContract.from_json(found["contract"]["values"][0])
    assert contract == _contract(folder)
    assert contract.golden is not None
    for wire, reference in contract.golden.references.items():
        signature = contract.signatures[wire]
        answers = found[signature.name][signature.output][-contract.golden.count :]
        assert golden_distance(answers.tolist(), reference) < 1e-4
