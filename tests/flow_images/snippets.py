"""The Python examples of README and docs."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "localhost:8500"
"""Of the server, in every example; its model is `dogs`."""


class Snippet(NamedTuple):
    """A block of Python in a page."""

    page: str
    line: int
    code: str

    @property
    def name(self) -> str:
        """As pytest shows it."""
        return f"{self.page}:{self.line}"


def snippets() -> list[Snippet]:
    """All blocks that are marked as Python, in the order of pages and lines."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, block.start()) + 1
            found.append(Snippet(str(page.relative_to(ROOT)), line, block[1]))
    return found


SNIPPETS = snippets()
