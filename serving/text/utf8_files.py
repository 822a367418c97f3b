"""UTF-8, the encoding of names and of the text files that users write, with or without a byte order mark."""

import codecs
import sys

from serving.errors import UsageError

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte order marks by encoding; UTF-32's first, as UTF-16's is the beginning of one of them."""


def check_file_names() -> None:
    """Refuses a Python that takes names of files for another encoding, as names and lists would not fit together.

    Raises:
      UsageError: it does; it was started in another locale, without Python's UTF-8 mode.
    """
    if sys.getfilesystemencoding() != "utf-8":
        raise UsageError(
            f"this Python takes file names for {sys.getfilesystemencoding()}: start it with PYTHONUTF8=1, or in a "
            "locale with UTF-8"
        )


def is_utf8(text: str) -> bool:
    """Can a path or text be written as UTF-8? Other bytes stand in it as lone surrogates (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def decode_text(data: bytes, name: str, *, errors: str = "strict") -> str:
    """The text of a user's file; its lines may end in any way.

    Args:
      data: the whole file.
      name: of the file, with its field, as a message has it: "`labels` labels.txt".
      errors: `strict`, or `surrogateescape` for a caller that deals with bytes that aren't UTF-8 itself.

    Raises:
      UsageError: another encoding, by its name where it can be told.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise UsageError(f"{name} is {encoding}: save it as UTF-8")
    if b"\0" in data:
        raise UsageError(f"{name} has bytes that are 0, as UTF-16 has and no text in UTF-8: save it as UTF-8")
    try:
        return data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{name}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8 (the file may be Latin-1 or "
            "Windows-1252): save it as UTF-8"
        ) from error


def as_utf8(name: str) -> str:
    r"""A file's name as a text file can hold it: bytes that are not UTF-8 are written as `\udce9`."""
    return name.encode(errors="backslashreplace").decode()
