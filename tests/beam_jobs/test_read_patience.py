"""How long an image is tried that can't be read."""

import time

from beam_jobs.read_patience import ReadPatience


def test_each_image_that_fails_alone_halves_the_patience_of_its_place() -> None:
    patience = ReadPatience(80.0)
    assert patience.seconds("a") == 80.0
    for left in (40.0, 20.0, 10.0, 5.0, 5.0):
        since = time.monotonic()
        patience.note_read("a", tried_again=False)
        patience.note_failed_alone("a", since)
        assert patience.seconds("a") == left
    assert patience.seconds("b") == 80.0


def test_an_image_that_is_read_at_last_restores_the_patience() -> None:
    patience = ReadPatience(80.0)
    since = time.monotonic()
    patience.note_read("a", tried_again=False)
    patience.note_failed_alone("a", since)
    patience.note_read("a", tried_again=True)
    assert patience.seconds("a") == 80.0


def test_a_place_that_answered_nothing_is_tried_once_until_it_answers() -> None:
    patience = ReadPatience(80.0)
    patience.note_read("a", tried_again=False)
    patience.note_failed_alone("a", time.monotonic())
    assert patience.seconds("a") == 0.0
    patience.note_read("a", tried_again=False)
    assert patience.seconds("a") == 40.0


def test_no_patience_stays_none() -> None:
    patience = ReadPatience(0.0)
    since = time.monotonic()
    patience.note_read("a", tried_again=False)
    patience.note_failed_alone("a", since)
    assert patience.seconds("a") == 0.0
