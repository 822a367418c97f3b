"""The report's curves."""

from collections.abc import Sequence
from typing import Any

from serving.page.charts import FIRST, INK, SECOND, svg
from trainer.evaluation.evaluation import Calibration
from trainer.progress import Epoch


def curves(history: Sequence[Epoch], best_epoch: int | None) -> str:
    """Loss and accuracy by epoch, on the training and the validation images."""
    epochs = [epoch.number for epoch in history]
    mark = "o" if len(epochs) < 3 else None

    def curve(name: str, training: Sequence[float], validation: Sequence[float]) -> str:
        def draw(axes: Any) -> None:
            axes.plot(epochs, training, color=FIRST, label="training", marker=mark)
            axes.plot(epochs, validation, color=SECOND, label="validation", linestyle="--", marker=mark)
            if best_epoch is not None:
                axes.axvline(best_epoch, color=INK, linewidth=0.8, linestyle=":")
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_ylim(0, 1.02 if name == "accuracy" else None)
            axes.legend(frameon=False, labelcolor=INK)

        return svg(draw, f"{name} by epoch")

    return curve("loss", [epoch.loss for epoch in history], [epoch.validation_loss for epoch in history]) + curve(
        "accuracy", [epoch.accuracy for epoch in history], [epoch.validation_accuracy for epoch in history]
    )


def reliability(calibration: Calibration) -> str:
    """Accuracy of the images in each range of scores, against the score; a calibrated model is on the diagonal."""

    def draw(place: Any) -> None:
        place.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        most = max(one.images for one in calibration.bins)
        sizes = [20 + 180 * one.images / most for one in calibration.bins]
        scores, hits = [one.confidence for one in calibration.bins], [one.accuracy for one in calibration.bins]
        place.scatter(scores, hits, s=sizes, color=FIRST, alpha=0.7, clip_on=False)
        place.set_xlim(0, 1.05)
        place.set_ylim(0, 1.05)
        place.set_xlabel("mean score")
        place.set_ylabel("share that is right")

    return svg(draw, "Score against the share of right answers")
