"""Training: it can be repeated, chooses on training images alone, and a damaged image is named."""

from pathlib import Path

import numpy as np
import pytest
import tf_keras

from serving.errors import UsageError
from tests.conftest import drawn_split
from trainer.head import HeadOptions
from trainer.hub.module import HubModule, load_module
from trainer.images.labelled_images import LabelledImage
from trainer.images.split import Split
from trainer.model import create_model, with_temperature
from trainer.train import train
from trainer.train_options import TrainOptions


@pytest.fixture(scope="module")
def split(drawn: Path) -> Split:
    return drawn_split(drawn)


@pytest.fixture(scope="module")
def module(hub_module: Path) -> HubModule:
    return load_module(str(hub_module))


@pytest.fixture(scope="module")
def options(hub_module: Path) -> TrainOptions:
    return TrainOptions(hub_model=str(hub_module))


def test_the_same_seed_gives_the_same_model(split: Split, options: TrainOptions, module: HubModule) -> None:
    first, again = (train(split, options, module, control=True) for _ in range(2))
    for one, two in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert first.history == again.history
    assert first.control_accuracy == again.control_accuracy
    assert first.choice is not None
    assert first.hyperparameters["learning_rate"] == first.choice.chosen.options.learning_rate
    assert first.labels == sorted({image.label for image in split.training})


def test_it_has_learnt_and_its_control_has_not(split: Split, options: TrainOptions, module: HubModule) -> None:
    trained = train(split, options, module, control=True)
    numbers = [trained.labels.index(image.label) for image in split.test]
    right = float((trained.test_probabilities.argmax(axis=1) == numbers).mean())
    assert trained.control_accuracy is not None
    assert right > 0.4 > trained.control_accuracy  # 6 classes: 0.17 by chance


def test_test_images_change_nothing_that_is_learnt(split: Split, options: TrainOptions, module: HubModule) -> None:
    one = train(split, options, module)
    turned = [image._replace(label=split.test[-1 - place].label) for place, image in enumerate(split.test)]
    other = train(split._replace(test=turned[:7]), options, module)
    for mine, theirs in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_features_give_the_model_of_a_plain_loop_over_images(split: Split, hub_module: Path, module: HubModule) -> None:
    """As Keras trains the whole model with the module frozen, from the same weights in the same order."""
    from trainer.data import create_data_batches, image_options, one_hot
    from trainer.head import HeadTraining
    from trainer.train import preprocessing_of

    options = TrainOptions(hub_model=str(hub_module), learning_rate=0.003, weight_decay=0, dropout=0, epochs=3)
    few = Split(split.training, split.validation[:0], split.test)
    trained = train(few, options, module)
    plain = create_model([None, module.image_size, module.image_size, 3], 6, str(hub_module), learning_rate=0.003)
    start = HeadTraining(np.zeros((1, module.features), np.float32), np.zeros(1, int), 6, [HeadOptions(0.003, 0, 0)],
                         batch_size=1, weights=np.ones(6), seed=0)  # fmt: skip
    plain.layers[-1].set_weights(list(start.heads()[0]))
    for epoch in (1, 2, 3):
        order = np.random.default_rng([0, epoch]).permutation(len(split.training))
        images = [split.training[place] for place in order]
        batches = create_data_batches(
            [image.path for image in images], one_hot([image.label for image in images], trained.labels),
            valid_data=True, **image_options(preprocessing_of(options, module.image_size)),
        )  # fmt: skip
        plain.fit(batches, verbose=0)
    for mine, theirs in zip(trained.model.layers[-1].get_weights(), plain.layers[-1].get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0.02, atol=2e-4)


def test_a_temperature_divides_the_logits(split: Split, options: TrainOptions, module: HubModule) -> None:
    trained = train(split, options, module)
    images = np.random.default_rng(0).random((4, module.image_size, module.image_size, 3), np.float32)
    before = trained.model(images).numpy()
    after = with_temperature(trained.model, 2.0)(images).numpy()
    expected = before**0.5 / (before**0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-6)
    assert isinstance(trained.model, tf_keras.Model)


def test_tiny_sets_are_trained(split: Split, options: TrainOptions, module: HubModule) -> None:
    images = [next(image for image in split.training if image.label == label) for label in ("checks", "dots")]
    few = Split(images, [], images)
    trained = train(few, options, module, control=True)
    assert trained.choice is None
    assert trained.out_of_fold is None
    assert trained.validation_probabilities.shape == (0, 2)


@pytest.mark.parametrize("damage", ["cut off", "gone"])
def test_an_image_that_fails_in_training_is_named(
    split: Split, options: TrainOptions, module: HubModule, tmp_path: Path, damage: str
) -> None:
    broken = tmp_path / "broken.jpg"
    if damage == "cut off":
        data = Path(split.training[0].path).read_bytes()
        broken.write_bytes(data[: len(data) // 2])
    images = [*split.training, LabelledImage(str(broken), split.training[0].label)]
    with pytest.raises(UsageError, match=f"{broken}.*(damaged and can't be decoded|No such file)"):
        train(split._replace(training=images), options, module)


@pytest.mark.parametrize("share", [0.0, 0.5, -1.0])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="`test_share`"):
        TrainOptions(test_share=share)
