"""TensorBoard's own reader finds each epoch."""

from pathlib import Path

import pytest
import tensorflow as tf

from serving.errors import UsageError
from trainer.progress import Epoch, Progress
from trainer.tensorboard import TensorBoardProgress


def test_each_epoch_is_written_and_passed_on(tmp_path: Path) -> None:
    told: list[object] = []

    class Told(Progress):
        def epoch(self, epoch: Epoch, epochs: int) -> None:
            told.append(epoch)

        def note(self, text: str) -> None:
            told.append(text)

    progress = TensorBoardProgress(str(tmp_path), Told())
    progress.begin("training the head")
    epochs = [Epoch(1, 0.5, 0.75, 0.25, 1.0), Epoch(2, 0.25, 0.5, float("nan"), float("nan"))]
    for epoch in epochs:
        progress.epoch(epoch, 2)
    progress.note("so")
    assert told == [*epochs, "so"]
    found = {}
    for path in tmp_path.rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[path.parent.name, value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert found["training", "training the head/loss", 2] == 0.25
    assert found["validation", "training the head/accuracy", 1] == 1.0
    assert ("validation", "training the head/loss", 2) not in found


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"`tensorboard` .*file"):
        TensorBoardProgress(str(tmp_path / "file"), Progress())
