"""What of a label an eye can tell: labels that differ in nothing else are slips, or soon become some."""

import unicodedata

_LATIN = str.maketrans("аеорсухіјѕαο", "aeopcyxijsao")
"""Small letters of other scripts that look like Latin ones: ten Cyrillic, two Greek."""


def visible(text: str) -> str:
    """What of a text can be seen: accents in one form, without formatting characters, blanks as one."""
    seen = (
        char
        for char in unicodedata.normalize("NFC", text)
        if unicodedata.category(char) != "Cf" and not "\ufe00" <= char <= "\ufe0f"  # variation selectors
    )
    return " ".join("".join(seen).split())


def folded(text: str) -> str:
    """Without case, width and script of letters, and what joins words."""
    letters = unicodedata.normalize("NFKC", visible(text)).casefold().translate(_LATIN)
    return "".join(" " if char in "_-" else char for char in letters)
