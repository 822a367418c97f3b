"""The few items of a stream that are largest."""

import random

import pytest

from beam_jobs.report.largest import Largest


def kept(items: list[tuple[float, str]], most: int) -> list[str]:
    few = Largest[str](most)
    for size, name in items:
        few.add(size, name, name)
    return few.items


@pytest.mark.parametrize("most", [1, 3, 50])
def test_it_keeps_what_sorting_all_would_give(most: int) -> None:
    chance = random.Random(0)
    items = [(chance.random(), f"{number}") for number in range(40)]
    assert kept(items, most) == [name for _, name in sorted(items, reverse=True)[:most]]


def test_of_equal_items_it_keeps_the_same_ones_in_any_order_and_not_the_first() -> None:
    items = [(1.0, f"{number:03}.jpg") for number in range(200)]
    found = kept(items, 5)
    assert kept(items[::-1], 5) == found
    assert found != [name for _, name in items[:5]]
    assert len(set(found)) == 5
