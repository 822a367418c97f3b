"""A real server that is slow: for one image, which costs only itself, or for all, which is not an image's fault."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.faults.front import Front
from tests.faults.jobs import Job, account, rows, wait_until
from tests.faults.servers import Server

pytestmark = pytest.mark.faults
MARK = (255, 0, 255)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel of files that loops on an image of MARK's colour, and on every one while there is a file `slow`."""
    import tensorflow as tf

    place = tmp_path_factory.mktemp("slow")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="files")])
    def classify(files: tf.Tensor) -> dict[str, tf.Tensor]:
        def mean(data: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(tf.cast(tf.io.decode_image(data, 3, expand_animations=False), tf.float32), [0, 1])

        colours = tf.map_fn(mean, files, fn_output_signature=tf.float32)
        marked = tf.reduce_any(tf.reduce_all(tf.abs(colours - tf.constant(MARK, tf.float32)) < 9, axis=1))
        # With a part of the input, which has no characters: a pattern of its own would be looked for just once.
        pattern = tf.strings.join([str(place / "slow*"), tf.strings.substr(files[0], 0, 0)])
        slow = tf.logical_or(marked, tf.size(tf.io.matching_files(pattern)) > 0)
        rounds = tf.where(slow, 10**9, 0)
        waited = tf.while_loop(lambda i: i < rounds, lambda i: (i + 1,), (tf.constant(0),))[0]
        return {"scores": tf.nn.softmax(colours / 255 + 0 * tf.cast(waited, tf.float32))}

    module = tf.Module()
    module.classify = classify
    tf.saved_model.save(module, str(place / "model" / "1"), {"serving_default": classify})
    (place / "labels.txt").write_text("red\ngreen\nblue\n")
    return place


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with Server(place / "model", place / "log", name="model") as running:
        yield running.address


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        colour = ((200, 20, 20), (20, 200, 20), (20, 20, 200))[number % 3]
        Image.new("RGB", (24, 24), colour).save(folder / f"{number:02}.png")
    return folder


def predict(address: str, place: Path, images: Path, *more: object) -> Job:
    number = len(list(images.parent.glob("log-*")))
    return Job(
        images.parent / f"log-{number}", "--server", address, "--model-name", "model", "--labels",
        place / "labels.txt", "--image-size", 24, "--input", images, "--output", images.parent / "out", *more,
        environment=dict(os.environ),
    )  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_slow_image_costs_only_itself(address: str, place: Path, images: Path, batch_size: int) -> None:
    Image.new("RGB", (24, 24), MARK).save(images / "13.png")
    job = predict(address, place, images, "--deadline", 4, "--batch-size", batch_size)
    assert job.wait() == 0, job.said
    assert account(images.parent / "out") == (40, 39, 1, 0)
    (row,) = rows(images.parent / "out" / "rejected.csv")
    assert row["path"] == str(images / "13.png")
    assert (row["stage"], row["reason"]) == ("predict", "too_slow")
    assert "4 s" in row["message"]
    assert "`deadline_s`" in row["message"]


def test_a_server_that_is_slow_for_all_rejects_nobody(address: str, place: Path, images: Path) -> None:
    flags = ["--deadline", 2, "--patience", 8, "--batch-size", 1]
    with Front(address) as front:
        front.hold_after(7)
        job = predict(front.address, place, images, *flags)
        wait_until(lambda: front.held, job)
        (place / "slow").touch()
        try:
            front.open.set()
            assert job.wait() == 75, job.said
        finally:
            (place / "slow").unlink()
    assert "DEADLINE_EXCEEDED" in job.said
    last = predict(address, place, images, "--batch-size", 1)
    assert last.wait() == 0, last.said
    assert account(images.parent / "out") == (40, 40, 0, 0)
