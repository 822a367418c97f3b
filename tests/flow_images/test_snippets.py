"""The Python examples of README and docs: each is type-checked as a stranger's strict program, and run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.examples import ADDRESS, ROOT, Snippet, snippets

SNIPPETS = snippets("python")


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
    config.write_text("[mypy]\n[mypy-serving.network.protos.*]\nignore_errors = True\n")  # which is generated
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports",
         "--allow-subclassing-any", "--allow-untyped-calls", "--cache-dir", str(tmp_path / "cache"),
         "--config-file", str(config),
         *map(str, sorted(tmp_path.glob("*.py")))],
        env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


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


def test_the_first_example_prints_the_label_of_the_image(
    world: tuple[Path, str], laid_out: Path, tmp_path: Path
) -> None:
    from tests.e2e.test_predict import plain_loop

    folder, address = world
    (folder / "first.py").write_text(SNIPPETS[0].code.replace(ADDRESS, address))
    done = subprocess.run(
        [sys.executable, "first.py"], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    (tmp_path / "1").symlink_to(max((laid_out / "models" / "dogs").iterdir()))
    [(label, _)] = plain_loop(tmp_path, [str(folder / "photo.jpg")]).values()
    assert done.stdout.split()[0] == label
