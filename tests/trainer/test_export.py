"""The exported files, loaded and asked as a server and its clients would."""

import errno
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.contract import EMBEDDING_SIGNATURES, ModelContract, golden_distance, golden_key
from serving.errors import ContractError, DiskFull, FlowImagesError
from serving.images.preprocessing import make_decoder
from serving.images.wire import WIRES, Wire
from serving.model_store.fetch import local_copy
from serving.model_store.publish import Publication
from serving.storage.disk import Disk
from serving.storage.stores import Stores
from tests.conftest import IMAGE_SIZE, MODEL_NAME
from trainer.export import Certainty, Exported, export, exporting
from trainer.golden import choose_golden, draw_golden, preprocessed, reference_answers, undetected_errors
from trainer.tensorflow_errors import explained

LABELS = ["checks", "clouds", "dots", "rings", "stripes", "waves"]
SIDE = IMAGE_SIZE
WIDTH = 107
"""Features of the hub module."""


@pytest.fixture(scope="module")
def version(model_store: Path) -> Path:
    return model_store / "1"


@pytest.fixture(scope="module")
def loaded(version: Path) -> Any:
    return tf.saved_model.load(str(version))


@pytest.fixture(scope="module")
def contract(loaded: Any) -> ModelContract:
    return ModelContract.from_json(look_up(loaded, "contract")[0])


@pytest.fixture(scope="module")
def golden(loaded: Any, contract: ModelContract) -> list[bytes]:
    assert contract.golden is not None
    return look_up(loaded, *(golden_key(index) for index in range(contract.golden.count)))


def look_up(loaded: Any, *keys: str) -> list[bytes]:
    values: list[bytes] = loaded.signatures["contract"](tf.constant(list(keys)))["values"].numpy().tolist()
    return values


def ask(loaded: Any, contract: ModelContract, wire: Wire, value: Any) -> list[list[float]]:
    reference = contract.signatures[wire]
    answer = loaded.signatures[reference.name](**{reference.input: tf.constant(value)})
    rows: list[list[float]] = answer[reference.output].numpy().tolist()
    return rows


def test_signatures_are_those_of_the_table(loaded: Any) -> None:
    found = {
        name: (
            {key: (spec.shape.as_list(), spec.dtype.name) for key, spec in tensors.items()}
            for tensors in (signature.structured_input_signature[1], signature.structured_outputs)
        )
        for name, signature in loaded.signatures.items()
    }
    scores = {"probabilities": ([None, 6], "float32")}
    embeddings = {"embeddings": ([None, WIDTH], "float32")}
    image = [None, SIDE, SIDE, 3]
    assert {name: tuple(specs) for name, specs in found.items()} == {
        "serving_default": ({"images": (image, "float32")}, scores),
        "serving_uint8": ({"images": (image, "uint8")}, scores),
        "serving_encoded": ({"image_bytes": ([None], "string")}, scores | {"ok": ([None], "bool")}),
        "serving_default_embeddings": ({"images": (image, "float32")}, scores | embeddings),
        "serving_uint8_embeddings": ({"images": (image, "uint8")}, scores | embeddings),
        "serving_encoded_embeddings": (
            {"image_bytes": ([None], "string")},
            scores | embeddings | {"ok": ([None], "bool")},
        ),
        "contract": ({"keys": ([None], "string")}, {"values": ([None], "string")}),
    }


def zeros(*shape: int, dtype: str = "float32") -> tf.Tensor:
    return tf.zeros(shape, dtype) if dtype != "string" else tf.fill(shape, "")


@pytest.mark.parametrize(
    ("signature", "wrong"),
    [
        pytest.param("serving_default", zeros(1, SIDE, SIDE + 1, 3), id="size"),
        pytest.param("serving_default", zeros(1, SIDE, SIDE, 1), id="channels"),
        pytest.param("serving_default", zeros(SIDE, SIDE, 3), id="no-batch"),
        pytest.param("serving_default", zeros(3), id="rank-1"),
        pytest.param("serving_default", zeros(), id="scalar"),
        pytest.param("serving_uint8", zeros(2, SIDE, 3, dtype="uint8"), id="uint8"),
        pytest.param("serving_encoded", zeros(1, 1, dtype="string"), id="encoded-rank-2"),
        pytest.param("serving_encoded", zeros(dtype="string"), id="encoded-scalar"),
        pytest.param("contract", zeros(1, 1, dtype="string"), id="keys"),
    ],
)
def test_a_wrong_shape_is_an_invalid_argument(loaded: Any, signature: str, wrong: tf.Tensor) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"ensure_shape|not compatible"):
        loaded.signatures[signature](wrong)


