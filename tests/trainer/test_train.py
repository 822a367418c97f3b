"""Training: it can be repeated, it tells of each epoch, and a damaged image is named."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from serving.errors import UsageError
from tests.conftest import IMAGE_SIZE
from trainer.labelled_images import LabelledImage, read_labels
from trainer.options import TrainOptions
from trainer.train import Epoch, train


@pytest.fixture(scope="module")
def images(drawn: Path) -> list[LabelledImage]:
    return read_labels(str(drawn / "labels.csv"), str(drawn / "train"))


@pytest.fixture(scope="module")
def options(hub_module: Path) -> TrainOptions:
    return TrainOptions(hub_model=str(hub_module), image_size=IMAGE_SIZE, epochs=2)


def test_the_seed_decides_split_order_and_weights(images: list[LabelledImage], options: TrainOptions) -> None:
    first, again = (train(images, options) for _ in range(2))
    other = train(images, dataclasses.replace(options, seed=1))
    assert (again.training, again.validation) == (first.training, first.validation)
    for one, two in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert other.validation != first.validation
    assert np.abs(other.model.get_weights()[-1] - first.model.get_weights()[-1]).max() > 0


def test_each_batch_and_epoch_is_told(images: list[LabelledImage], options: TrainOptions) -> None:
    epochs: list[Epoch] = []
    batches: list[None] = []
    trained = train(images, options, on_batch=lambda: batches.append(None), on_epoch=epochs.append)
    assert [epoch.number for epoch in epochs] == [1, 2]
    assert len(batches) == 2 * -(-len(trained.training) // options.batch_size)
    assert epochs[1].loss < epochs[0].loss
    assert trained.labels == sorted({image.label for image in images})


@pytest.mark.parametrize("damage", ["cut off", "gone"])
def test_an_image_that_fails_in_training_is_named(
    images: list[LabelledImage], options: TrainOptions, tmp_path: Path, damage: str
) -> None:
    broken = tmp_path / "broken.jpg"
    if damage == "cut off":
        data = Path(images[0].path).read_bytes()
        broken.write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match=f"{broken}.*(damaged and can't be decoded|No such file)"):
        train([*images[1:], LabelledImage(str(broken), images[0].label)], options)


def test_learning_rates_fit_what_is_trained() -> None:
    assert TrainOptions(fine_tune=True).rate < TrainOptions().rate
    assert TrainOptions(fine_tune=True, learning_rate=0.5).rate == 0.5


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="`validation_share`"):
        TrainOptions(validation_share=share)
