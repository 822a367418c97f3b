"""Real servers that die, change or share: kill -9, new versions, unloading, another client's bad image."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.client.client_options import Endpoint
from serving.client.predict_client import PredictClient
from serving.errors import InvalidRequest
from serving.network.retry import RetryPolicy
from tests.conftest import IMAGE_SIZE, MODEL_NAME
from tests.faults.conftest import START
from tests.faults.front import Front
from tests.faults.jobs import Account, Job, account, assert_same, parts, rows, wait_until
from tests.faults.proxy import CuttingProxy
from tests.faults.servers import Server

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Path:
    """A model folder of this module, whose versions come and go."""
    return Path(shutil.copytree(model_store, tmp_path_factory.mktemp("store") / MODEL_NAME))


@pytest.fixture(scope="module")
def process(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of it that keeps the two newest versions, as ours in production does."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "models.config").write_text(
        f'model_config_list {{ config {{ name: "{MODEL_NAME}" base_path: "{store}" model_platform: "tensorflow"\n'
        "model_version_policy { latest { num_versions: 2 } } } }"
    )
    with Server(store, folder / "log", f"--model_config_file={folder / 'models.config'}") as running:
        yield running


@pytest.fixture
def between(process: Server) -> Iterator[Front]:
    """A front to it, which can keep the run in its middle."""
    with Front(process.address) as running:
        yield running


def publish(store: Path, version: int) -> None:
    aside = store.parent / f"aside-{version}"
    shutil.copytree(store / "1", aside)
    aside.rename(store / str(version))


def available(address: str) -> list[int]:
    with PredictClient(Endpoint(address=address, model_name=MODEL_NAME), retry=RetryPolicy(patience_s=0)) as client:
        return [one.version for one in client.versions() if one.state == "AVAILABLE"]


def test_a_server_that_is_killed_and_started_again(
    start: START, process: Server, between: Front, undisturbed: Path, tmp_path: Path
) -> None:
    between.hold_after(7)
    job = start(between.address)
    wait_until(lambda: parts(tmp_path / "out") and between.held, job)
    process.kill()
    asked = between.asked
    between.open.set()
    wait_until(lambda: between.asked > asked + 1, job)
    process.start()
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)


def test_a_server_that_stops_still(start: START, process: Server, undisturbed: Path, tmp_path: Path) -> None:
    job = start(process.address, "--deadline", 1.5)
    wait_until(lambda: (tmp_path / "out" / "_state" / "plan.json").exists(), job)
    process.pause()
    time.sleep(3)
    process.go_on()
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)


def test_a_version_that_is_about_to_be_published_is_waited_for(
    start: START, process: Server, store: Path, undisturbed: Path, tmp_path: Path
) -> None:
    job = start(process.address, "--model-version", 2)
    wait_until(lambda: "version 2 of model" in job.said, job)
    publish(store, 2)
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)
    assert '"version": 2' in (tmp_path / "out" / "run.json").read_text()
    shutil.rmtree(store / "2")
    wait_until(lambda: available(process.address) == [1])


def test_versions_that_appear_and_go(
    start: START, process: Server, store: Path, between: Front, undisturbed: Path, tmp_path: Path
) -> None:
    between.hold_after(4)
    job = start(between.address)
    wait_until(lambda: between.held, job)
    publish(store, 2)
    wait_until(lambda: available(process.address) == [2, 1], job)
    between.hold_after(9)
    between.open.set()
    wait_until(lambda: between.held and parts(tmp_path / "out"), job)
    publish(store, 3)
    wait_until(lambda: 1 not in available(process.address), job)
    between.open.set()
    assert job.wait() == 75
    assert f"version 1 of {MODEL_NAME} is no longer served" in job.said
    assert "Traceback" not in job.said
    again = start(between.address)
    assert again.wait() == 75  # not mixed with version 3
    other = start(between.address, "--model-version", "3")
    assert other.wait() == 2
    assert "--fresh" in other.said
    shutil.rmtree(store / "3")
    wait_until(lambda: 1 in available(process.address))
    last = start(between.address)
    assert last.wait() == 0, last.said
    assert_same(tmp_path / "out", undisturbed)
    assert '"version": 1' in (tmp_path / "out" / "run.json").read_text()
    assert (
        start(between.address, "--model-version", "2").wait() == 2
    )  # a finished run of another version is not an answer


def test_connections_cut_in_the_middle_of_a_message(
    start: START, server: str, undisturbed: Path, tmp_path: Path
) -> None:
    with CuttingProxy(server, cuts=4, after_bytes=30_000) as proxy:
        job = start(proxy.address)
        assert job.wait() == 0, job.said
        assert proxy.cut >= 3
    assert_same(tmp_path / "out", undisturbed)


def test_an_embedded_server_that_cannot_start_is_one_message(images: Path, tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    (tmp_path / "broken" / "1" / "saved_model.pb").write_bytes(b"no model")
    job = Job(tmp_path / "log", "--model", tmp_path / "broken", "--wire", "encoded",
              "--input", images, "--output", tmp_path / "out")  # fmt: skip
    assert job.wait() == 1
    assert "--model" in job.said
    assert "Traceback" not in job.said
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel without a contract that takes files and fails on a bad one, as most do; 3 classes by mean colour."""
    import tensorflow as tf

    def one(data: tf.Tensor) -> tf.Tensor:
        image = tf.image.convert_image_dtype(tf.io.decode_image(data, 3, expand_animations=False), tf.float32)
        return tf.reduce_mean(tf.image.resize(image, [IMAGE_SIZE, IMAGE_SIZE]), [0, 1])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="files")])
    def classify(files: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"colours": tf.nn.softmax(8 * tf.map_fn(one, files, fn_output_signature=tf.float32))}

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="pixels")])
    def classify_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"colours": tf.nn.softmax(8 * tf.reduce_mean(tf.ensure_shape(pixels, [None, 24, 24, 3]), [1, 2]))}

    folder = tmp_path_factory.mktemp("plain")
    module = tf.Module()
    module.classify, module.classify_pixels = classify, classify_pixels
    signatures = {"serving_default": classify, "pixels": classify_pixels}
    tf.saved_model.save(module, str(folder / "plain" / "1"), signatures)
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    return folder


