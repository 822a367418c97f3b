"""The confusion matrix: similar classes near each other, and every count where its label is."""

from collections.abc import Sequence

import pytest

from serving.page.confusion_matrix import confusion_matrix, similar_first


def confusion(classes: int, confused: Sequence[tuple[int, int]] = (), images: int = 10) -> list[list[int]]:
    """Of a model that takes every third image of one class of a pair for the other, and is right otherwise."""
    counts = [[images if row == column else 0 for column in range(classes)] for row in range(classes)]
    for pair in confused:
        for one, other in (pair, pair[::-1]):
            counts[one][other] = len(range(0, images, 3))
            counts[one][one] -= counts[one][other]
    return counts


def test_classes_that_are_taken_for_one_another_are_side_by_side() -> None:
    pairs = [(0, 70), (3, 119), (40, 90)]
    order = confusion_matrix(confusion(120, pairs)).order
    assert sorted(order) == list(range(120))
    assert [abs(order.index(one) - order.index(other)) for one, other in pairs] == [1, 1, 1]


def test_few_classes_and_classes_without_a_mistake_stay_in_the_labels_order() -> None:
    assert not confusion_matrix(confusion(5, [(0, 4)])).is_sorted
    assert not confusion_matrix(confusion(30)).is_sorted
    assert similar_first([[3]]) == (0,)
    assert similar_first([[0, 0, 0], [0, 0, 0], [0, 0, 0]]) == (0, 1, 2)


def test_a_cell_is_where_its_label_and_its_prediction_are() -> None:
    counts = confusion(30, [(2, 25)])
    matrix = confusion_matrix(counts)
    assert sum(cell.images for cell in matrix.cells) == 300
    for cell in matrix.cells:
        assert cell.images == counts[cell.row][cell.column]
        assert matrix.order[round(cell.y / matrix.cell)] == cell.row
        assert matrix.order[round(cell.x / matrix.cell)] == cell.column
    assert [(cell.row, cell.column, cell.images) for cell in matrix.confused] == [(2, 25, 4), (25, 2, 4)]


@pytest.mark.parametrize(("classes", "is_counted"), [(2, True), (40, True), (41, False), (120, False)])
def test_a_row_has_room_for_its_letters_and_a_phone_scrolls_no_further_than_a_desk(
    classes: int, is_counted: bool
) -> None:
    matrix = confusion_matrix(confusion(classes, images=2))
    assert matrix.is_counted is is_counted
    assert matrix.cell >= (10 if is_counted else 8)
    assert matrix.side <= 1010


def test_one_mistake_of_forty_is_seen_and_told_from_ten() -> None:
    def weakest(mistakes: int) -> float:
        matrix = confusion_matrix([[40 - mistakes, mistakes], [0, 40]])
        return min(cell.opacity for cell in matrix.confused)

    assert 0.1 < weakest(1) < weakest(10) - 0.1 < 0.55
