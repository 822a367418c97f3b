"""The plan: one for all processes of a run, whoever makes it, and refused if it is not as it was written."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.plan import OutputGone, Plan, RunFolder
from serving.errors import FlowImagesError, UsageError
from serving.storage.disk import Disk
from tests.beam_jobs.runs import numbered, planned


def test_of_many_first_processes_all_have_one_plan(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: planned(tmp_path, numbered(10))[1], range(8)))
    assert len({plan.id for plan in found}) == 1
    assert RunFolder(Disk(), str(tmp_path)).load_plan() == found[0]
    assert [path.name for path in (tmp_path / "_state").glob("*")] != []


def test_a_folder_without_a_run_has_no_plan(tmp_path: Path) -> None:
    assert RunFolder(Disk(), str(tmp_path)).load_plan() is None


def test_a_plan_of_another_release_is_not_guessed_at(finished: tuple[RunFolder, Plan]) -> None:
    folder, _ = finished
    path = Path(folder.state) / "plan.json"
    path.write_text(path.read_text().replace('"manifest"', '"list"'))
    with pytest.raises(FlowImagesError, match=r"plan\.json is from another release, or damaged; use `fresh`"):
        folder.load_plan()


@pytest.mark.parametrize(
    ("option", "model", "says"),
    [
        ({"top_k": 1}, {}, "top_k 2 there, 1 now"),
        ({"inputs": ["y"]}, {}, r"inputs \['x'\] there, \['y'\] now"),
        ({}, {"version": 2}, "model_version 1 there, 2 now"),
        ({}, {"name": "n"}, "model_name 'm' there, 'n' now"),
        ({"top_k": 3, "wire": "uint8"}, {}, "wire 'encoded' there, 'uint8' now; top_k 2 there, 3 now"),
    ],
)
def test_a_process_that_would_mix_results_is_refused(
    finished: tuple[RunFolder, Plan], option: dict[str, Any], model: dict[str, Any], says: str
) -> None:
    folder, plan = finished
    plan.check(plan.options, plan.model, folder.output)
    with pytest.raises(UsageError, match=says) as error:
        plan.check(plan.options.model_copy(update=option), plan.model.model_copy(update=model), folder.output)
    assert "`fresh`" in str(error.value)
    assert folder.output in str(error.value)


def test_labels_are_part_of_what_a_run_is(finished: tuple[RunFolder, Plan]) -> None:
    folder, plan = finished
    other = plan.model.contract.model_copy(update={"labels": ["a", "c"]})
    with pytest.raises(UsageError, match="contract"):
        plan.check(plan.options, plan.model.model_copy(update={"contract": other}), folder.output)


def test_relative_paths_are_below_the_folder_that_the_run_began_in(
    finished: tuple[RunFolder, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan = finished
    began = os.getcwd()
    monkeypatch.chdir("/")
    assert plan.locate("in/a.jpg") == f"{began}/in/a.jpg"
    assert plan.locate("/in/a.jpg") == "/in/a.jpg"
    assert plan.locate("s3://in/a.jpg") == "s3://in/a.jpg"


@pytest.mark.parametrize("change", [lambda data: data[:-20], lambda data: data.replace(b"3.jpg", b"x.jpg")])
def test_a_changed_manifest_is_found_out(finished: tuple[RunFolder, Plan], change: Callable[[bytes], bytes]) -> None:
    folder, plan = finished
    manifest = Path(folder.manifest_path(plan.manifest))
    manifest.write_bytes(change(manifest.read_bytes()))
    with pytest.raises(FlowImagesError, match="was changed"):
        [folder.read_chunk(plan, chunk) for chunk in range(plan.manifest.chunks)]


def test_a_manifest_that_is_gone_ends_the_run(finished: tuple[RunFolder, Plan]) -> None:
    folder, plan = finished
    Path(folder.manifest_path(plan.manifest)).unlink()
    with pytest.raises(FlowImagesError, match=r"is gone.*`fresh`") as error:
        folder.read_chunk(plan, 0)
    assert error.value.exit_code == 1


def test_an_output_that_is_gone_may_be_brought_back(finished: tuple[RunFolder, Plan]) -> None:
    folder, plan = finished
    shutil.rmtree(folder.output)
    with pytest.raises(OutputGone, match="the same command continues") as error:
        folder.read_chunk(plan, 0)
    assert error.value.exit_code == 75


def test_a_run_that_is_forgotten_leaves_no_results(finished: tuple[RunFolder, Plan]) -> None:
    folder, _ = finished
    result = Path(folder.output) / "run.json"
    result.touch()
    other = Path(folder.output) / "notes.txt"
    other.touch()
    folder.clear([str(result)])
    assert [path for path in Path(folder.output).rglob("*") if path.is_file()] == [other]


def test_parts_of_another_run_are_never_taken_for_ones_own(finished: tuple[RunFolder, Plan]) -> None:
    """As an interrupted --fresh leaves them, or a process that does not know of it."""
    folder, plan = finished
    (Path(folder.state) / "plan.json").unlink()
    _, new = planned(Path(folder.output), numbered(10))
    assert folder.parts(plan).done(0) == {0, 1, 2}
    assert folder.parts(new).done(0) == set()
