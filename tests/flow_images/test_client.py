"""`Client` against the embedded server: each kind of image, each kind of fault, and what it needs."""

import asyncio
import copy
import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from flow_images.async_client import AsyncClient
from flow_images.classification import Classification
from flow_images.client import Client
from serving.client.model_overrides import ModelOverrides
from serving.errors import (
    ClientClosed,
    ContractError,
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    UsageError,
)
from serving.images.limits import ImageLimits
from serving.images.wire import Wire
from serving.server import EmbeddedServer
from tests.conftest import IMAGE_SIZE, MODEL_NAME


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server, MODEL_NAME, patience_s=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def files(drawn: Path) -> list[Path]:
    return sorted((drawn / "train").iterdir())[:9]


def pixels_of(file: Path) -> np.ndarray[Any, np.dtype[Any]]:
    return np.asarray(tf.io.decode_image(file.read_bytes(), channels=3))


def same(one: Classification, other: Classification) -> bool:
    mine, others = ([score for _, score in result.top] for result in (one, other))
    return one.label == other.label and np.allclose(mine, others, atol=1e-4)


def test_one_image_has_one_result(client: Client, files: list[Path]) -> None:
    result = client.classify(str(files[0]))
    assert result.ok
    assert result.image == str(files[0])
    assert (result.label, result.score) == result.top[0]
    assert len(result.top) == 5
    assert [score for _, score in result.top] == sorted((score for _, score in result.top), reverse=True)
    assert str(result) == f"{files[0]}: {result.label} ({result.score:.6f})"


@pytest.mark.parametrize("wire", ["encoded", "uint8", "float32"])
def test_a_file_is_the_same_image_by_path_bytes_and_pixels(server: str, files: list[Path], wire: Wire) -> None:
    file = files[0]
    pixels = pixels_of(file)
    with Client(server, MODEL_NAME, wire=wire) as client:
        by_path, *others = client.classify([
            file, file.read_bytes(), bytearray(file.read_bytes()), memoryview(file.read_bytes()), pixels,
            pixels.astype(np.float32) / 255, pixels.astype(np.float64) / 255, np.asfortranarray(pixels),
        ])  # fmt: skip
    assert [other.image for other in others] == [1, 2, 3, 4, 5, 6, 7]
    assert all(same(by_path, other) for other in others)


def test_results_are_in_order_over_batches(server: str, files: list[Path]) -> None:
    with Client(server, MODEL_NAME, batch_size=4, top_k=1) as client:
        results = client.classify(file for file in files)
        alone = [client.classify(file) for file in files]
    assert [result.image for result in results] == list(map(str, files))
    assert all(map(same, results, alone))
    assert all(len(result.top) == 1 for result in results)


def test_images_are_read_a_batch_at_a_time(server: str, files: list[Path]) -> None:
    taken: list[Path] = []
    with Client(server, MODEL_NAME, batch_size=2) as client:
        results = client.classify_each(taken.append(file) or file for file in files)  # type: ignore[func-returns-value]
        next(results)
        assert taken == files[:2]
        assert len(list(results)) == len(files) - 1


def test_an_array_of_images_is_several(client: Client, files: list[Path]) -> None:
    pixels = np.stack([pixels_of(file)[:40, :40] for file in files[:3]])
    assert [result.image for result in client.classify(pixels)] == [0, 1, 2]
    assert client.classify([]) == []


@pytest.mark.parametrize("batch_size", [1, 32])
def test_a_broken_image_is_a_result_and_costs_no_other(server: str, files: list[Path], batch_size: int) -> None:
    cut, pixels = files[0].read_bytes()[:300], pixels_of(files[0])
    images: list[Any] = [files[0], "none.jpg", b"", b"<html>", files[0].parent, cut]
    images += [pixels[..., 0], pixels.astype(np.float32), pixels.astype(np.int64), "\udce9.jpg", files[1]]
    with Client(server, MODEL_NAME, batch_size=batch_size) as client:
        results = client.classify(images)
    assert [result.reason for result in results] == [
        "", "missing", "empty", "not_an_image", "not_a_file", "corrupt", "not_an_image", "not_an_image", "not_an_image",
        "bad_name", "",
    ]  # fmt: skip
    assert [result.verdict for result in results] == ["predicted", *["rejected"] * 9, "predicted"]
    assert "none.jpg: rejected, missing: there is no such file" in str(results[1])
    assert "floats must be from 0 to 1, and are from" in results[7].message
    assert (results[1].label, results[1].score, results[1].ok) == (None, None, False)


def test_a_result_is_json(client: Client, files: list[Path]) -> None:
    found = json.loads(json.dumps([result.as_dict() for result in client.classify([files[0], "none.jpg"])]))
    assert found[0]["label"] == found[0]["top"][0]["label"]
    assert found[1]["reason"] == "missing"


def test_limits_are_the_callers(server: str, files: list[Path]) -> None:
    with Client(server, MODEL_NAME, limits=ImageLimits(max_image_bytes=10)) as client:
        assert [result.reason for result in client.classify([files[0], pixels_of(files[0])])] == ["too_large"] * 2


