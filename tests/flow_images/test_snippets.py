"""The Python examples of README and docs: each is type-checked as a stranger's strict program, and run."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

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


def test_the_first_example_classifies_an_image_in_three_lines() -> None:
    first = SNIPPETS[0]
    assert first.page == "README.md"
    assert "classify" in first.code
    assert len([line for line in first.code.splitlines() if line]) == 3


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_the_examples_use_the_front_door_alone(snippet: Snippet) -> None:
    imported = set(re.findall(r"^\s*(?:from|import) +([\w.]+)", snippet.code, re.MULTILINE))
    assert "flow_images" in imported
    assert not {name for name in imported if name.split(".")[0] in {"serving", "beam_jobs", "trainer", "k8s"}}


def test_the_examples_pass_a_strict_type_checker(tmp_path: Path) -> None:
    for number, snippet in enumerate(SNIPPETS):
        (tmp_path / f"snippet_{number}.py").write_text(f"# {snippet.name}\n{snippet.code}")
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\n[mypy-serving.protos.*]\nignore_errors = True\n")  # which is generated
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports",
         "--allow-subclassing-any", "--allow-untyped-calls", "--cache-dir", str(tmp_path / "cache"),
         "--config-file", str(config),
         *map(str, sorted(tmp_path.glob("*.py")))],
        env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture(scope="module")
def world(
    drawn: Path, hub_module: Path, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, str]]:
    """A folder with what the examples name, and the address of a server of the model `dogs`.

    The server's model lies elsewhere: an example that trains publishes a version into the folder.
    """
    from serving.server import EmbeddedServer

    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(drawn / "train", folder / "train")
    shutil.copytree(drawn / "train", folder / "photos")
    shutil.copy(drawn / "labels.csv", folder / "labels.csv")
    shutil.copy(sorted((drawn / "train").iterdir())[0], folder / "photo.jpg")
    shutil.copytree(hub_module, folder / "hub")
    shutil.copytree(model_store, folder / "models" / "dogs")
    with EmbeddedServer(model_store, model_name="dogs") as running:
        yield folder, running.address


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_an_example_runs(snippet: Snippet, world: tuple[Path, str]) -> None:
    folder, address = world
    assert "8500" not in snippet.code.replace(ADDRESS, ""), f"the address in an example is {ADDRESS}"
    (folder / "snippet.py").write_text(snippet.code.replace(ADDRESS, address))
    # Beam's default runner would look for another one in the internet.
    runner = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    done = subprocess.run(
        [sys.executable, "snippet.py", runner],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_first_example_prints_the_label_of_the_image(world: tuple[Path, str], model_store: Path) -> None:
    from tests.e2e.test_predict import plain_loop

    folder, address = world
    (folder / "first.py").write_text(SNIPPETS[0].code.replace(ADDRESS, address))
    done = subprocess.run(
        [sys.executable, "first.py"], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    [(label, _)] = plain_loop(model_store, [str(folder / "photo.jpg")]).values()
    assert done.stdout.split()[0] == label
