"""Decoded images are those of `process_image`, wherever they are kept, and are decoded once."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.contract import Preprocessing
from tests.hostile import noisy_jpeg
from trainer.data import process_image
from trainer.decoded_images import DecodedImages
from trainer.progress import Progress
from trainer.work_folder import WorkFolder

Array = np.ndarray[Any, np.dtype[Any]]
SIZE = 32
PREPROCESSING = Preprocessing(height=SIZE, width=SIZE, value_range=(-1.0, 1.0))


class Told(Progress):
    def __init__(self, kill_at: int | None = None) -> None:
        self.steps: list[int] = []
        self.notes: list[str] = []
        self.kill_at = kill_at

    def advance(self, count: int = 1) -> None:
        self.steps.append(count)
        if self.kill_at is not None and sum(self.steps) >= self.kill_at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def paths(drawn: Path) -> list[str]:
    return [str(path) for path in sorted((drawn / "train").iterdir())][:40]


@pytest.fixture(scope="module")
def expected(paths: list[str]) -> Array:
    return np.stack([process_image(path, SIZE, value_range=(-1.0, 1.0)).numpy() for path in paths])


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder.open(str(tmp_path), ["k"])


@pytest.fixture
def full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("place", ["memory", "file"])
def test_they_are_what_process_image_reads(paths: list[str], expected: Array, work: WorkFolder, place: str) -> None:
    images = DecodedImages(paths, PREPROCESSING, name="i", work=work, in_memory=0 if place == "file" else 2**30)
    assert len(images) == 40
    assert (work.path / "i.npy").exists() == (place == "file")
    np.testing.assert_array_equal(images[np.array([7, 0, 7])], expected[[7, 0, 7]])
    np.testing.assert_array_equal(images[np.arange(40)], expected)


def test_without_room_they_are_decoded_each_time(
    paths: list[str], expected: Array, work: WorkFolder, full_disk: None
) -> None:
    told = Told()
    images = DecodedImages(paths, PREPROCESSING, name="i", work=work, in_memory=0, progress=told)
    assert len(told.notes) == 1
    assert "decoded again in each epoch" in told.notes[0]
    np.testing.assert_array_equal(images[np.array([7, 0, 39])], expected[[7, 0, 39]])


def test_rounded_ones_are_bytes_whatever_the_range(paths: list[str], expected: Array, work: WorkFolder) -> None:
    images = DecodedImages(paths, PREPROCESSING, name="i", rounded=True)[np.arange(40)]
    assert images.dtype == np.uint8
    np.testing.assert_allclose(images / 127.5 - 1, expected, rtol=0, atol=1.001 / 255)


def test_a_killed_run_goes_on_where_it_stopped(paths: list[str], expected: Array, work: WorkFolder) -> None:
    many = paths * 8  # 320, of which 256 are on record after eight batches
    with pytest.raises(KeyboardInterrupt):
        DecodedImages(many, PREPROCESSING, name="i", work=work, in_memory=0, progress=Told(300))
    told = Told()
    images = DecodedImages(many, PREPROCESSING, name="i", work=work, in_memory=0, progress=told)
    assert told.steps == [256, 32, 32]
    np.testing.assert_array_equal(images[np.arange(320)], np.concatenate([expected] * 8))
    DecodedImages(many, PREPROCESSING, name="i", work=work, in_memory=0, progress=(third := Told()))
    assert third.steps == [320]


def test_no_images_are_none(work: WorkFolder) -> None:
    assert len(DecodedImages([], PREPROCESSING, name="i", work=work)) == 0


def test_what_a_decoder_says_of_an_image_is_not_printed(
    paths: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noisy = tmp_path / "noisy.jpg"
    noisy.write_bytes(noisy_jpeg(Path(paths[0]).read_bytes()))
    expected = process_image(str(noisy), img_size=SIZE).numpy()
    assert "Corrupt JPEG data: 5 extraneous bytes" in capfd.readouterr().err
    found = DecodedImages([str(noisy)], Preprocessing(height=SIZE, width=SIZE), name="noisy")
    np.testing.assert_array_equal(found[np.array([0])][0], expected)
    assert capfd.readouterr().err == ""
