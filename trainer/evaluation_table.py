"""What was measured, as lines and a table for a terminal."""

from typing import TYPE_CHECKING

from serving.console.terminal import console, printable, say

if TYPE_CHECKING:
    from trainer.evaluation.evaluation import Estimate, Evaluation

_ROWS = 10


def print_evaluation(found: "Evaluation", what: str) -> None:
    """Prints the classes with the lowest recall, and the figures of all.

    Args:
      found: what was measured.
      what: the images: `test images that the model has not seen`.
    """
    from rich.table import Table

    there = [row for row in found.classes if row.images]
    worst = sorted(there, key=lambda row: (row.recall or 0.0, row.label))
    title = "Classes" if len(worst) <= _ROWS else f"The {_ROWS} of {len(worst)} classes with the lowest recall"
    table = Table("class", "images", "right", "precision", "recall", title=title, title_justify="left")
    for row in worst[:_ROWS]:
        table.add_row(printable(row.label), str(row.images), str(row.right), _share(row.precision), _share(row.recall))
    console().print(table)
    say(
        f"accuracy {_estimate(found.accuracy)}, top 5 {found.top_5.value:.3f}, macro F1 {found.macro_f1.value:.3f}, "
        f"log loss {found.log_loss.value:.3f} on {found.images:,} {what}"
    )
    calibration = found.calibration
    if calibration.temperature == 1:
        say(f"calibration error {calibration.error:.3f}")
    else:
        say(
            f"calibration error {calibration.error_before:.3f}, {calibration.error:.3f} with the temperature "
            f"{calibration.temperature:.2f} that the model carries"
        )
    if found.threshold is not None:
        say(
            f"threshold {found.threshold.value:.3f}: {found.threshold.coverage:.0%} of the images score at least that, "
            f"and {_share(found.threshold.precision)} of those are right"
        )


def _estimate(figure: "Estimate") -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
