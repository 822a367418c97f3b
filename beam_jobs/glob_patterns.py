"""Patterns of names: one meaning on a disk and in a bucket, and one rule of what is hidden."""

import fnmatch
import re
from typing import Literal

Decision = Literal["yes", "no", "hidden"]
"""`hidden`: it would match, but its name, or that of a folder on the way, begins with a dot."""

_MAGIC = re.compile(r"[*?[]")
_TOKENS = re.compile(r"\*\*+|\*|\?|\[!?\]?[^]]*\]|.", re.DOTALL)
_SHOWN = r"(?!\.(?!\.?(?:/|\Z)))"
"""Matches the beginning of a name that isn't hidden."""
_FOLDER = rf"(?:{_SHOWN}[^/]*/)*"


def has_magic(text: str) -> bool:
    """Does it have a character that makes it a pattern?"""
    return _MAGIC.search(text) is not None


def is_hidden(name: str) -> bool:
    """Names that begin with a dot; `.` and `..`, which a bucket's key may have in it, are not names."""
    return name.startswith(".") and name not in (".", "..")


def split_pattern(text: str) -> tuple[str, str]:
    """The folder that a pattern looks in, as it is written, and what it looks for there."""
    magic = _MAGIC.search(text)
    end = text.rfind("/", 0, magic.start() if magic else len(text)) + 1
    return text[:end], text[end:]


def glob_to_regex(pattern: str, *, hidden: bool = False) -> str:
    """A regular expression for whole names.

    `*`, `?` and `[…]` stay within a folder, `**/` is zero or more folders, `**` at the end is all that is below. They
    stand for no dot at the beginning of a name, unless `hidden`.
    """
    *folders, name = re.sub(r"(\*\*/)+", "**/", pattern).split("/")
    parts = [_FOLDER if one == "**" else _one_name(one) + "/" for one in folders]
    expression = "".join(parts) + (_FOLDER + _SHOWN + "[^/]+" if name == "**" else _one_name(name))
    return expression.replace(_SHOWN, "") if hidden else expression


def _one_name(pattern: str) -> str:
    out = [_SHOWN] if _MAGIC.match(pattern) else []
    for token in _TOKENS.findall(pattern):
        if token.startswith("**"):  # within a name, too, it reaches into folders
            out.append(f"[^/]*(?:/{_SHOWN}[^/]*)*")
        elif token == "*":
            out.append("[^/]*")
        elif token == "?":
            out.append("[^/]")
        elif len(token) > 1:
            out.append("(?!/)" + re.sub(r"\\[Zz]$", "", fnmatch.translate(token)))
        else:
            out.append(re.escape(token))
    return "".join(out)


class Below:
    """What a pattern matches below its folder, asked folder by folder on the way down."""

    def __init__(self, pattern: str) -> None:
        """`**` for everything."""
        names = pattern.split("/")
        deep = next((level for level, name in enumerate(names) if "**" in name), None)
        self._levels = [_both(name) for name in (names[:-1] if deep is None else names[:deep])]
        self._any_depth = deep is not None
        # A later name that begins with a dot is meant as it is written, so that hidden folders may matter.
        self._into_hidden = deep is not None and any(name.startswith(".") for name in names[deep:])
        self._whole = _both(pattern)

    def follows_links(self, level: int) -> bool:
        """Are links to folders followed at this depth? Not below `**`, where they may lead in circles."""
        return level < len(self._levels)

    def enters(self, level: int, name: str) -> Decision:
        """Can there be something in a folder of this name? `level` is 0 for those right below."""
        if level < len(self._levels):
            return _decide(self._levels[level], name)
        if not self._any_depth:
            return "no"
        return "hidden" if is_hidden(name) and not self._into_hidden else "yes"

    def takes(self, path: str) -> Decision:
        """Does a file match? `path` begins below the folder."""
        return _decide(self._whole, path)


_Both = tuple[re.Pattern[str], re.Pattern[str]]


def _both(pattern: str) -> _Both:
    return (re.compile(glob_to_regex(pattern), re.DOTALL), re.compile(glob_to_regex(pattern, hidden=True), re.DOTALL))


def _decide(both: _Both, name: str) -> Decision:
    if both[0].fullmatch(name):
        return "yes"
    return "hidden" if both[1].fullmatch(name) else "no"
