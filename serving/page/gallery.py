"""A gallery: images side by side, each with a caption."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import markupsafe


class Figure(NamedTuple):
    """An image with a caption; without a source where it can't be shown."""

    source: str | None
    """A data URI."""
    path: str
    caption: "markupsafe.Markup | None"
