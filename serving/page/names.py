"""Names of images and labels on a page: no character acts on the text around it, and a long name is shown in part."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import markupsafe

_MOST = 60
"""Letters of a name that are shown."""


def visible(text: str) -> str:
    """The text without characters that can't be seen, or that turn the text around them."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def shortened(text: str) -> str:
    """The text shortened to its beginning and its end, as the end tells files apart."""
    half = _MOST // 2
    return text if len(text) <= _MOST else f"{text[: half - 1]}…{text[-half:]}"


def file_name(path: str) -> str:
    """The name of a file without its folders, shortened."""
    return shortened(path.rpartition("/")[2])


def sentence(text: str, *values: str | float) -> "markupsafe.Markup":
    """A sentence whose names keep their direction to themselves, and whose end is not cut when they are long.

    Args:
      text: with `{}` for each value, as `str.format` takes it.
      *values: names, and numbers.
    """
    import markupsafe

    name = markupsafe.Markup('<bdi title="{}">{}</bdi>')
    parts = [
        name.format(visible(one), shortened(visible(one))) if isinstance(one, str) else one  # a number is no name
        for one in values
    ]
    return markupsafe.Markup(text).format(*parts)
