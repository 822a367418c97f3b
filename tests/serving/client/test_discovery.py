"""Models without a contract, as others make them: asked right, or refused in words before an image is sent."""

import csv
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner, Result
from PIL import Image

from serving.contract import ModelContract, Preprocessing
from serving.errors import FlowImagesError
from serving.images.preprocessing import make_decoder
from serving.server import EmbeddedServer

HEIGHT, WIDTH = 16, 24
COLOURS = {"red": (200, 30, 40), "green": (20, 190, 60), "blue": (10, 40, 220), "dim": (60, 50, 40)}
SHAPE = [None, HEIGHT, WIDTH, 3]
Signatures = dict[str, tuple[list[int | None] | None, tf.DType, Callable[[tf.Tensor], Any]]]


def means(images: tf.Tensor) -> tf.Tensor:
    """float32 [n, 3]: the mean red, green and blue of images in 0..1."""
    return tf.reduce_mean(tf.ensure_shape(images, SHAPE), [1, 2])


def logits(images: tf.Tensor) -> tf.Tensor:
    return 20 * means(images) - 8


def fixed(rows: int) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda images: tf.nn.softmax(logits(tf.ensure_shape(images, [rows, *SHAPE[1:]])))


def decoded(files: tf.Tensor) -> tf.Tensor:
    def one(data: tf.Tensor) -> tf.Tensor:
        image = tf.image.convert_image_dtype(tf.io.decode_image(data, 3, expand_animations=False), tf.float32)
        return tf.image.resize(image, SHAPE[1:3])

    return tf.nn.softmax(logits(tf.map_fn(one, files, fn_output_signature=tf.float32)))


F32 = tf.float32
SIGNATURES: Signatures = {
    "serving_default": (SHAPE, F32, lambda x: tf.nn.softmax(logits(x))),
    "logits": (SHAPE, F32, logits),
    "logits64": (SHAPE, F32, lambda x: tf.cast(logits(x), tf.float64)),
    "half": (SHAPE, F32, lambda x: tf.cast(tf.nn.softmax(logits(x)), tf.float16)),
    "from_255": (SHAPE, F32, lambda x: tf.nn.softmax(logits(x / 255))),
    "from_-1": (SHAPE, F32, lambda x: tf.nn.softmax(logits((x + 1) / 2))),
    "many": (SHAPE, F32, lambda x: tf.sigmoid(logits(x))),
    "one": (SHAPE, F32, lambda x: tf.sigmoid(logits(x)[:, 2:])),
    "one_logit": (SHAPE, F32, lambda x: logits(x)[:, 2:]),
    "constant": (SHAPE, F32, lambda x: 0 * means(x) + tf.constant([0.5, 0.3, 0.2])),
    "nan": (SHAPE, F32, lambda x: means(x) * np.nan),
    "uint8": (SHAPE, tf.uint8, lambda x: tf.nn.softmax(logits(tf.cast(x, F32) / 255))),
    "files": ([None], tf.string, decoded),
    "one_row": ([1, *SHAPE[1:]], F32, fixed(1)),
    "eight_rows": ([8, *SHAPE[1:]], F32, fixed(8)),
    "unknown_rank": (None, F32, lambda x: tf.nn.softmax(logits(x))),
    "unknown_size": ([None, None, None, 3], F32, lambda x: tf.nn.softmax(logits(x))),
    "unknown_width": ([None, HEIGHT, None, 3], F32, lambda x: tf.nn.softmax(logits(x))),
    "channels_first": ([None, 3, HEIGHT, WIDTH], F32, lambda x: tf.nn.softmax(tf.reduce_mean(x, [2, 3]))),
    "channels_first_unknown": ([None, 3, None, None], F32, lambda x: tf.nn.softmax(tf.reduce_mean(x, [2, 3]))),
    "grey": ([None, HEIGHT, WIDTH, 1], F32, lambda x: tf.tile(tf.reduce_mean(x, [1, 2]), [1, 3])),
    "alpha": ([None, HEIGHT, WIDTH, 4], F32, lambda x: tf.reduce_mean(x, [1, 2])[:, :3]),
    "alone": ([HEIGHT, WIDTH, 3], F32, lambda x: tf.reduce_mean(x, [0])),
    "flat": ([None, HEIGHT * WIDTH * 3], F32, lambda x: x[:, :3]),
    "file_alone": ([], tf.string, lambda x: tf.zeros([1, 3]) + tf.cast(tf.strings.length(x), F32)),
    "map": (SHAPE, F32, lambda x: tf.reshape(means(x), [-1, 1, 1, 3])),
    "best": (SHAPE, F32, lambda x: tf.argmax(means(x), 1)),
    "brain": (SHAPE, F32, lambda x: tf.cast(means(x), tf.bfloat16)),
    "four": (SHAPE, F32, lambda x: tf.concat([means(x), means(x)[:, :1]], 1)),
    "two_outputs": (SHAPE, F32, lambda x: {"scores": tf.nn.softmax(logits(x)), "embedding": means(x)}),
    **{
        kind.name: (SHAPE, kind, lambda x: tf.nn.softmax(logits(tf.cast(x, F32))))
        for kind in (tf.float16, tf.bfloat16, tf.float64, tf.int32)
    },
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded server of one SavedModel with all the signatures."""
    module = tf.Module()
    functions = {
        name: tf.function(call, input_signature=[tf.TensorSpec(shape, kind, name="x")])
        for name, (shape, kind, call) in SIGNATURES.items()
    }
    module.functions = list(functions.values())
    folder = tmp_path_factory.mktemp("plain") / "plain"
    tf.saved_model.save(module, str(folder / "1"), functions)
    with EmbeddedServer(str(folder), model_name="plain") as running:
        yield running.address


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images of one colour each, `dim` being of no colour."""
    (tmp_path / "in").mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (48, 32), colour).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "labels.txt").write_text("r\ng\nb\n")
    (tmp_path / "two.txt").write_text("no\nyes\n")
    return tmp_path / "in"


