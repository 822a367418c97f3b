"""The outcome of a gate: one condition under which a model may be published."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """A condition, whether it holds, and by which figures."""

    name: str
    """`min_accuracy`, `min_lift`, `max_regression`, `min_slice_accuracy`."""
    passed: bool
    wanted: str
    """`at least 0.900`."""
    found: str
    """`0.812 (0.760 to 0.858) on 340 images`."""
    images: tuple[str, ...] = ()
    """Paths of images that it failed on, the worst first; empty if it passed."""
