"""The drawing of a confusion matrix: which class is where, and how strongly a cell is coloured."""

from collections.abc import Sequence
from typing import NamedTuple

_SIDE = 720
"""Pixels of the square with few classes; with many, cells are as large as a label's letters."""
_LARGEST_CELL, _SMALLEST_CELL = 56.0, 8.4
_MOST_COUNTED = 40
"""Classes up to which a cell has room for its number."""
_MOST_SORTED = 12
"""Classes up to which all of them are seen at a glance, in the labels' order."""
_MOST_OPTIMAL = 300
"""Classes up to which the best order of a tree's leaves is found in a moment; it takes cubic time."""


class Cell(NamedTuple):
    """A cell that isn't empty."""

    row: int
    """The label's number."""
    column: int
    """The number of the class that it was taken for."""
    x: float
    """The distance of the cell's left side from the square's, in pixels."""
    y: float
    images: int
    share: float
    """The share of the images of the row's label."""
    opacity: float


class ConfusionMatrix(NamedTuple):
    """Where everything is drawn."""

    order: tuple[int, ...]
    """The labels' numbers, from above and from the left."""
    cells: tuple[Cell, ...]
    cell: float
    """Side of one, in pixels."""
    is_counted: bool
    """Whether a cell has room for its number."""

    @property
    def is_sorted(self) -> bool:
        """Whether the order is not the labels'."""
        return self.order != tuple(range(len(self.order)))

    @property
    def side(self) -> float:
        """The side of the square, in pixels."""
        return self.cell * len(self.order)

    @property
    def confused(self) -> list[Cell]:
        """The cells off the diagonal, those with most images first."""
        return sorted((one for one in self.cells if one.row != one.column), key=lambda one: (-one.images, one[:2]))


def confusion_matrix(confusion: Sequence[Sequence[int]]) -> ConfusionMatrix:
    """The drawing of a matrix, with classes that are taken for one another side by side.

    Args:
      confusion: numbers of images; row: the label; column: the prediction.
    """
    count = len(confusion)
    order = similar_first(confusion) if count > _MOST_SORTED else tuple(range(count))
    place = {number: index for index, number in enumerate(order)}
    cell = max(_SMALLEST_CELL, min(_LARGEST_CELL, _SIDE / count))
    # A number is read on a cell of half strength, in the dark, too.
    strongest = 0.55 if count <= _MOST_COUNTED else 1.0
    cells = tuple(
        Cell(row, column, place[column] * cell, place[row] * cell, images, images / sum(counts),
             # By the root: one image of 40 is seen, and is told from ten.
             strongest * (0.15 + 0.85 * (images / sum(counts)) ** 0.5))
        for row, counts in enumerate(confusion) for column, images in enumerate(counts) if images
    )  # fmt: skip
    return ConfusionMatrix(order, cells, cell, count <= _MOST_COUNTED)


def similar_first(confusion: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The classes' numbers in an order that puts those side by side that are taken for one another.

    They are the leaves of an average-linkage tree in their optimal order (Bar-Joseph et al. 2001). Without any mistake
    they stay in the labels' order.

    Args:
      confusion: row: the label; column: the prediction.
    """
    import numpy as np
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    counts = np.array(confusion, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    if len(counts) < 3 or not shares.any():
        return tuple(range(len(counts)))
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances), "average", optimal_ordering=len(counts) <= _MOST_OPTIMAL)
    return tuple(leaves_list(tree).tolist())