Run = Callable[..., Result]


@pytest.fixture
def predict(address: str, images: Path) -> Run:
    from beam_jobs.predict_command import predict as command

    def run(*flags: object, labels: str = "labels.txt", output: str = "out") -> Result:
        return CliRunner().invoke(command, [
            "--server", address, "--model-name", "plain", "--input", str(images), "--labels",
            str(images.parent / labels), "--output", str(images.parent / output), *map(str, flags),
        ])  # fmt: skip

    return run


@pytest.fixture
def classify(address: str, images: Path) -> Run:
    from flow_images.classify_command import classify as command

    def run(*flags: object, labels: str = "labels.txt") -> Result:
        return CliRunner(env={"COLUMNS": "200"}).invoke(command, [
            str(images / "blue.png"), "--server", address, "--model-name", "plain",
            "--labels", str(images.parent / labels), *map(str, flags),
        ])  # fmt: skip

    return run


def rows(images: Path, output: str = "out") -> list[dict[str, str]]:
    with open(images.parent / output / "predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def softmax(colour: tuple[int, int, int]) -> Any:
    powers = np.exp(20 * np.array(colour) / 255 - 8)
    return powers / powers.sum()


@pytest.mark.parametrize(
    ("signature", "flags"),
    [
        ("serving_default", []),
        ("serving_default", ["--image-size", f"{WIDTH}x{HEIGHT}"]),
        ("half", []),
        ("logits", ["--activation", "softmax"]),
        ("logits64", ["--activation", "softmax"]),
        ("from_255", ["--input-range", "0..255"]),
        ("from_-1", ["--input-range", "-1..1"]),
        ("uint8", []),
        ("files", []),
        ("one_row", []),
        ("eight_rows", ["--batch-size", "3"]),
        ("unknown_rank", ["--image-size", f"{WIDTH}x{HEIGHT}"]),
        ("unknown_size", ["--image-size", f"{WIDTH}x{HEIGHT}"]),
        ("unknown_width", ["--image-size", f"{WIDTH}x{HEIGHT}"]),
        ("two_outputs", ["--output-name", "scores"]),
    ],
)
@pytest.mark.parametrize("format_", ["csv", "kaggle"])
def test_scores_are_the_models(
    predict: Run, images: Path, caplog: pytest.LogCaptureFixture, signature: str, flags: list[str], format_: str
) -> None:
    done = predict("--signature", signature, "--format", format_, "--top-k", 3, *flags)
    assert done.exit_code == 0, done.exception or done.output
    assert not caplog.records
    for row in rows(images):
        if format_ == "kaggle":
            found = [float(row[label]) for label in "rgb"]
            expected = softmax(COLOURS[row["id"]])
        else:
            expected = softmax(COLOURS[Path(row["path"]).stem])
            by_label = {row[f"label{rank}"]: float(row[f"score{rank}"]) for rank in ("", "_2", "_3")}
            found = [by_label[label] for label in "rgb"]
        assert found == pytest.approx(expected, rel=0.02, abs=1e-7)
        assert min(found) > 0


@pytest.mark.parametrize(("signature", "flags"), [("one", []), ("one_logit", ["--activation", "sigmoid"])])
def test_a_single_score_is_the_second_labels(predict: Run, images: Path, signature: str, flags: list[str]) -> None:
    done = predict("--signature", signature, *flags, "--format", "kaggle", labels="two.txt")
    assert done.exit_code == 0, done.exception
    for row in rows(images):
        yes = 1 / (1 + np.exp(8 - 20 * COLOURS[row["id"]][2] / 255))
        assert [float(row["no"]), float(row["yes"])] == pytest.approx([1 - yes, yes], rel=1e-3)


@pytest.mark.parametrize(
    ("signature", "flags", "says"),
    [
        ("channels_first", [], r"\[N, 3, 16, 24\]: channels first.*tf\.transpose"),
        ("channels_first", ["--image-size", 24], "channels first"),
        ("channels_first_unknown", ["--image-size", 24], "channels first"),
        ("grey", [], r"grey images \(1 channel\).*RGB"),
        ("alpha", [], r"transparency \(4 channels\).*RGB"),
        ("alone", [], r"\[16, 24, 3\]: it has no axis for the batch"),
        ("flat", [], r"\[N, 1152\]; images are sent as \[N, height, width, 3\]"),
        ("file_alone", [], r"string \[\]; files are sent as strings \[N\]"),
        ("float16", [], "is float16; images can be sent as float32"),
        ("bfloat16", [], "is bfloat16; images can be sent as float32"),
        ("float64", [], "is float64; images can be sent as float32"),
        ("int32", [], "is int32; images can be sent as float32"),
        ("map", [], r"\[N, 1, 1, 3\]: expected \[N, 3\]"),
        ("best", [], "is int64: scores must be float32"),
        ("brain", [], "is bfloat16: scores must be float32"),
        ("four", [], r"labels\.txt has 3 labels, the model 4 classes"),
        ("two_outputs", [], "embedding.*choose with `output_name`"),
        ("unknown_size", [], "give `image_size`"),
        ("unknown_width", [], "give `image_size`"),
        ("unknown_width", ["--image-size", 24], "24x24: the model takes images of any x 16 pixels"),
        ("serving_default", ["--image-size", f"{HEIGHT}x{WIDTH}"], "16x24: the model takes images of 24 x 16"),
        ("unknown_rank", ["--image-size", 24], "does not take an image of 24 x 24 pixels"),
        ("uint8", ["--input-range", "-1..1"], "`input_range` is for models that take float32; x takes uint8"),
        ("nothing", [], "no signature 'nothing'; it has .*logits"),
        ("logits", [], r"not probabilities: they go from -8 to 1.*`activation` softmax.*`activation` none"),
        ("one_logit", ["--activation", "sigmoid"], "3 labels, the model 1 classes"),
    ],
)
def test_what_cannot_be_right_is_refused_before_an_image_is_sent(
    predict: Run, classify: Run, images: Path, signature: str, flags: list[object], says: str
) -> None:
    for done in (predict("--signature", signature, *flags), classify("--signature", signature, *flags)):
        assert isinstance(done.exception, FlowImagesError)
        assert done.exception.exit_code in (1, 2)
        with pytest.raises(FlowImagesError, match=says):
            raise done.exception
    assert not (images.parent / "out").exists()


@pytest.mark.parametrize("flags", [[], ["--activation", "sigmoid"]])
def test_a_kaggle_file_needs_rows_that_sum_to_one(predict: Run, images: Path, flags: list[str]) -> None:
    signature = "logits" if flags else "many"
    refused = predict("--signature", signature, "--format", "kaggle", *flags)
    assert "has to sum to 1" in str(refused.exception)
    assert not (images.parent / "out").exists()
    assert predict("--signature", signature, *flags).exit_code == 0  # in a CSV each class stands by itself


def test_outputs_are_taken_as_they_are_if_that_is_said(predict: Run, classify: Run, images: Path) -> None:
    done = predict("--signature", "logits", "--activation", "none", "--format", "kaggle")
    assert done.exit_code == 0, done.exception
    for row in rows(images):
        expected = 20 * np.array(COLOURS[row["id"]]) / 255 - 8
        assert [float(row[label]) for label in "rgb"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert classify("--signature", "logits", "--activation", "none").exit_code == 0


@pytest.mark.parametrize(
    ("signature", "flags", "says"),
    [
        ("from_255", [], "add `input_range` 0..255"),
        ("constant", [], "hardly differs .* `input_range`"),
        ("nan", [], "is not a number (NaN): see `input_range`"),
        ("from_255", ["--input-range", "0..1"], None),
        ("from_255", ["--input-range", "0..255"], None),
    ],
)
def test_a_range_that_may_be_wrong_is_warned_of(
    classify: Run, caplog: pytest.LogCaptureFixture, signature: str, flags: list[str], says: str | None
) -> None:
    with caplog.at_level(logging.WARNING):
        done = classify("--signature", signature, *flags)
    assert done.exit_code == 0, done.exception
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (says is not None)
    if says:
        assert all(part in said[0] for part in says.split(" .* "))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"flags": ["--activation", "sigmoid"]}, "activation 'softmax' there, 'sigmoid' now"),
        ({"flags": ["--activation", "softmax", "--input-range", "0..255"]}, "input_range None there, '0..255' now"),
        ({"flags": ["--activation", "softmax"], "labels": "others.txt"}, "contract"),
    ],
    ids=["activation", "range", "labels"],
)
def test_a_run_goes_on_with_what_decides_its_scores(
    predict: Run, images: Path, finished: bool, other: dict[str, Any], named: str
) -> None:
    (images.parent / "others.txt").write_text("b\ng\nr\n")
    ask = ["--signature", "logits"]
    assert predict(*ask, "--activation", "softmax").exit_code == 0
    run = json.loads((images.parent / "out" / "run.json").read_text())
    assert run["options"]["activation"] == "softmax"
    if not finished:
        for part in (images.parent / "out" / "_state" / "parts").rglob("0-*"):
            part.unlink()
    refused = predict(*ask, *other["flags"], labels=other.get("labels", "labels.txt"))
    assert isinstance(refused.exception, FlowImagesError)
    assert refused.exception.exit_code == 2
    assert named in str(refused.exception)
    assert predict(*ask, "--activation", "softmax", "--input-range", "0..1").exit_code == 0


@pytest.mark.parametrize(("black", "white"), [(0.0, 255.0), (-1.0, 1.0)])
def test_a_value_range_is_the_float32_forms_alone(images: Path, black: float, white: float) -> None:
    usual = Preprocessing(height=HEIGHT, width=WIDTH)
    data = (images / "red.png").read_bytes()
    plain = make_decoder(usual, "float32")(data)
    ranged = Preprocessing(height=HEIGHT, width=WIDTH, value_range=(black, white))
    np.testing.assert_allclose(make_decoder(ranged, "float32")(data), plain * (white - black) + black, rtol=1e-6)
    np.testing.assert_array_equal(make_decoder(ranged, "uint8")(data), make_decoder(usual, "uint8")(data))


@pytest.mark.parametrize("value_range", [(1, 0), (0, 0), ("-inf", 1), (0, "nan")])
def test_a_range_that_cannot_be_made_is_refused(value_range: object) -> None:
    text = ModelContract(labels=["a", "b"], preprocessing=Preprocessing(height=8, width=8)).to_json()
    document = json.loads(text)
    document["preprocessing"]["value_range"] = value_range
    with pytest.raises(FlowImagesError, match="value_range"):
        ModelContract.from_json(json.dumps(document))
