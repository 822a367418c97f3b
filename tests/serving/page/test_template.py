"""What all pages look like: text and ground are told apart, in the light and in the dark."""

import re

import pytest

from serving.page.template import environment

STYLE = environment("serving.page").get_template("page.html").render()
LIGHT, DARK = (dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{[^}]*\}", STYLE))


def luminance(colour: str) -> float:
    """That of the sRGB colour, as WCAG 2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "card"])
@pytest.mark.parametrize("text", ["ink", "quiet", "first", "second", "good", "bad"])
def test_text_has_the_contrast_that_wcag_asks_for(colours: dict[str, str], ground: str, text: str) -> None:
    dark, light = sorted(luminance(colours[name]) for name in (ground, text))
    assert (light + 0.05) / (dark + 0.05) >= 4.5
