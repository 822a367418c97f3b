"""What was measured, on at most a screen."""

from typing import TYPE_CHECKING

from serving.client.accuracy import Share, accuracy_in_words, confusions_in_words
from serving.console.terminal import printable, say, show_table

if TYPE_CHECKING:
    from trainer.evaluation.evaluation import ClassMetrics, Evaluation
    from trainer.lineage import TrainingRecord

_ROWS = 10
_FEW_OF_A_CLASS = 5
"""Images of a class, below which a share of them says nothing."""


def print_training(record: "TrainingRecord", found: "Evaluation") -> None:
    """Prints which images were taken for what, and what was measured.

    Args:
      record: what training.json says.
      found: measured on the test images.
    """
    parts = ", ".join(f"{count:,} for {name}" for name, count in record.images.items())
    say(f"{sum(record.images.values()):,} images of {record.classes:,} classes: {parts}")
    if record.left_out:
        say(f"left out: {', '.join(f'{count:,} {why}' for why, count in record.left_out.items())}")
    print_evaluation(found, "test images that the model has not seen")


def print_evaluation(found: "Evaluation", what: str) -> None:
    """Prints the figures, and the classes that are worst, if they have images enough.

    Args:
      found: what was measured.
      what: the images: `images`.
    """
    say(accuracy_in_words(Share(found.accuracy.value, found.accuracy.low, found.accuracy.high), found.images, what))
    say(f"top 5 {found.top_5.value:.3f}, macro F1 {found.macro_f1.value:.3f}, log loss {found.log_loss.value:.3f}")
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
            f"threshold {found.threshold.value:.3f}, from which on an answer may be relied on: "
            f"{found.threshold.coverage:.0%} of the images score at least that, and "
            f"{_share(found.threshold.precision)} of those are right"
        )
    _print_classes([row for row in found.classes if row.images])
    if confusions := _confusions(found):
        say(confusions_in_words(confusions))


def _print_classes(classes: "list[ClassMetrics]") -> None:
    """A table of the worst of those that have images enough; what is right in all its images needs no row."""
    from rich import box
    from rich.table import Column, Table

    wrong = [row for row in classes if row.right < row.images]
    worst = sorted(
        (row for row in wrong if row.images >= _FEW_OF_A_CLASS), key=lambda row: (row.right / row.images, row.label)
    )
    if len(wrong) < len(classes):
        say(f"all images right in {len(classes) - len(wrong):,} of {len(classes):,} classes")
    if worst:
        numbers = (Column(name, justify="right") for name in ("images", "right", "precision", "recall"))
        table = Table("lowest recall", *numbers, box=box.SIMPLE_HEAD, pad_edge=False)
        for row in worst[:_ROWS]:
            shares = _share(row.precision), _share(row.recall)
            table.add_row(printable(row.label), f"{row.images:,}", f"{row.right:,}", *shares)
        show_table(table)
    if few := [row for row in wrong if row.images < _FEW_OF_A_CLASS]:
        classes_have = "class has" if len(few) == 1 else "classes have"
        more = "more " if worst else ""
        say(f"{len(few):,} {more}{classes_have} wrong answers, but fewer than {_FEW_OF_A_CLASS} images each")


def _confusions(found: "Evaluation") -> list[tuple[str, str, int]]:
    """Label, what it was taken for, and how often: the most frequent first."""
    pairs = [
        (label, found.labels[place], count)
        for label, row in zip(found.labels, found.confusion, strict=True)
        for place, count in enumerate(row)
        if count and found.labels[place] != label
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair))


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"
