"""The commands in README and docs: each is run as a reader's shell does, or at least understood where it can't run."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest
import yaml

from docs.examples import ROOT, Snippet, commands, execute, first_command, free_ports, session, snippets
from flow_images.cli import cli
from serving.server.run.server_options import parse_flags
from trainer.demo_data import TEXTURES

LANGUAGES = {"python", "sh", "console", "yaml", "text", "mermaid"}
COMMANDS = [
    pytest.param(line, id=f"{block.name} {line[:60]}")
    for language in ("sh", "console")
    for block in snippets(language)
    for line in commands(block)
]
ELSEWHERE = re.compile(r"\b(gs|s3|az|https)://|flow-images (deploy|serve|demo)")
"""Marks commands that need a bucket, a cluster or the internet. Servers run in sessions."""
WITHOUT_A_MODULE = "flow-images train --labels labels.csv --images train/ --model-store models/ --name dogs"
"""Would fetch TF Hub's."""
OURS_TO_RUN = [
    case for case in COMMANDS
    if str(case.values[0]).startswith("flow-images") and not ELSEWHERE.search(str(case.values[0]))
    and case.values[0] not in (WITHOUT_A_MODULE, first_command())
]  # fmt: skip


def test_each_block_says_its_language() -> None:
    assert not [block.name for block in snippets() if block.language not in LANGUAGES]


@pytest.mark.parametrize("block", snippets("sh"), ids=lambda block: block.name)
def test_a_shell_understands_the_block(block: Snippet) -> None:
    done = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, check=False)
    assert not done.stderr


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_names_what_exists(line: str) -> None:
    words = shlex.split(line.rstrip("& "), comments=True)
    while words and (words[0] in ("|", "do", "$") or "=" in words[0]):
        words = words[1:]
    UNDERSTOOD[words[0]](words[1:])


def _flow_images(words: Sequence[str]) -> None:
    """Raises click's UsageError for an unknown command, flag or value."""
    command: click.Command = cli
    context = cli.make_context("flow-images", list(words))
    while isinstance(command, click.Group):
        name, below, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert below is not None
        command, context = below, below.make_context(name, rest, parent=context)


def _python(words: Sequence[str]) -> None:
    assert words[0] == "-m"
    path = ROOT / words[1].replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    if words[1] == "serving.server":
        assert parse_flags(words[2:])[1] == []


def _make(words: Sequence[str]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(targets)
    for word in words:
        assert "=" not in word or f"$({word.partition('=')[0]})" in (ROOT / "Makefile").read_text()


def _pip(words: Sequence[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(named.split(",")) <= set(extras)


def _docker(words: Sequence[str]) -> None:
    file, target = (words[words.index(flag) + 1] for flag in ("-f", "--target"))
    assert re.search(rf"^FROM .* AS {target}$", (ROOT / file).read_text(), re.MULTILINE)


def _kubectl(words: Sequence[str]) -> None:
    for flag, path in itertools.pairwise(words):
        if flag == "-f":
            assert list(yaml.safe_load_all((ROOT / path).read_text()))
        if flag == "-k":
            assert (ROOT / path / "kustomization.yaml").exists()


def _pytest(words: Sequence[str]) -> None:
    assert (ROOT / words[0]).exists()


def _only_its_syntax(_: Sequence[str]) -> None:
    """A program of others, or what runs in a session."""


UNDERSTOOD: dict[str, Callable[[Sequence[str]], None]] = {
    "flow-images": _flow_images,
    "python": _python,
    "make": _make,
    "pip": _pip,
    "docker": _docker,
    "kubectl": _kubectl,
    "pytest": _pytest,
    **dict.fromkeys(("cosign", "curl", "echo", "export", "uvicorn"), _only_its_syntax),
    **dict.fromkeys(("dask", "done", "for", "gcloud", "kind", "tensorflow_model_server"), _only_its_syntax),
}


@pytest.mark.parametrize("line", OURS_TO_RUN)
def test_a_command_runs(line: str, world: tuple[Path, str]) -> None:
    folder, address = world
    for written in ("out", "measured", "sorted"):
        shutil.rmtree(folder / written, ignore_errors=True)
    if re.search(r"flow-images (report|sort|check) ", line):  # about a run that is there
        assert execute("flow-images predict --input photos/ --output out/ --model models/dogs", folder).returncode == 0
    done = execute(re.sub(r"(localhost|serving):8500", address, line), folder)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", snippets("console"), ids=lambda block: block.name)
def test_a_session_prints_what_the_page_shows(block: Snippet, laid_out: Path, tmp_path: Path) -> None:
    """Line by line, but for numbers, labels and the order of lines, which follow the images."""
    shutil.copytree(laid_out, tmp_path / "home")
    printed = session(block, tmp_path / "home", free_ports(block.code))
    assert _form(printed) == _form(block.code), f"`make docs-samples` writes it:\n{printed}"


def _form(text: str) -> list[str]:
    text = re.sub(rf"\b({'|'.join(TEXTURES)})\b", "LABEL", text)
    text = re.sub(r"\d[\d.]*(e-\d+)?", "N", text)
    kept = (
        line for line in text.splitlines() if not line.startswith(("threshold ", "unknown: "))
    )  # which needs more images than here
    return sorted(re.sub(r"[ ─━═]+", " ", line) for line in kept)


@pytest.mark.parametrize(
    ("target", "says"), [("install", "Installed. Next: . .venv/bin/activate"), ("demo", "flow-images demo --epochs 3")]
)
def test_make_shows_what_a_user_needs_and_not_its_own_commands(tmp_path: Path, target: str, says: str) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    program = tmp_path / ".venv" / "bin" / "flow-images"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho flow-images "$@"\n')
    program.chmod(0o755)
    # As if all were installed.
    command = ["make", "--assume-old=.venv/.installed", target, "EPOCHS=3"]
    (tmp_path / ".venv" / ".installed").touch()
    # A make that runs the tests tells a make within them that it is one, which then says which directory it enters.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=env)
    (line,) = done.stdout.splitlines()
    assert line.startswith(says)
