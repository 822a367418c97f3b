"""A chart as SVG, in the colours of the page around it."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

INK, FIRST, SECOND = "#010101", "#020202", "#030303"
"""What a drawing takes for the colours of text, of the first and of the second series."""
_COLOURS = {INK: "currentColor", FIRST: "var(--first)", SECOND: "var(--second)"}
"""What the page gets in the place of each, so that a chart is readable in the dark, too."""


def svg(draw: Callable[[Any], None], title: str, size: tuple[float, float] = (3.9, 3.0)) -> str:
    """A chart for a page.

    Args:
      draw: draws on the axes of matplotlib that it is given.
      title: what the chart shows, for those who don't see it; no other chart of the page has the same.
      size: width and height, in inches of text of ten points.
    """
    with _plain_style(title):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
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
        "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
        "axes.titlesize": 10, "lines.linewidth": 1.8,
    }  # fmt: skip
    with mpl.rc_context(style):
        yield
