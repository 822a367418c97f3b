"""What comments, docstrings and pages name is there: files, modules and their names, links and their anchors."""

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import MAY_IMPORT, OURS, ROOT

PAGES = [path for folder in (".", "docs", "benchmarks") for path in sorted((ROOT / folder).glob("*.md"))]
CODE = [
    path for folder in (*MAY_IMPORT, "tests", "benchmarks", "docs") for path in sorted((ROOT / folder).rglob("*.py"))
]
QUOTED = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"(?!/)[\w./-]*\w\.(?:py|md|yaml|sh|html)")
DOTTED = re.compile(rf"(?:{'|'.join(MAY_IMPORT)})(?:\.\w+)+")
OF_OTHERS = {"out/report.html", "random.py", "service.py", "doc/environment_variables.md"}
"""Files of users, of Python and of gRPC."""
GLOSSARY = ROOT / "docs" / "glossary.md"


def spoken(path: Path) -> str:
    """A page's text, or the docstrings and comments of a module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    strings = [node.value.value for node in ast.walk(ast.parse(text))
               if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
               and isinstance(node.value.value, str)]  # fmt: skip
    comments = [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline)
                if token.type == tokenize.COMMENT]  # fmt: skip
    return "\n".join([*strings, *comments])


def named(pattern: re.Pattern[str], path: Path) -> Iterator[str]:
    """What a page, docstring or comment quotes in backticks and has this form as a whole."""
    for quoted in QUOTED.findall(spoken(path)):
        word = quoted.removesuffix("()")
        if pattern.fullmatch(word):
            yield word


@functools.cache
def files() -> frozenset[str]:
    kinds = {".py", ".md", ".yaml", ".sh", ".html"}
    folders = (ROOT / folder for folder in (*MAY_IMPORT, "tests", "benchmarks", "docs"))
    found = (path for folder in folders for path in folder.rglob("*") if path.suffix in kinds)
    return frozenset(path.relative_to(ROOT).as_posix() for path in found)


def exists(name: str, beside: Path) -> bool:
    """Is it a file of the tree: from its root, from the page or module that names it, or by the end of its path?"""
    if name in OF_OTHERS or (beside.parent / name).exists():
        return True
    if any(ROOT.glob(name.replace("NAME", "*"))):
        return True
    return any(file.endswith(f"/{name}") for file in files())


def defines(name: str) -> bool:
    """Does a dotted name lead to a module, or to a name in one, as the source has it?"""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        module = ".".join(parts[:end])
        if module in OURS:
            text = OURS[module].read_text(encoding="utf-8")
            return all(re.search(rf"\b{re.escape(part)}\b", text) for part in parts[end:])
    return (ROOT / Path(*parts)).is_dir()


def gone(path: Path) -> list[str]:
    """What a page or module names and the tree lacks."""
    return [name for name in named(FILE, path) if not exists(name, path)] + [
        name for name in named(DOTTED, path) if not defines(name)
    ]


def test_what_is_named_is_there() -> None:
    assert len(CODE) > 400
    assert {path.relative_to(ROOT).as_posix(): names for path in (*PAGES, *CODE) if (names := gone(path))} == {}


@pytest.mark.parametrize("text", ["see `rest.py`", "`serving.nowhere.Thing`", "`serving.network.retry.Nothing`"])
def test_what_is_gone_is_found(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert len(gone(page)) == 1


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[tuple[Path, str]]:
    """The files of the tree that a page links to, and the anchors in them."""
    found = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8"))
    return [((page.parent / path).resolve() if path else page, anchor) for path, anchor in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_leads_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target.name}#{anchor}"


def test_the_glossary_is_linked_where_its_words_are_used() -> None:
    by_page = {
        page.relative_to(ROOT).as_posix(): {anchor for target, anchor in links(page) if target == GLOSSARY}
        for page in PAGES
    }
    linked = set.union(*by_page.values())
    entries = anchors(GLOSSARY) - {"glossary"}
    assert {"manifest", "chunk", "contract", "golden-image", "signature"} <= linked & entries
    for name in (
        "README",
        "docs/guarantees",
        "docs/training",
        "docs/server",
        "docs/clients",
        "docs/beam",
        "docs/kubernetes",
    ):
        assert by_page[f"{name}.md"], name


def test_an_image_has_one_name() -> None:
    other = "pict" + "ure"
    manifests = sorted((ROOT / "k8s").rglob("*.yaml"))
    assert not [path for path in (*PAGES, *CODE, *manifests) if other in path.read_text(encoding="utf-8").lower()]