def test_what_is_no_image_at_all_is_the_programs_mistake(client: Client) -> None:
    with pytest.raises(UsageError, match=r"image 1: give a path, .* not int"):
        client.classify([b"", 3])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="ftp://"):
        client.classify("ftp://host/a.jpg")


@pytest.mark.parametrize("kind", [None, 3, "file", "Pillow"])
def test_what_is_no_collection_of_images_is_named(client: Client, files: list[Path], kind: Any) -> None:
    opened: dict[Any, Any] = {"file": files[0].open("rb"), "Pillow": Image.open(files[0])}
    with pytest.raises(UsageError, match="or a list of these, not"):
        client.classify(opened.get(kind, kind))
    for one in opened.values():
        one.close()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("text", "not str"),
        (1, "not int"),
        ([b"a", "b"], "not list"),
        (np.array([None]), "object"),
        (np.zeros(1, np.complex64), "complex64"),
        ([np.zeros(1, np.float32), np.zeros(1, np.int32)], "one data type"),
        ([np.zeros(1), np.zeros(2)], "shape"),
    ],
)
def test_an_input_that_cannot_be_sent_is_named(client: Client, value: Any, says: str) -> None:
    with pytest.raises(UsageError, match=f"input images: .*{says}"):
        client.predict({"images": value})


def test_one_output_needs_no_list(client: Client) -> None:
    images = np.zeros([1, IMAGE_SIZE, IMAGE_SIZE, 3], np.float32)
    assert client.predict({"images": images}, outputs="probabilities").keys() == {"probabilities"}


def test_an_image_in_a_bucket_is_read(client: Client, files: list[Path], s3_folder: str) -> None:
    import boto3

    key = f"{s3_folder.removeprefix('s3://images/')}/a.png"
    boto3.client("s3").put_object(Bucket="images", Key=key, Body=files[0].read_bytes())
    there, missing = client.classify([f"{s3_folder}/a.png", f"{s3_folder}/b.png"])
    assert same(there, client.classify(files[0]))
    assert missing.reason == "missing"


def test_the_models_contract_versions_and_golden_images(client: Client) -> None:
    contract = client.contract()
    assert len(contract.labels) == 6
    assert contract.preprocessing.height == IMAGE_SIZE
    assert [(one.version, one.state) for one in client.versions()] == [(1, "AVAILABLE")]
    assert client.check() < contract.golden.tolerance  # type: ignore[union-attr]


def test_raw_arrays_go_to_a_signature_as_they_are(client: Client, files: list[Path]) -> None:
    answer = client.predict({"image_bytes": [files[0].read_bytes()]}, signature="serving_encoded", outputs=["ok"])
    assert answer["ok"].tolist() == [True]
    with pytest.raises(InvalidRequest):
        client.predict({"images": np.zeros([3], np.float32)})


def test_a_server_that_is_away_is_an_error() -> None:
    with (
        Client("127.0.0.1:1", MODEL_NAME, patience_s=0.3) as client,
        pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"),
    ):
        client.classify(b"")


def test_a_model_that_is_not_there_is_an_error(server: str) -> None:
    with Client(server, "cats") as client, pytest.raises(ModelNotFound):
        client.classify(b"")
    with Client(server, MODEL_NAME, version=0) as client, pytest.raises(ModelNotFound, match="1 is AVAILABLE"):
        client.contract()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"server": "localhost"}, "HOST:PORT"),
        ({"model_name": ""}, "name"),
        ({"top_k": 0}, "`top_k`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"patience_s": -1}, "patience_s"),
        ({"token": "secret"}, "only sent over TLS"),
        ({"wire": "jpeg"}, "jpeg"),
        ({"wire": 3}, "`wire`"),
        ({"server": 8500}, "`server` must be text"),
        ({"model_name": 3}, "`model_name`"),
        ({"version": "1"}, "`version`"),
        ({"version": -1}, "`version`"),
        ({"tls": "ca.pem"}, "`tls`"),
        ({"tls": True, "token": b"secret"}, "bearer token must be text"),
        ({"top_k": 1.5}, "`top_k`"),
        ({"batch_size": True}, "`batch_size`"),
        ({"overrides": {}}, "`overrides`"),
        ({"limits": 5}, "`limits`"),
        ({"storage": "s3"}, "`storage`"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_asked(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        Client(**{"server": "127.0.0.1:1", "model_name": "m"} | arguments)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float32(1 + 1e-6), "from 0.5 to 1.000001"),
        (np.float64(1 + 1e-7), "from 0.5 to 1.0000001"),
        (np.float64(-1e-9), "from -1e-09 to 0.5"),
        (np.float32("nan"), "1 of them are NaN"),
        (np.float16("inf"), "from 0.5 to inf"),
    ],
)
def test_of_floats_out_of_range_the_digits_that_matter_are_told(client: Client, value: Any, message: str) -> None:
    pixels = np.full([4, 4, 3], 0.5, value.dtype)
    pixels[1, 2, 0] = value
    result = client.classify(pixels)
    assert (result.verdict, result.reason) == ("rejected", "not_an_image")
    assert message in result.message


