"""What the documentation shows, in a notebook's kernel: nothing there may need more than our extras install."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from docs.examples import ADDRESS, ROOT, snippets

SNIPPETS = snippets("python")

# Beam's default runner would look for another one in the internet.
_ARGUMENTS = "import sys\nsys.argv = ['notebook', '--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner']"


def run_notebook(cells: Iterable[str], folder: Path) -> list[Any]:
    """The cells of a notebook in the folder, once they have run; raises CellExecutionError for the first that fails."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return list(notebook.cells)


def run_cells(cells: Iterable[str], folder: Path) -> list[str]:
    """What each cell of a notebook in the folder prints."""
    return ["".join(_text(output) for output in cell.outputs) for cell in run_notebook(cells, folder)]


def _text(output: Any) -> str:
    return output["text"] if output.output_type == "stream" and output.name == "stdout" else ""


@pytest.fixture
def notebook_folder(world: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples name."""
    folder, _ = world
    for name in ("train", "photos", "hub", "models"):
        shutil.copytree(folder / name, tmp_path / name)
    for name in ("labels.csv", "photo.jpg"):
        shutil.copy(folder / name, tmp_path / name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_the_examples_run_in_one_notebook(notebook_folder: Path, world: tuple[Path, str]) -> None:
    _, address = world
    examples = [snippet.code.replace(ADDRESS, address) for snippet in SNIPPETS]
    [_, *printed] = run_cells([_ARGUMENTS, *examples], notebook_folder)
    assert all(text.strip() for text, example in zip(printed, examples, strict=True) if example.count("\nprint("))
    assert (notebook_folder / "out" / "run.json").exists()


def test_a_job_that_is_interrupted_in_a_notebook_goes_on_there(notebook_folder: Path) -> None:
    job = 'fi.predict(inputs=["photos/"], output="kept/", model="models/dogs", wire="encoded", readers=1, batch_size=1)'
    interrupted = f"""
import os, signal, threading, time
import flow_images as fi

def interrupt_once_it_runs():
    while not os.path.isdir("kept/_state"):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)  # as a notebook's stop button does

threading.Thread(target=interrupt_once_it_runs).start()
try:
    {job}
except KeyboardInterrupt:
    print("interrupted")
"""
    [said, account] = run_cells([interrupted, f"print({job}.predicted)"], notebook_folder)
    assert said == "interrupted\n"
    assert int(account) == len(list((notebook_folder / "photos").iterdir()))


def test_a_bar_is_one_output_of_the_cell_and_its_last_state_stays(notebook_folder: Path) -> None:
    (notebook_folder / "photos" / "page.jpg").write_bytes(b"<html>")
    count = len(list((notebook_folder / "photos").iterdir()))
    job = 'fi.predict(inputs=["photos/"], output="out/", model="models/dogs", wire="encoded"{}).listed'
    train = 'fi.train(labels="labels.csv", images="train/", hub_model="hub/", model_store="models/", '
    [_, first, again, silent, trained] = run_notebook(
        [
            "import flow_images as fi",
            job.format(""),
            job.format(""),
            job.format(", progress=False"),
            train + 'name="dogs", version=5, epochs=4).version',
        ],
        notebook_folder,
    )
    assert re.fullmatch(rf"complete  ━{{30}}  {count}/{count}  0:\d\d:\d\d  1 rejected", bar_of(first))
    assert bar_of(again).startswith("complete  ━")
    assert "complete since " in "".join(one.text for one in again.outputs if one.output_type == "stream")
    assert not [one for one in silent.outputs if one.output_type == "display_data"]
    assert re.fullmatch(r"published models/dogs/5  0:\d\d:\d\d", bar_of(trained))
    values = [int(cell.outputs[-1].data["text/plain"]) for cell in (first, again, silent, trained)]
    assert values == [count, count, count, 5]


def bar_of(cell: Any) -> str:
    """The one text that the cell displays."""
    [bar] = [one for one in cell.outputs if one.output_type == "display_data"]
    return str(bar.data["text/plain"])
