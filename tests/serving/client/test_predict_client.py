"""The client against the embedded server: answers, refusals, contract, golden images."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from serving.client.client_options import Endpoint, TlsOptions, bearer_token
from serving.client.discovery import discover
from serving.client.image_calls import ImagePredictor, PackedImages
from serving.client.model_overrides import ModelOverrides
from serving.client.predict_client import PredictClient
from serving.contract import Embeddings, Golden, ModelContract
from serving.errors import (
    ContractError,
    InvalidRequest,
    MalformedAnswer,
    ModelNotFound,
    ServerUnavailable,
    ServingError,
    UsageError,
)
from serving.images.encoder import Payload, make_encoder
from serving.images.limits import ImageLimits
from serving.images.wire import WIRES, Wire
from serving.network.retry import RetryPolicy
from serving.server import EmbeddedServer
from tests.conftest import IMAGE_SIZE, MODEL_NAME

ONCE = RetryPolicy(patience_s=0, deadline_s=20)


@pytest.fixture
def client(server: str) -> PredictClient:
    return PredictClient(Endpoint(address=server, model_name=MODEL_NAME), retry=ONCE)


@pytest.fixture
def contract(client: PredictClient) -> ModelContract:
    found = client.contract()
    assert found
    return found


def test_the_endpoint_tells_all_that_a_job_needs(client: PredictClient, model_store: Path) -> None:
    assert client.available_version() == 1
    assert client.metadata().version == 1
    exported = (model_store / "1" / "assets.extra" / "contract.json").read_text()
    assert discover(client, ModelOverrides()) == ModelContract.from_json(exported)


@pytest.mark.parametrize("wire", ["float32", "uint8", "encoded"])
def test_golden_images_are_answered_as_at_export(client: PredictClient, contract: ModelContract, wire: str) -> None:
    assert ImagePredictor(client, contract, wire).check_golden() < 1e-4  # type: ignore[arg-type]


def test_a_server_that_answers_otherwise_is_found_out(client: PredictClient, contract: ModelContract) -> None:
    assert contract.golden
    shifted = [[*row[1:], row[0]] for row in contract.golden.references["uint8"]]
    golden = Golden(**contract.golden.model_dump() | {"references": {"uint8": shifted}})
    with pytest.raises(ContractError, match="16 golden images"):
        ImagePredictor(client, contract.model_copy(update={"golden": golden}), "uint8").check_golden()


def test_every_slip_of_preprocessing_is_found_out(client: PredictClient, contract: ModelContract) -> None:
    """The controls of the export, repeated over the wire: a job with a slip would be refused."""
    import tensorflow as tf

    from serving.contract import golden_distance, golden_key

    assert contract.golden
    files = [client.lookup(golden_key(i)) for i in range(contract.golden.count)]
    decode = make_encoder(contract.preprocessing, "float32", ImageLimits())
    right = np.stack([decode(data) for data in files])
    size = [IMAGE_SIZE, IMAGE_SIZE]
    images = [tf.image.convert_image_dtype(tf.io.decode_image(d, 3, expand_animations=False), "float32") for d in files]
    slips = {
        "channel_order": right[..., ::-1],
        "range_0_255": right * 255,
        "antialias": np.stack([tf.image.resize(image, size, antialias=True) for image in images]),
        "bicubic": np.stack([tf.image.resize(image, size, method="bicubic") for image in images]),
    }
    predictor = ImagePredictor(client, contract, "float32")
    for name, wrong in slips.items():
        answers = predictor.predict(list(wrong.astype(np.float32))).probabilities
        distance = golden_distance(answers.tolist(), contract.golden.references["float32"])
        assert distance == pytest.approx(contract.golden.controls[name], abs=1e-3)
        assert distance > contract.golden.tolerance


def test_undecodable_rows_are_marked_and_others_scored(
    client: PredictClient, contract: ModelContract, drawn: Path
) -> None:
    whole = sorted((drawn / "train").iterdir())[0].read_bytes()
    scores = ImagePredictor(client, contract, "encoded").predict([whole, b"broken", whole])
    assert scores.ok.tolist() == [True, False, True]
    np.testing.assert_allclose(scores.probabilities[0], scores.probabilities[2], atol=1e-6)


@pytest.mark.parametrize("wire", WIRES)
def test_embeddings_come_with_the_scores_from_one_request(
    client: PredictClient, contract: ModelContract, drawn: Path, wire: Wire
) -> None:
    assert contract.embeddings
    encode = make_encoder(contract.preprocessing, wire, ImageLimits())
    images = [encode(path.read_bytes()) for path in sorted((drawn / "train").iterdir())[:3]]
    plain = ImagePredictor(client, contract, wire).predict(images)
    predictor = ImagePredictor(client, contract, wire, embeddings=True)
    assert predictor.check_golden() < 1e-4
    found = predictor.predict(images)
    assert plain.embeddings is None
    np.testing.assert_allclose(found.probabilities, plain.probabilities, atol=1e-5)
    assert found.embeddings is not None
    assert found.embeddings.shape == (3, contract.embeddings.width)


def test_embeddings_of_shared_batches_stand_in_their_rows(
    model_store: Path, contract: ModelContract, drawn: Path
) -> None:
    """With batching as strict as TensorFlow Serving's, where requests of several clients are one run of the graph."""
    files = [path.read_bytes() for path in sorted((drawn / "train").iterdir())[:12]]
    with (
        EmbeddedServer(str(model_store), model_name=MODEL_NAME, enable_batching=True, strict=True) as batching,
        PredictClient(Endpoint(address=batching.address, model_name=MODEL_NAME)) as client,
        ThreadPoolExecutor(6) as threads,
    ):
        predictor = ImagePredictor(client, contract, "encoded", embeddings=True)
        pairs = [
            found.embeddings for found in threads.map(predictor.predict, [files[i : i + 2] for i in range(0, 12, 2)])
        ]
        whole = predictor.predict(files).embeddings
    assert whole is not None
    np.testing.assert_allclose(np.concatenate([pair for pair in pairs if pair is not None]), whole, atol=1e-3)


