"""The report's curves as SVG, in the colours of the page around them."""

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from trainer.evaluation.evaluation import Calibration
from trainer.progress import Epoch

_INK, _FIRST, _SECOND = "#010101", "#020202", "#030303"
_COLOURS = {_INK: "currentColor", _FIRST: "var(--first)", _SECOND: "var(--second)"}
"""What stands in matplotlib's SVG, and what the page gets in its place, so that it is readable in the dark, too."""


def curves(history: Sequence[Epoch], best_epoch: int | None) -> str:
    """Loss and accuracy by epoch, on the training and the validation images."""
    epochs = [epoch.number for epoch in history]
    mark = "o" if len(epochs) < 3 else None

    def curve(name: str, training: Sequence[float], validation: Sequence[float]) -> str:
        def draw(axes: Any) -> None:
            axes.plot(epochs, training, color=_FIRST, label="training", marker=mark)
            axes.plot(epochs, validation, color=_SECOND, label="validation", linestyle="--", marker=mark)
            if best_epoch is not None:
                axes.axvline(best_epoch, color=_INK, linewidth=0.8, linestyle=":")
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_ylim(0, 1.02 if name == "accuracy" else None)
            axes.legend(frameon=False, labelcolor=_INK)

        return _svg(draw, f"{name} by epoch")

    return curve("loss", [epoch.loss for epoch in history], [epoch.validation_loss for epoch in history]) + curve(
        "accuracy", [epoch.accuracy for epoch in history], [epoch.validation_accuracy for epoch in history]
    )


def reliability(calibration: Calibration) -> str:
    """Accuracy of the images in each range of scores, against the score; a calibrated model is on the diagonal."""

    def draw(place: Any) -> None:
        place.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":")
        most = max(one.images for one in calibration.bins)
        sizes = [20 + 180 * one.images / most for one in calibration.bins]
        scores, hits = [one.confidence for one in calibration.bins], [one.accuracy for one in calibration.bins]
        place.scatter(scores, hits, s=sizes, color=_FIRST, alpha=0.7, clip_on=False)
        place.set_xlim(0, 1.05)
        place.set_ylim(0, 1.05)
        place.set_xlabel("mean score")
        place.set_ylabel("share that is right")

    return _svg(draw, "Score against the share of right answers")


def _svg(draw: Callable[[Any], None], title: str) -> str:
    with _plain_style(title):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.9, 3.0), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        text = io.StringIO()
        # Without a date and names of programs, the same figures give the same file.
        figure.savefig(text, format="svg", transparent=True,
                       metadata={"Date": None, "Creator": None, "Format": None, "Type": None})  # fmt: skip
    drawing = text.getvalue()
    # An id is used once in a page: groups' aren't asked for, and the others' come from the title and the drawing.
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing[drawing.index("<svg") :])
    for colour, variable in _COLOURS.items():
        drawing = drawing.replace(colour, variable)
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{title}" class="chart" ', 1)


@contextmanager
def _plain_style(salt: str) -> Iterator[None]:
    import matplotlib as mpl

    style: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif", "font.size": 10,
        "text.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
        "axes.titlesize": 10, "lines.linewidth": 1.8,
    }  # fmt: skip
    with mpl.rc_context(style):
        yield
