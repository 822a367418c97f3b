"""Names of files and folders that every file system takes, made of any text.

Two names are the same to some file system if they differ in their case or Unicode form alone. A name that would be
another's is told apart by a mark: `~` and 16 hexadecimal digits, the beginning of a SHA-256.
"""

import hashlib
import re
import unicodedata

MOST_BYTES = 200
"""File systems take 255 bytes or UTF-16 units of a name; some that encrypt, fewer."""
_REFUSED = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
"""What Windows refuses, what a terminal acts on, and what no encoding has."""
_ENDS = re.compile(r"\A[. ]+|[. ]+\Z")
"""A dot in front hides a name, and `..` leads out; Windows drops blanks and dots at the end."""
_DEVICES = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³]) *(\.|\Z)", re.IGNORECASE)
"""Names of devices on Windows, whatever their ending."""
_ENDING = re.compile(r"\.\w{1,8}\Z", re.ASCII)
_MARK = re.compile(r"~[0-9a-f]{16}(\.\w{1,8})?\Z")


def safe_name(text: str) -> str:
    """The text as a name, with `_` in place of what a name may not have; maybe longer than `MOST_BYTES`."""
    name = _REFUSED.sub("_", unicodedata.normalize("NFC", text))
    name = _ENDS.sub(lambda found: "_" * len(found[0]), name) or "_"
    return f"_{name}" if _DEVICES.match(name) else name


def same_name(name: str) -> str:
    """A text that two names have in common if any file system takes them for the same."""
    if name.isascii():
        return name.lower()
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in folded if unicodedata.category(letter) != "Cf")  # which HFS+ ignores


def needs_mark(name: str) -> bool:
    """Is it too long, or does it look as if it had a mark already?"""
    return len(name.encode()) > MOST_BYTES or _MARK.search(same_name(name)) is not None


def marked(name: str, text: str) -> str:
    """The name with a mark of the text that it was made of, cut to `MOST_BYTES`."""
    found = _ENDING.search(name, 1)
    ending = found[0] if found else ""
    mark = f"~{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}{ending}"
    stem = name.removesuffix(ending).encode()[: MOST_BYTES - len(mark)]
    return stem.decode(errors="ignore") + mark