def test_embeddings_of_files_among_arrays_stand_in_their_rows(
    client: PredictClient, contract: ModelContract, drawn: Path
) -> None:
    files = [path.read_bytes() for path in sorted((drawn / "train").iterdir())[:2]]
    encode = make_encoder(contract.preprocessing, "float32", ImageLimits())
    predictor = ImagePredictor(client, contract, "float32", embeddings=True)
    arrays = predictor.predict([encode(file) for file in files]).embeddings
    mixed = predictor.predict([files[1], encode(files[0])]).embeddings
    assert arrays is not None
    assert mixed is not None
    np.testing.assert_allclose(mixed, arrays[::-1], atol=1e-3)


@pytest.mark.parametrize("wire", ["float32", "uint8"])
def test_packed_images_are_the_same_together_and_apart(
    client: PredictClient, contract: ModelContract, drawn: Path, wire: Wire
) -> None:
    encode = make_encoder(contract.preprocessing, wire, ImageLimits())
    images = [encode(path.read_bytes()) for path in sorted((drawn / "train").iterdir())[:5]]
    predictor = ImagePredictor(client, contract, wire)
    packed = predictor.pack(images)
    assert isinstance(packed, PackedImages)
    np.testing.assert_array_equal(packed, images)
    expected = predictor.predict(images).probabilities
    np.testing.assert_allclose(predictor.predict(packed).probabilities, expected, atol=1e-5)
    apart = [predictor.predict(part).probabilities for part in (packed[:2], packed[2:])]
    np.testing.assert_allclose(np.concatenate(apart), expected, atol=1e-3)


def test_what_can_not_be_packed_is_left_as_it_is(client: PredictClient, contract: ModelContract) -> None:
    predictor = ImagePredictor(client, contract, "float32")
    wrong: list[Payload] = [np.zeros((2, 2, 3), np.float32)]
    mixed = [b"file", *wrong]
    assert predictor.pack(mixed) is mixed
    assert predictor.pack(wrong) is wrong
    with pytest.raises(InvalidRequest, match="nothing was sent"):
        predictor.predict(wrong)


def test_embeddings_of_another_width_are_refused(client: PredictClient, contract: ModelContract) -> None:
    other = contract.model_copy(update={"embeddings": Embeddings(width=3)})
    with pytest.raises(MalformedAnswer, match=r"output embeddings is float32 \[1, \d+\], expected floats \[1, 3\]"):
        ImagePredictor(client, other, "encoded", embeddings=True).predict([b""])


def test_files_among_arrays_are_asked_about_as_files(
    client: PredictClient, contract: ModelContract, drawn: Path
) -> None:
    files = [path.read_bytes() for path in sorted((drawn / "train").iterdir())[:2]]
    first, second = (make_encoder(contract.preprocessing, "float32", ImageLimits())(file) for file in files)
    predictor = ImagePredictor(client, contract, "float32")
    expected = predictor.predict([first, second, first]).probabilities
    mixed = predictor.predict([first, b"broken", files[1], first, b"broken too"])
    assert mixed.ok.tolist() == [True, False, True, True, False]
    np.testing.assert_allclose(mixed.probabilities[mixed.ok], expected, atol=1e-5)
    assert predictor.predict([b"broken"]).ok.tolist() == [False]


@pytest.mark.parametrize(
    "image",
    [np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32), np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.float64), b"bytes"],
    ids=["rank", "dtype", "kind"],
)
def test_a_wrong_image_is_never_sent(contract: ModelContract, image: object) -> None:
    away = PredictClient(Endpoint(address="127.0.0.1:1", model_name="x"), retry=ONCE)
    of_arrays = contract.model_copy(update={"signatures": {"float32": contract.signatures["float32"]}})
    with pytest.raises(InvalidRequest, match="nothing was sent"):
        ImagePredictor(away, of_arrays, "float32").predict([image])  # type: ignore[list-item]


def test_a_wrong_shape_is_refused_by_the_server_itself(client: PredictClient) -> None:
    with pytest.raises(InvalidRequest):
        client.predict({"images": np.zeros((3,), np.float32)})


