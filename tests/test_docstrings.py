"""Every public module, class, function, method and property says what it is, in more than the words of its name."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.test_imports import OURS

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
FILLER = {"a", "an", "and", "by", "for", "get", "gets", "give", "gives", "in", "is", "it", "its", "of", "on", "return"}
FILLER |= {"returns", "set", "sets", "that", "the", "this", "to", "with"}


def public(inside: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """A module or class and what is public in it; what functions hold within is theirs, and an override its base's."""
    yield name, inside
    for node in inside.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if any(ast.unparse(mark).endswith((".setter", "overload", "override")) for mark in node.decorator_list):
                continue
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{name}.{node.name}")
            else:
                yield f"{name}.{node.name}", node


def words(text: str) -> set[str]:
    return {word.lower().removesuffix("s") for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)} - FILLER


PUBLIC = [
    pair
    for name, path in OURS.items()
    if not path.name.endswith("_pb2.py")
    for pair in public(ast.parse(path.read_text()), name)
]


def test_every_public_name_is_documented() -> None:
    assert len(PUBLIC) > 500
    bare = [name for name, node in PUBLIC if not ast.get_docstring(node)]
    assert not bare, f"{100 - 100 * len(bare) / len(PUBLIC):.1f} % are documented"


@pytest.mark.parametrize(
    ("name", "docstring"), [("read_file", "Reads the file."), ("File.size", "The size of a file.")]
)
def test_the_words_of_a_name_are_no_docstring(name: str, docstring: str) -> None:
    assert words(docstring) <= words(name)


def test_a_docstring_names_its_subject() -> None:
    """Also one below a constant or a field: `Of the image.` tells nothing to a reader who sees it alone."""
    found = [
        f"{name}:{node.lineno}: {node.value.value!r}"
        for name, path in OURS.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and re.match(r"(Of|Its|Those|As|With) ", str(node.value.value))
    ]
    assert not found


def test_a_message_says_not_instead_of_no() -> None:
    """Readers of another mother tongue read `is not a text` at once, and `is no text` twice."""
    said = re.compile(r"(?<!there )(?<!There )\b(is|are) no (URL|image|number|text|JSON|size|probabilit|list|object)")
    for name, path in OURS.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not said.search(node.value), f"{name}: {node.value}"


def test_no_docstring_only_repeats_its_name() -> None:
    texts = {name: ast.get_docstring(node) or "" for name, node in PUBLIC}
    assert not [name for name, text in texts.items() if text and words(text) <= words(name)]
