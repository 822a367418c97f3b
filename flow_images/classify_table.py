"""A table of the top classes of a few images, or the reason where an image has none."""

from collections.abc import Sequence

from rich.table import Column, Table
from rich.text import Text

from flow_images.classification import Classification
from serving.client.scores import format_score
from serving.console.flags_in_messages import with_flags
from serving.console.terminal import printable, show_table


def print_table(results: Sequence[Classification], title: str) -> None:
    """Prints a row for each class of each image."""
    image = Column("image", overflow="fold")  # a path that is cut off names no file
    table = Table(image, "label", "score", title=title, title_justify="left")
    for result in results:
        shown = printable(str(result.image))
        if not result.ok:
            reason = printable(with_flags(f"{result.reason}: {result.message}"))
            table.add_row(shown, Text(reason, style="red"), "")
            continue
        for rank, (label, score) in enumerate(result.top):
            table.add_row(shown if rank == 0 else "", printable(label), format_score(score))
        table.add_section()
    show_table(table)
