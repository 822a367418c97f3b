"""The version stands in pyproject.toml; what must name it in plain text is checked against that."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
# Tags of images, which a manifest, a Containerfile or a command of the docs can't look up.
NAMED = re.compile(
    r"(?:ame: flow-images/\w+, newTag: |flow-images/\w+:|…/\w+:|\$image:|image\.version=\")(\d+\.\d+\.\d+)"
)


def _texts() -> list[Path]:
    wanted = {".yaml", ".md", ".sh", ""}
    return [
        path
        for folder in ("k8s", "docs")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in wanted and path.is_file()
    ]


def test_the_installed_package_has_the_version_of_the_source() -> None:
    assert version("flow-images") == VERSION, "run `make install`"


def test_each_image_tag_is_the_version() -> None:
    found = {path.relative_to(ROOT): NAMED.findall(path.read_text()) for path in _texts()}
    named = {str(path) for path, tags in found.items() if tags}
    assert {"k8s/base/kustomization.yaml", "k8s/images/Containerfile", "docs/kubernetes.md"} <= named
    wrong = {str(path): tags for path, tags in found.items() if set(tags) - {VERSION}}
    assert not wrong, f"pyproject.toml says {VERSION}"


def test_the_changelog_begins_with_the_version() -> None:
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == VERSION


def test_no_module_says_a_version_of_its_own() -> None:
    for package in ("trainer", "beam_jobs", "serving", "k8s", "flow_images"):
        for path in (ROOT / package).rglob("*.py"):
            assert f'"{VERSION}"' not in path.read_text(), path