def test_an_array_over_the_limits_is_refused_before_it_is_encoded(server: str) -> None:
    huge = np.broadcast_to(np.zeros([1, 1, 3], np.uint8), [2**29, 2**29, 3])  # no memory could hold a copy
    noise = np.random.default_rng(0).integers(0, 256, [400, 400, 3], dtype=np.uint8)
    with Client(server, MODEL_NAME, limits=ImageLimits(max_image_bytes=100_000)) as client:
        many_pixels, many_bytes = client.classify([huge, noise])
    assert many_pixels.reason == "too_many_pixels"
    assert "over the limit of 100,000,000 (`max_image_pixels`)" in many_pixels.message
    assert many_bytes.reason == "too_large"
    assert "over the limit of 100,000 bytes (`max_image_bytes`)" in many_bytes.message


def test_a_client_goes_to_other_processes(server: str, files: list[Path]) -> None:
    with (
        Client(server, model_name=MODEL_NAME, top_k=2) as client,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes,
    ):
        expected = client.classify(files[0])
        assert same(processes.submit(client.classify, files[0]).result(), expected)
        with copy.deepcopy(client) as other:
            assert other.classify(files[0]) == expected
        assert repr(other) == repr(client)
        copied = pickle.loads(pickle.dumps(AsyncClient(server, MODEL_NAME, top_k=2)))
        assert asyncio.run(copied.classify(files[0])) == expected


def test_a_closed_client_says_so(server: str, files: list[Path]) -> None:
    client = Client(server, MODEL_NAME)
    client.contract()
    client.close()
    with pytest.raises(ClientClosed, match="the client is closed"):
        client.classify(files[0])
    with pytest.raises(ClientClosed):
        client.versions()


def test_another_version_takes_over_when_ours_leaves(model_store: Path, files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / MODEL_NAME
    shutil.copytree(model_store / "1", folder / "1")
    with (
        EmbeddedServer(str(folder), model_name=MODEL_NAME) as running,
        Client(running.address, MODEL_NAME) as client,
    ):
        first = client.classify(files[0])
        shutil.copytree(model_store / "1", tmp_path / "2")
        (tmp_path / "2").rename(folder / "2")
        with Client(running.address, MODEL_NAME, version=2) as newer:
            newer.contract()  # is waited for until it is loaded
        while [one.version for one in client.versions() if one.state == "AVAILABLE"] != [2]:
            pass  # the old one is unloaded right after
        assert same(client.classify(files[0]), first)
        with Client(running.address, MODEL_NAME, version=1) as pinned, pytest.raises(ModelNotFound):
            pinned.classify(files[0])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a SavedModel without a contract: the mean colour is the score of red, green and blue."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="x")])
    def call(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.nn.softmax(20 * tf.reduce_mean(x, [1, 2]))}

    module.call = call
    folder = tmp_path_factory.mktemp("plain")
    tf.saved_model.save(module, str(folder / "1"), call)
    with EmbeddedServer(str(folder), model_name="plain") as running:
        yield running.address


def test_a_model_without_a_contract_needs_its_labels(plain: str, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    Image.new("RGB", (30, 20), (0, 255, 0)).save(tmp_path / "green.png")
    with Client(plain, "plain", overrides=ModelOverrides(labels=str(tmp_path / "labels.txt"))) as client:
        assert client.classify(tmp_path / "green.png").label == "green"
        assert client.contract().labels == ["red", "green", "blue"]
        assert client.check() == 0
    with Client(plain, "plain") as client, pytest.raises(UsageError, match="labels"):
        client.contract()
    with (
        Client(plain, "plain", wire="encoded", overrides=ModelOverrides(labels=str(tmp_path / "labels.txt"))) as client,
        pytest.raises(ContractError, match="encoded"),
    ):
        client.contract()


def test_no_tensorflow_is_needed(server: str, files: list[Path]) -> None:
    script = f"""
import sys
sys.modules["tensorflow"] = None
import numpy as np
from PIL import Image
from flow_images.client import Client
damaged = open("{files[0]}", "rb").read()[:-99]
with Client("{server}", "{MODEL_NAME}") as client:
    by_file, by_pixels = client.classify(["{files[0]}", np.asarray(Image.open("{files[0]}").convert("RGB"))])
    print(by_file.label, by_file.ok, by_pixels.ok)
for wire in ("float32", "uint8"):
    with Client("{server}", "{MODEL_NAME}", wire=wire) as client:
        print(client.check() < 0.1, client.classify("{files[0]}").label, client.classify(damaged).reason)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    with Client(server, MODEL_NAME) as client:
        label = client.classify(files[0]).label
    assert done.stdout.splitlines() == [f"{label} True True", *2 * [f"True {label} corrupt"]]