@pytest.fixture(scope="module")
def shared(plain: Path) -> Iterator[str]:
    """A server of it that batches the requests of its clients together."""
    from serving.server import EmbeddedServer

    parameters = plain / "batching.config"
    parameters.write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 10000 }\n"
        "num_batch_threads { value: 1 } max_enqueued_batches { value: 100 }"
    )
    with EmbeddedServer(
        str(plain / "plain"), model_name="plain", enable_batching=True, batching_parameters_file=str(parameters)
    ) as running:
        yield running.address


def ask_plain(plain: Path, images: Path, output: Path) -> list[object]:
    return ["--model-name", "plain", "--labels", plain / "labels.txt", "--image-size", IMAGE_SIZE,
            "--input", images, "--output", output]  # fmt: skip


def test_one_poison_image_in_each_batch(
    start: START, shared: str, plain: Path, images: Path, drawn: Path, tmp_path: Path
) -> None:
    clean = start(shared, flags=ask_plain(plain, drawn / "train", tmp_path / "clean"))
    assert clean.wait() == 0, clean.said
    folder = Path(shutil.copytree(drawn / "train", tmp_path / "in"))
    poison = (images / "0.jpg").read_bytes()  # its header is whole, so only decoding shows
    for number, image in enumerate(sorted((drawn / "train").iterdir())):
        if number % 3 == 0:
            (folder / f"{image.stem}-poison.jpg").write_bytes(poison)
    job = start(shared, flags=ask_plain(plain, folder, tmp_path / "out"))
    assert job.wait() == 0, job.said
    assert account(tmp_path / "out") == Account(64, 48, 16, 0)
    for row, expected in zip(
        rows(tmp_path / "out/predictions.csv"), rows(tmp_path / "clean/predictions.csv"), strict=True
    ):
        assert (Path(row["path"]).name, row["label"]) == (Path(expected["path"]).name, expected["label"])
        assert abs(float(row["score"]) - float(expected["score"])) <= 1e-4


def test_a_batch_over_the_servers_limit(start: START, shared: str, plain: Path, drawn: Path, tmp_path: Path) -> None:
    job = start(shared, "--batch-size", 48, flags=ask_plain(plain, drawn / "train", tmp_path / "out"))
    assert job.wait() == 0, job.said
    assert account(tmp_path / "out") == Account(48, 48, 0, 0)


def test_a_model_that_would_refuse_every_image_is_found_out(
    start: START, shared: str, plain: Path, drawn: Path, tmp_path: Path
) -> None:
    ask = [*ask_plain(plain, drawn / "train", tmp_path / "out"), "--wire", "float32", "--signature", "pixels"]
    wrong = start(shared, flags=[*ask, "--image-size", 25])
    assert wrong.wait() == 1
    assert "does not take an image of 25 x 25 pixels as float32" in wrong.said
    assert not (tmp_path / "out" / "predictions.csv").exists()
    right = start(shared, flags=[*ask, "--image-size", 24])
    assert right.wait() == 0, right.said
    assert account(tmp_path / "out") == Account(48, 48, 0, 0)


def test_another_clients_bad_images_reject_none_of_ours(
    start: START, shared: str, plain: Path, images: Path, drawn: Path, tmp_path: Path
) -> None:
    poison, over, refused = (images / "0.jpg").read_bytes(), threading.Event(), []

    def disturb() -> None:
        with PredictClient(Endpoint(address=shared, model_name="plain")) as client:
            while not over.wait(0.02):
                try:
                    client.predict({"files": [poison]})
                except InvalidRequest:
                    refused.append(1)

    other = threading.Thread(target=disturb)
    other.start()
    try:
        job = start(shared, flags=ask_plain(plain, drawn / "train", tmp_path / "out"))
        assert job.wait() == 0, job.said
    finally:
        over.set()
        other.join()
    assert refused
    assert account(tmp_path / "out") == Account(48, 48, 0, 0)
