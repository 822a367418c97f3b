"""Forms of labels that are equal where labels look alike: such labels are mostly typing errors."""

import unicodedata

_LATIN = str.maketrans("аеорсухіјѕαο", "aeopcyxijsao")
"""Small letters of other scripts that look like Latin ones: ten Cyrillic, two Greek."""


def visible(text: str) -> str:
    """A text without invisible differences: accents in one form, no formatting characters, single blanks."""
    seen = (
        char
        for char in unicodedata.normalize("NFC", text)
        if unicodedata.category(char) != "Cf" and not "\ufe00" <= char <= "\ufe0f"  # variation selectors
    )
    return " ".join("".join(seen).split())


def folded(text: str) -> str:
    """A text without differences of case, width, script of similar letters, `_` and `-`."""
    letters = unicodedata.normalize("NFKC", visible(text)).casefold().translate(_LATIN)
    return "".join(" " if char in "_-" else char for char in letters)
