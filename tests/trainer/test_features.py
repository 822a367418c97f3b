"""Each image is run through the module once, also if the run is killed in between."""

from pathlib import Path

import numpy as np
import pytest

from serving.contract import Preprocessing
from tests.conftest import IMAGE_SIZE, drawn_split
from trainer.data import process_image
from trainer.features import extract_features
from trainer.hub.module import HubModule, load_module
from trainer.progress import Progress
from trainer.work_folder import WorkFolder

PREPROCESSING = Preprocessing(height=IMAGE_SIZE, width=IMAGE_SIZE)


@pytest.fixture(scope="module")
def module(hub_module: Path) -> HubModule:
    return load_module(str(hub_module))


@pytest.fixture(scope="module")
def paths(drawn: Path) -> list[str]:
    return [image.path for part in drawn_split(drawn) for image in part]


def test_they_are_the_layers_answers(module: HubModule, paths: list[str]) -> None:
    found = extract_features(module.layer, module.features, paths[:5], PREPROCESSING, name="f")
    one = module.layer(np.stack([process_image(path, IMAGE_SIZE).numpy() for path in paths[:5]]))
    np.testing.assert_allclose(found, one, rtol=1e-4, atol=1e-5)
    assert extract_features(module.layer, module.features, [], PREPROCESSING, name="f").shape == (0, module.features)


def test_a_run_goes_on_where_it_was_killed(module: HubModule, paths: list[str], tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Told(Progress):
        def __init__(self, kill_at: int | None) -> None:
            self.steps: list[int] = []
            self.kill_at = kill_at

        def advance(self, count: int = 1) -> None:
            self.steps.append(count)
            if self.kill_at is not None and sum(self.steps) >= self.kill_at:
                raise Killed

    many = paths * 10  # 480, of which 256 are on record after eight batches
    expected = extract_features(module.layer, module.features, many, PREPROCESSING, name="f")
    work = WorkFolder.open(str(tmp_path), ["k"])
    with pytest.raises(Killed):
        extract_features(module.layer, module.features, many, PREPROCESSING, name="f", work=work, progress=Told(300))
    again = Told(None)
    found = extract_features(module.layer, module.features, many, PREPROCESSING, name="f", work=work, progress=again)
    assert again.steps[0] == 256
    np.testing.assert_array_equal(found, expected)
    third = Told(None)
    extract_features(module.layer, module.features, many, PREPROCESSING, name="f", work=work, progress=third)
    assert third.steps == [480]


def test_a_file_that_was_cut_off_is_made_anew(module: HubModule, paths: list[str], tmp_path: Path) -> None:
    work = WorkFolder.open(str(tmp_path), ["k"])
    whole = extract_features(module.layer, module.features, paths, PREPROCESSING, name="f", work=work)
    (work.path / "f.npy").write_bytes((work.path / "f.npy").read_bytes()[:200])
    again = extract_features(module.layer, module.features, paths, PREPROCESSING, name="f", work=work)
    np.testing.assert_array_equal(again, whole)
