"""The examples of README and docs: where they stand, the folder that they run in, and how they are run.

`docs/sample_output.py` writes what the commands print into the pages, and the tests run all of it.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "localhost:8500"
"""Address of the server in every example; its model is `dogs`, which README's first command trains."""
VERSIONS = ("1764165600", "1764172800")
"""Versions of `dogs` that the pages name."""


class Snippet(NamedTuple):
    """A block of code in a page."""

    page: str
    line: int
    language: str
    code: str

    @property
    def name(self) -> str:
        """How pytest shows it."""
        return f"{self.page}:{self.line}"


def snippets(language: str | None = None) -> list[Snippet]:
    """All blocks that are marked as this language, or all of them, in the order of pages and lines."""
    found = []
    for page in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, block.start()) + 1
            if language in (None, block[2]):
                found.append(Snippet(str(page.relative_to(ROOT)), line, block[2], block[3]))
    return found


def commands(snippet: Snippet) -> list[str]:
    """The command lines of a block of `sh` or `console`, comments and continued lines included."""
    lines = snippet.code.replace("\\\n", "").splitlines()
    if snippet.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line.strip() for line in lines if shlex.split(line, comments=True)]


def first_command() -> str:
    """README's command that trains `dogs`."""
    return next(line for block in snippets("sh") for line in commands(block) if line.startswith("flow-images train"))


def lay_out(folder: Path, *, per_class: int) -> None:
    """Fills a folder with what the examples name, and trains `dogs` in it as README does.

    Args:
      folder: an empty folder.
      per_class: how many images of each of the six classes are drawn.

    Raises:
      CalledProcessError: the training failed.
    """
    from trainer.demo_data import TEXTURES, draw_images, make_hub_module

    draw_images(folder, per_class=per_class)
    make_hub_module(folder / "hub")
    with tarfile.open(folder / "mobilenet.tar.gz", "w:gz") as archive:
        archive.add(folder / "hub", arcname=".")
    images = sorted((folder / "train").iterdir())
    shutil.copy(images[0], folder / "photo.jpg")
    shutil.copytree(folder / "train", folder / "photos")
    for name in ("labelled", "new-photos", "new"):
        for number, image in enumerate(images):
            place = folder / name / list(TEXTURES)[number % len(TEXTURES)] / image.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, place)
    rows = [f"train/{image.name},{list(TEXTURES)[number % len(TEXTURES)]}" for number, image in enumerate(images)]
    (folder / "new.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    printed_by(first_command(), folder)
    [trained] = (folder / "models" / "dogs").iterdir()
    for version in VERSIONS:
        shutil.copytree(trained, trained.with_name(version))


def environment() -> dict[str, str]:
    """The shell's variables of a reader who installed this checkout and has a wide terminal."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_VERBOSITY": "NONE"}
    return os.environ | quiet | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "110"}


def execute(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs one command line of a page in a folder, as a reader's shell does."""
    shell = ["bash", "-c", command]
    return subprocess.run(shell, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def printed_by(command: str, folder: Path) -> str:
    """What a command line writes to stdout.

    Raises:
      CalledProcessError: the command failed; a note has what it wrote to stderr.
    """
    done = execute(command, folder)
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, command)
        error.add_note(done.stderr)
        raise error
    return done.stdout


def free_ports(text: str) -> dict[str, str]:
    """A free port of this machine for each port on localhost that an example names."""
    ports = sorted(set(re.findall(r"(?:localhost:|port[= ])(\d{4})\b", text)))
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in ports]
        return dict(zip(ports, (str(one.getsockname()[1]) for one in sockets), strict=True))


def session(snippet: Snippet, folder: Path, ports: Mapping[str, str]) -> str:
    """Runs the commands of a `console` block, one after the other, and returns the block with what they print.

    A command that ends in `&` is a server: the next one starts when it listens. Ctrl-C stops it at the end.

    Args:
      snippet: the block.
      folder: what `lay_out` filled.
      ports: what stands for the ports that the block names.

    Raises:
      CalledProcessError: a command failed.
    """
    [service] = [block.code for block in snippets("python") if "Starlette(" in block.code]
    (folder / "service.py").write_text(with_ports(service, ports))
    printed: list[tuple[str, Path]] = []
    with tempfile.TemporaryDirectory() as aside:
        with contextlib.ExitStack() as servers:
            for number, command in enumerate(commands(snippet)):
                out, ours = Path(aside, str(number)), with_ports(command, ports)
                printed.append((command, out))
                if ours.endswith("&"):
                    servers.enter_context(serving(ours.rstrip("& "), folder, out))
                    continue
                out.write_text(printed_by(ours, folder))
        theirs = {port: name for name, port in ports.items()}
        return "".join(f"$ {command}\n{with_ports(_lines(out.read_text()), theirs)}" for command, out in printed)


def with_ports(text: str, ports: Mapping[str, str]) -> str:
    """The text with other ports in the places of those that are named."""
    return re.sub(r"\b\d{4,5}\b", lambda port: ports.get(port[0], port[0]), text)


def _lines(text: str) -> str:
    """The text without blank lines, and without blanks at the ends of lines."""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())


@contextlib.contextmanager
def serving(command: str, folder: Path, out: Path) -> Iterator[None]:
    """Runs a server that writes stdout to a file: the block is entered when all its ports listen; Ctrl-C ends it.

    Raises:
      CalledProcessError: it ended before it listened; a note has what it wrote to stderr.
    """
    errors = out.with_suffix(".stderr")
    with out.open("w") as stdout, errors.open("w") as stderr:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=folder, env=environment(), stdout=stdout, stderr=stderr
        )
    try:
        for port in re.findall(r"port[= ](\d+)", command):
            while not _listens(int(port)):
                if process.poll() is not None:
                    error = subprocess.CalledProcessError(process.returncode, command)
                    error.add_note(errors.read_text())
                    raise error
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
