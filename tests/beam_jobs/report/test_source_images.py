"""The images of a run, read again for a page: within the run's limits, and without waiting for what is gone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_jobs.report.source_images import MOST_LETTERS, SourceImages
from serving.errors import StorageUnavailable
from serving.images.limits import ImageLimits
from serving.storage.disk import Disk


def made(paths: Sequence[str], limits: ImageLimits | None = None) -> dict[str, str | None]:
    return SourceImages(lambda _: Disk(), str, limits or ImageLimits(), upright=False).thumbnails(paths)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """An image whose thumbnail is as large as any."""
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (176, 176, 3), np.uint8)).save(path, "PNG")
    return path


def test_what_can_not_be_shown_has_none_and_others_have_one(tmp_path: Path, noise: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    names = [str(tmp_path / name) for name in ("gone.jpg", "text.jpg", "folder.jpg", "noise.png")]
    assert [bool(one) for one in made(names).values()] == [False, False, False, True]


@pytest.mark.parametrize("limits", [ImageLimits(max_image_bytes=1000), ImageLimits(max_image_pixels=1000)])
def test_an_image_over_the_limits_is_not_decoded(noise: Path, limits: ImageLimits) -> None:
    assert made([str(noise)], limits) == {str(noise): None}


def test_there_are_no_more_than_a_page_has_room_for(tmp_path: Path, noise: Path) -> None:
    paths = [str(tmp_path / f"{number:03}.png") for number in range(400)]
    for path in paths:
        Path(path).hardlink_to(noise)
    found = [one for one in made(paths).values() if one]
    assert 0 < len(found) < 400
    assert MOST_LETTERS - len(found[0]) < sum(map(len, found)) <= MOST_LETTERS


def test_a_bucket_that_gives_no_answer_is_not_asked_for_each_image() -> None:
    class Away(Disk):
        asked = 0

        def read(self, path: str, limit: int | None = None) -> bytes:
            Away.asked += 1
            raise StorageUnavailable("no answer")

    paths = [f"s3://bucket/{number}.jpg" for number in range(500)]
    found = SourceImages(lambda _: Away(), str, ImageLimits(), upright=False).thumbnails(paths)
    assert set(found.values()) == {None}
    assert Away.asked <= 8


def test_paths_are_those_of_the_run_wherever_it_is_read(tmp_path: Path, noise: Path) -> None:
    images = SourceImages(lambda _: Disk(), lambda path: f"{tmp_path}/{path}", ImageLimits(), upright=False)
    assert images.thumbnails(["noise.png"])["noise.png"]
