"""The interval of a share is checked against its definition."""

import math

from hypothesis import given
from hypothesis import strategies as st

from serving.client.accuracy import Share, accuracy_in_words, wilson


@given(st.integers(1, 10_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_the_ends_of_the_interval_are_where_the_share_is_two_deviations_away(numbers: tuple[int, int]) -> None:
    correct, images = numbers
    found = wilson(correct, images)
    assert 0 <= found.low <= correct / images + 1e-4
    assert correct / images - 1e-4 <= found.high <= 1
    for end in (found.low, found.high):
        if 0.001 < end < 0.999:
            deviation = math.sqrt(end * (1 - end) / images)
            assert abs(abs(correct / images - end) / deviation - 1.96) < 1e-4 / deviation + 1e-3


def test_few_images_say_little() -> None:
    assert accuracy_in_words(Share(0.88, 0.7, 0.96), 25, "test images") == (
        "accuracy: 0.880 of 25 test images, 0.700 to 0.960 with 95 % confidence; so few images say little"
    )
    assert "say little" not in accuracy_in_words(Share(0.88, 0.84, 0.91), 2500, "test images")
