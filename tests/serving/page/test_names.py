"""Names on a page."""

import pytest

from serving.page.names import file_name, sentence, shortened, visible

RIGHT_TO_LEFT = "\u202e"


def test_no_character_turns_the_text_around_it_or_hides() -> None:
    assert visible(
        f"a{RIGHT_TO_LEFT}b\x1b[2J\u200bc 犬"
    ) == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[2J" + ("\N{REPLACEMENT CHARACTER}c 犬")


@pytest.mark.parametrize("name", ["short.jpg", "x" * 60])
def test_a_name_that_has_room_stays(name: str) -> None:
    assert shortened(name) == name


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert shortened("a" * 100 + ".jpg") == "a" * 29 + "…" + "a" * 26 + ".jpg"
    assert file_name("folder/of/a.jpg") == "a.jpg"


def test_a_name_in_a_sentence_is_text_and_a_number_is_a_number() -> None:
    found = sentence("{} {:.2f}", "<b>&", 0.5)
    assert found == '<bdi title="&lt;b&gt;&amp;">&lt;b&gt;&amp;</bdi> 0.50'