def test_a_session_as_in_a_server_refuses_a_wrong_shape_too(version: Path) -> None:
    """A server feeds tensors below TensorFlow's Python, where placeholders check nothing."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(version))
        signature = meta.signature_def["serving_default"]
        options = tf.compat.v1.CallableOptions if hasattr(tf.compat.v1, "CallableOptions") else None
        from tensorflow.core.protobuf import config_pb2

        run = session._make_callable_from_options(
            (options or config_pb2.CallableOptions)(
                feed=[signature.inputs["images"].name], fetch=[signature.outputs["probabilities"].name]
            )
        )
        assert run(np.zeros((2, SIDE, SIDE, 3), np.float32))[0].shape == (2, 6)
        for shape in [(3,), (1, SIDE, SIDE + 2, 3)]:
            with pytest.raises(tf.errors.InvalidArgumentError):
                run(np.zeros(shape, np.float32))


def test_a_broken_image_is_not_ok_and_changes_no_other_row(loaded: Any, golden: list[bytes]) -> None:
    signature = loaded.signatures["serving_encoded"]
    alone = signature(tf.constant(golden[:2]))
    mixed = signature(tf.constant([b"", golden[0], b"no image", golden[1], golden[0][:100]]))
    assert mixed["ok"].numpy().tolist() == [False, True, False, True, False]
    np.testing.assert_allclose(mixed["probabilities"].numpy()[[1, 3]], alone["probabilities"], atol=1e-5)
    assert signature(tf.constant([b"?", b"!"]))["ok"].numpy().tolist() == [False, False]


def test_the_contract_is_complete_and_equals_the_file(version: Path, contract: ModelContract) -> None:
    assert ModelContract.from_json((version / "assets.extra" / "contract.json").read_bytes()) == contract
    assert contract.labels == LABELS
    assert (contract.preprocessing.height, contract.preprocessing.width) == (SIDE, SIDE)
    assert set(contract.versions) >= {"flow-images", "tensorflow", "tf-keras", "tensorflow-hub"}
    assert contract.golden is not None
    assert contract.golden.count == 16


def test_an_unknown_key_is_answered_with_nothing(loaded: Any) -> None:
    assert look_up(loaded, "golden/99", "") == [b"", b""]


@pytest.mark.parametrize("wire", WIRES)
def test_the_model_answers_its_golden_images_as_recorded(
    loaded: Any, contract: ModelContract, golden: list[bytes], wire: Wire
) -> None:
    assert contract.golden is not None
    answers = ask(loaded, contract, wire, preprocessed(golden, contract.preprocessing, wire))
    assert golden_distance(answers, contract.golden.references[wire]) < 1e-4


def darker(images: Any) -> Any:
    return images * 0.7


@pytest.mark.parametrize(
    "slip",
    [lambda x: x[..., ::-1], lambda x: x * 255, lambda x: x * 2 - 1, darker],
    ids=["channel order", "0..255", "-1..1", "darker"],
)
def test_a_client_that_preprocesses_wrong_is_noticed(
    loaded: Any, contract: ModelContract, golden: list[bytes], slip: Callable[[Any], Any]
) -> None:
    assert contract.golden is not None
    wrong = slip(preprocessed(golden, contract.preprocessing, "float32"))
    distance = golden_distance(ask(loaded, contract, "float32", wrong), contract.golden.references["float32"])
    assert distance > contract.golden.tolerance


def test_every_control_is_measured_and_would_be_noticed(contract: ModelContract) -> None:
    assert contract.golden is not None
    assert set(contract.golden.controls) == {"channel_order", "range_0_255", "range_-1_1", "antialias", "bicubic"}
    assert min(contract.golden.controls.values()) > contract.golden.tolerance


def test_a_slip_that_the_model_does_not_see_is_named(contract: ModelContract) -> None:
    assert contract.golden is not None
    blind = contract.golden.model_copy(update={"controls": dict.fromkeys("ab", 1) | {"antialias": 0.059}})
    assert undetected_errors(blind) == ["antialias"]


def test_golden_images_are_the_users_and_screened_ones(contract: ModelContract, drawn: Path) -> None:
    paths = [str(path) for path in sorted((drawn / "train").iterdir())]
    files = choose_golden(paths, contract.preprocessing)
    assert len(files) == len(set(files)) == 16
    assert sum(data in {Path(path).read_bytes() for path in paths} for data in files) == 8
    for data in files[8:]:  # large enough that resizing leaves pixels out
        assert tf.io.decode_image(data).shape[0] > 2 * SIDE
    few = choose_golden(paths[:1], contract.preprocessing)
    assert len(set(few)) == 16


def test_a_screen_keeps_large_files_out_of_the_model(contract: ModelContract, drawn: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    tf.io.write_file(str(tmp_path / "large.png"), tf.io.encode_png(pixels))
    files = choose_golden([str(tmp_path / "large.png")], contract.preprocessing)
    assert max(len(data) for data in files) < 256 * 1024 < (tmp_path / "large.png").stat().st_size


def embed(loaded: Any, contract: ModelContract, wire: Wire, value: Any) -> dict[str, np.ndarray[Any, Any]]:
    reference = contract.signature(wire, embeddings=True)
    answer = loaded.signatures[reference.name](**{reference.input: tf.constant(value)})
    return {name: tensor.numpy() for name, tensor in answer.items()}


@pytest.mark.parametrize("wire", WIRES)
def test_embeddings_are_what_the_head_makes_probabilities_of(
    version: Path, loaded: Any, contract: ModelContract, golden: list[bytes], wire: Wire
) -> None:
    value = preprocessed(golden, contract.preprocessing, wire)
    found = embed(loaded, contract, wire, value)
    stored = str(version / "variables" / "variables")
    weights = [tf.train.load_variable(stored, name) for name, _ in tf.train.list_variables(stored)]
    kernel = next(one for one in weights if np.shape(one) == (WIDTH, 6))
    bias = next(one for one in weights if np.shape(one) == (6,))
    made = tf.nn.softmax(found["embeddings"] @ kernel + bias).numpy()
    np.testing.assert_allclose(made, found["probabilities"], atol=1e-5)
    np.testing.assert_allclose(ask(loaded, contract, wire, value), found["probabilities"], atol=1e-5)
    assert found["embeddings"].std(axis=0).max() > 0.01


def test_embeddings_hardly_depend_on_the_wire_form(loaded: Any, contract: ModelContract, golden: list[bytes]) -> None:
    exact, *others = (
        embed(loaded, contract, wire, preprocessed(golden, contract.preprocessing, wire))["embeddings"]
        for wire in WIRES
    )
    for rounded in others:
        np.testing.assert_allclose(rounded, exact, atol=0.05)  # each has a deviation of 1 over images


def test_warm_up_is_one_row_for_each_signature_but_those_of_embeddings_and_runs(version: Path, loaded: Any) -> None:
    path = str(version / "assets.extra" / "tf_serving_warmup_requests")
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    requests = [log.predict_log.request for log in logs]
    few_ask_for = {reference.name for reference in EMBEDDING_SIGNATURES.values()}
    assert {request.model_spec.signature_name for request in requests} == set(loaded.signatures) - few_ask_for
    for request in requests:
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        assert {len(value) for value in inputs.values()} == {1}
        answer = loaded.signatures[request.model_spec.signature_name](
            **{name: tf.constant(value) for name, value in inputs.items()}
        )
        assert all(len(value) == 1 for value in answer.values())
        assert "ok" not in answer or answer["ok"].numpy().all()


def test_the_optimizer_is_not_in_the_model(version: Path) -> None:
    names = [name for name, _ in tf.train.list_variables(str(version / "variables" / "variables"))]
    assert names
    assert not [name for name in names if "optimizer" in name.lower() or "adam" in name.lower()]


class Tiny(tf.Module):
    """A model without a hub module: probabilities by brightness."""

    @tf.function
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        brightness = tf.reduce_mean(images, [1, 2, 3])[:, tf.newaxis]
        return tf.concat([brightness, 1 - brightness], axis=1)


@pytest.fixture
def publish(contract: ModelContract, drawn: Path, tmp_path: Path) -> Callable[..., str]:
    """Exports a tiny model; keyword arguments as for `export`."""
    paths = [str(path) for path in sorted((drawn / "train").iterdir())]

    def publish(**where: Any) -> str:
        where = {"store": str(tmp_path / "store"), "name": MODEL_NAME, **where}
        return export(Tiny(), ["bright", "dark"], contract.preprocessing, paths, **where)

    return publish


def test_versions_are_integers_published_whole(publish: Callable[..., str], tmp_path: Path) -> None:
    path = Path(publish())
    assert path.parent == tmp_path / "store" / MODEL_NAME
    assert path.name.isdigit()
    assert int(path.name) > 1_700_000_000
    assert Path(publish(version=7)).name == "7"
    assert {child.name for child in path.parent.iterdir()} == {path.name, "7"}
    assert (path.stat().st_mode & 0o055) == 0o055  # a server may run as another user


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("size", ["16k", "64k", "256k", "512k"])
def test_a_full_disk_leaves_nothing_behind_and_may_pass(
    contract: ModelContract, drawn: Path, tmp_path: Path, size: str
) -> None:
    paths = [str(path) for path in sorted((drawn / "train").iterdir())]
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(tmp_path)], check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        target = Publication(str(tmp_path / "store"), "model", 1, Disk())
        with (
            pytest.raises(DiskFull, match="No space left on device; make room, and repeat the command"),
            exporting(Tiny(), ["a", "b"], contract.preprocessing, paths, target) as exported,
        ):
            exported.add("training.json", "x" * 1024 * 1024)
        assert tree(tmp_path) == []
        assert not target.is_published
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 75),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 75),
        (OSError(errno.ESTALE, "Stale file handle"), 75),
        (OSError(errno.EROFS, "Read-only file system"), 2),
        (PermissionError(errno.EACCES, "Permission denied"), 2),
        (tf.errors.ResourceExhaustedError(None, None, "x; No space left on device [Op:SaveV2]"), 75),
        (tf.errors.AbortedError(None, None, "All 10 retry attempts failed"), 75),
        (tf.errors.FailedPreconditionError(None, None, "libcurl code 6 meaning 'Could not resolve hostname'"), 75),
        (tf.errors.PermissionDeniedError(None, None, "403"), 2),
        (tf.errors.NotFoundError(None, None, "The specified bucket does not exist."), 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_may_pass_is_75_and_what_cannot_become_right_is_2(error: Exception, code: int) -> None:
    told = explained("`model_store` x can't be written", error)
    assert told.exit_code == code
    assert str(told).startswith("`model_store` x can't be written: ")
    assert ("repeat the command" in str(told)) == (code == 75)


def test_what_is_not_good_enough_leaves_nothing_behind(contract: ModelContract, drawn: Path, tmp_path: Path) -> None:
    paths = [str(path) for path in (drawn / "train").iterdir()]
    target = Publication(str(tmp_path), "model", 1, Disk())

    def judge(exported: Exported) -> None:
        assert Path(exported.folder, "saved_model.pb").is_file()
        raise FlowImagesError("bad")

    with (
        pytest.raises(FlowImagesError, match="bad"),
        exporting(Tiny(), ["a", "b"], contract.preprocessing, paths, target) as exported,
    ):
        judge(exported)
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_published_in_a_bucket_as_on_a_disk(
    publish: Callable[..., str], s3_folder: str, tmp_path: Path
) -> None:
    assert publish(store=s3_folder, version=7) == f"{s3_folder}/{MODEL_NAME}/7"
    local = Path(publish(version=7))
    names = {path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file()}
    with local_copy(f"{s3_folder}/{MODEL_NAME}", 7, Stores()) as copy:
        folder = copy / "7"
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == names
        loaded = tf.saved_model.load(str(folder))
        assert loaded.signatures["contract"](tf.constant(["contract"]))["values"].numpy()[0]


def test_the_exif_orientation_of_a_contract_reaches_the_signature(drawn: Path, tmp_path: Path) -> None:
    from PIL import Image

    from serving.contract import Preprocessing

    class Corner(tf.Module):
        """Brightness of the upper left pixel."""

        @tf.function
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return images[:, 0, 0, :1] * [[1.0, 0.0]] + [[0.0, 1.0]]

    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    half = np.zeros((40, 40, 3), np.uint8)
    half[20:] = 255
    Image.fromarray(half).save(tmp_path / "turned.jpg", exif=exif)
    preprocessing = Preprocessing(height=SIDE, width=SIDE, orientation="exif")
    path = export(Corner(), ["a", "b"], preprocessing, [str(tmp_path / "turned.jpg")],
                  store=str(tmp_path / "store"), name="corner")  # fmt: skip
    data = (tmp_path / "turned.jpg").read_bytes()
    model = tf.saved_model.load(path)
    answer = model.signatures["serving_encoded"](tf.constant([data]))["probabilities"].numpy()
    assert answer[0, 0] == pytest.approx(1, abs=0.02)
    assert make_decoder(preprocessing, "float32")(data)[0, 0, 0] == pytest.approx(1, abs=0.02)
    recorded = json.loads((Path(path) / "assets.extra" / "contract.json").read_text())
    assert recorded["preprocessing"]["orientation"] == "exif"


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 255.0)])
def test_another_range_is_kept_in_every_wire_form(
    drawn: Path, tmp_path: Path, value_range: tuple[float, float]
) -> None:
    from serving.contract import Preprocessing

    black, white = value_range

    class Ranged(tf.Module):
        """Brightness of images in the range, and how far they are out of it."""

        @tf.function
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            bright = (tf.reduce_mean(images, [1, 2, 3]) - black) / (white - black)
            return tf.stack([bright, 1 - bright], axis=1)

    preprocessing = Preprocessing(height=SIDE, width=SIDE, value_range=value_range)
    path = export(Ranged(), ["a", "b"], preprocessing, None, store=str(tmp_path / "store"), name="ranged")
    loaded = tf.saved_model.load(path)
    contract = ModelContract.from_json(look_up(loaded, "contract")[0])
    assert contract.preprocessing.value_range == value_range
    assert contract.golden is not None
    assert contract.golden.controls["range_0_1"] > 0.05
    assert f"range_{black:.0f}_{white:.0f}" not in contract.golden.controls
    image = sorted((drawn / "train").iterdir())[0].read_bytes()
    sent: dict[Wire, Any] = {
        "float32": make_decoder(preprocessing, "float32")(image)[np.newaxis],
        "uint8": make_decoder(preprocessing, "uint8")(image)[np.newaxis],
        "encoded": [image],
    }
    answers = [ask(loaded, contract, wire, value)[0][0] for wire, value in sent.items()]
    assert 0 < answers[0] < 1
    assert answers[1:] == pytest.approx([answers[0]] * 2, abs=0.003)


def test_drawn_golden_images_are_those_that_tell_most_and_always_the_same(loaded: Any, contract: ModelContract) -> None:
    def answer(wire: Wire, value: Any) -> np.ndarray:
        return np.array(ask(loaded, contract, wire, value))

    files = draw_golden(contract.preprocessing, answer)
    assert len(set(files)) == 16
    assert draw_golden(contract.preprocessing, answer) == files
    told = reference_answers(files, contract.preprocessing, answer)
    assert undetected_errors(told) == []


def test_no_photo_is_in_a_model_unless_it_is_wanted(
    model_store: Path, drawn: Path, publish: Callable[..., str]
) -> None:
    def parts_inside(folder: Path) -> int:
        graph = (folder / "saved_model.pb").read_bytes()
        requests = (folder / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
        photos = [path.read_bytes() for path in (drawn / "train").iterdir()]
        return sum(photo[300:700] in graph or photo[300:700] in requests for photo in photos)

    assert parts_inside(model_store / "1") == 0
    assert parts_inside(Path(publish())) == 8


def test_the_contract_carries_what_makes_an_answer_unsure(contract: ModelContract, tmp_path: Path) -> None:
    target = Publication(str(tmp_path), "tiny", 1, Stores().writable(str(tmp_path)))
    certainty = Certainty(0.7, 0.95, {"bright": "light", "dark": "none"})
    with exporting(Tiny(), ["bright", "dark"], contract.preprocessing, None, target, certainty) as exported:
        found = exported.contract
    assert (found.threshold, found.target_precision, found.groups) == (0.7, 0.95, {"bright": "light", "dark": "none"})
    assert ModelContract.from_json(found.to_json()) == found
    assert found.embeddings is None  # its head is not known
    assert "embeddings" not in found.to_json()
    without = found.model_copy(update={"threshold": None, "target_precision": None, "groups": None})
    assert "threshold" not in without.to_json()
    for wrong in ({"threshold": 0.5}, {"groups": {"bright": "x"}}, {"threshold": 2, "target_precision": 0.9}):
        with pytest.raises(ContractError):
            ModelContract.from_json(json.dumps(json.loads(without.to_json()) | wrong))