def test_labels_that_do_not_fit_the_model_are_found_out(client: PredictClient, contract: ModelContract) -> None:
    fewer = contract.model_copy(update={"labels": contract.labels[:3]})
    with pytest.raises(ContractError, match="3 labels don't fit"):
        ImagePredictor(client, fewer, "encoded").predict([b""])


@pytest.mark.parametrize(
    ("endpoint", "error"),
    [
        ({"model_name": "other"}, ModelNotFound),
        ({"model_name": MODEL_NAME, "version": 99}, ModelNotFound),
        ({"model_name": MODEL_NAME, "address": "127.0.0.1:1"}, ServerUnavailable),
    ],
    ids=["model", "version", "address"],
)
def test_what_is_not_there_is_said(server: str, endpoint: dict[str, Any], error: type[ServingError]) -> None:
    with PredictClient(Endpoint(**{"address": server} | endpoint), retry=ONCE) as client, pytest.raises(error):
        client.predict({"images": np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32)})


@pytest.mark.parametrize(("version", "error"), [(99, ServerUnavailable), (0, ModelNotFound)], ids=["newer", "older"])
def test_a_version_that_is_not_there_may_only_come_if_it_is_newer(
    server: str, version: int, error: type[ServingError]
) -> None:
    endpoint = Endpoint(address=server, model_name=MODEL_NAME, version=version)
    with PredictClient(endpoint, retry=ONCE) as client, pytest.raises(error, match="not available: 1 is AVAILABLE"):
        client.available_version()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Endpoint(address="localhost", model_name="x"),
        lambda: Endpoint(address="a:1,b", model_name="x"),
        lambda: Endpoint(address="localhost:http", model_name="x"),
        lambda: Endpoint(address="a:1,b:1", model_name="x"),
        lambda: Endpoint(address="a:1", model_name=""),
        lambda: TlsOptions(cert="only.pem"),
        lambda: TlsOptions(ca="/missing.pem").credentials(),
        lambda: RetryPolicy(deadline_s=0),
    ],
    ids=["port", "second-port", "port-name", "several-names", "name", "key", "file", "deadline"],
)
def test_wrong_options_are_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("serving:8500", "dns:///serving:8500"),
        ("10.0.0.1:8500,10.0.0.2:8500", "ipv4:10.0.0.1:8500,10.0.0.2:8500"),
        ("[::1]:8500", "ipv6:[::1]:8500"),
        ("dns:///serving:8500", "dns:///serving:8500"),
        ("unix:/run/serving.sock", "unix:/run/serving.sock"),
    ],
)
def test_addresses_become_targets_of_grpc(address: str, target: str) -> None:
    assert Endpoint(address=address, model_name="x").target == target


def test_a_bearer_token_never_travels_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOW_IMAGES_TOKEN", "t0ken")
    with pytest.raises(UsageError, match="only sent over TLS") as error:
        PredictClient(Endpoint(address="a:1", model_name="x"))
    assert "t0ken" not in str(error.value)


def test_a_bearer_token_that_cannot_be_sent_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secured = Endpoint(address="a:1", model_name="x", tls=TlsOptions())
    monkeypatch.setenv("FLOW_IMAGES_TOKEN", "t0ken\n")
    assert bearer_token(secured) == "t0ken"
    monkeypatch.setenv("FLOW_IMAGES_TOKEN", "t0\nken")
    with pytest.raises(UsageError, match="can't be sent") as error:
        bearer_token(secured)
    assert "ken" not in str(error.value).removeprefix("the bearer token in FLOW_IMAGES_TOKEN")


def test_the_client_needs_no_tensorflow(server: str, drawn: Path) -> None:
    image = sorted((drawn / "train").iterdir())[0]
    script = f"""
import sys
sys.modules["tensorflow"] = None
from serving.client.predict_client import PredictClient
from serving.client.client_options import Endpoint
from serving.client.image_calls import ImagePredictor, PackedImages
client = PredictClient(Endpoint(address="{server}", model_name="{MODEL_NAME}"))
scores = ImagePredictor(client, client.contract(), "encoded").predict([open("{image}", "rb").read()])
print(scores.probabilities.tolist())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert sum(json.loads(done.stdout)[0]) == pytest.approx(1, abs=1e-5)


def test_classify_shows_a_table_and_tells_what_it_can_not(server: str, drawn: Path, tmp_path: Path) -> None:
    from flow_images.classify_command import classify

    (tmp_path / "broken.jpg").write_bytes(b"x")
    image = sorted((drawn / "train").iterdir())[0]
    arguments = ["--server", server, "--model-name", MODEL_NAME, "--wire", "encoded", "--top-k", "2"]
    runner = CliRunner(env={"COLUMNS": "200"})
    good = runner.invoke(classify, [str(image), *arguments])
    assert good.exit_code == 0, good.output
    assert image.name in good.output
    mixed = runner.invoke(classify, [str(tmp_path / "broken.jpg"), str(image), *arguments])
    assert mixed.exit_code == 1
    assert "not an image" in mixed.output
    assert image.name in mixed.output
