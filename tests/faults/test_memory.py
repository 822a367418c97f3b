"""The memory of a real job with many large images stays under --max-memory, in each wire form."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.process.cpus import usable_cpus
from tests.faults.jobs import account, peak_memory, rows
from tests.faults.servers import Server

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cheap SavedModel that takes images in each form, and 7 MB of a photo of 12 megapixels."""
    import tensorflow as tf

    def pixels(dtype: tf.DType) -> tf.types.experimental.GenericFunction:
        @tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], dtype, name="pixels")])
        def classify(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"scores": tf.nn.softmax(tf.reduce_mean(tf.cast(pixels, tf.float32), [1, 2]))}

        return classify

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="files")])
    def files(files: tf.Tensor) -> dict[str, tf.Tensor]:
        length = tf.cast(tf.strings.length(files), tf.float32)
        return {"scores": tf.nn.softmax(tf.stack([length, 0 * length, 1 - length], axis=1))}

    place = tmp_path_factory.mktemp("memory")
    module = tf.Module()
    module.encoded, module.float32, module.uint8 = files, pixels(tf.float32), pixels(tf.uint8)
    signatures = {name: getattr(module, name) for name in ("encoded", "float32", "uint8")}
    tf.saved_model.save(module, str(place / "model" / "1"), signatures)
    (place / "labels.txt").write_text("a\nb\nc\n")
    noise = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), np.uint8)
    Image.fromarray(noise).save(place / "large.jpg", quality=72)
    assert (place / "large.jpg").stat().st_size > 6_500_000
    return place


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with Server(place / "model", place / "log", name="model") as running:
        yield running.address


def peak(address: str, place: Path, folder: Path, images: int, *flags: str, image: str = "large.jpg") -> int:
    """Most bytes that the job's process had in memory at once."""
    (folder / "in").mkdir()
    for number in range(images):
        (folder / "in" / f"{number:04}.jpg").symlink_to(place / image)
    files = ("--labels", place / "labels.txt", "--input", folder / "in", "--output", folder / "out")
    return peak_memory("--server", address, "--model-name", "model", "--image-size", "224", *files, *flags)


@pytest.mark.parametrize(
    ("wire", "images", "mebibytes"),
    [("encoded", 160, 512), ("encoded", 160, 1843), ("uint8", 30, 1280), ("float32", 30, 1843)],
)  # 1843 MiB are nine tenths of the limit in k8s/base/predict.yaml
def test_the_peak_stays_under_the_limit(
    address: str, place: Path, tmp_path: Path, wire: str, images: int, mebibytes: int
) -> None:
    found = peak(address, place, tmp_path, images, "--signature", wire, "--max-memory", f"{mebibytes}MiB")
    assert found < mebibytes * 2**20
    assert account(tmp_path / "out") == (images, images, 0, 0)


def test_large_images_take_little_although_there_is_much(address: str, place: Path, tmp_path: Path) -> None:
    """Each of them takes 36 MB while it is decoded, so only as many are decoded at once as there are processors."""
    found = peak(address, place, tmp_path, 30, "--signature", "uint8", "--max-memory", "8GiB")
    assert found < (512 + 64 * usable_cpus()) * 2**20


def test_small_images_take_little_as_float32(address: str, place: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    Image.fromarray(noise).save(place / "small.jpg", quality=60)
    found = peak(address, place, tmp_path, 600, "--signature", "float32", image="small.jpg")
    assert found < (350 + 50 * max(0, usable_cpus() - 2)) * 10**6


def test_images_that_can_not_fit_are_rejected_by_that_flag(address: str, place: Path, tmp_path: Path) -> None:
    flags = ("--signature", "encoded", "--max-memory", "384MiB", "--max-rejected", "100%")
    assert peak(address, place, tmp_path, 3, *flags) < 384 * 2**20
    found = rows(tmp_path / "out" / "rejected.csv")
    assert [(row["stage"], row["reason"]) for row in found] == [("read", "too_large")] * 3
    assert "`max_memory` 384MiB" in found[0]["message"]
