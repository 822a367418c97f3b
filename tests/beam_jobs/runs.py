"""Runs up to their first part, and outcomes to write into parts."""

import datetime
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import pytest

from beam_jobs.listing import Listed, Listing
from beam_jobs.parts import Outcome, Parts, Verdict
from beam_jobs.plan import Plan, PlannedModel, ResultOptions, RunFolder
from beam_jobs.sorted_images import sort_images
from beam_jobs.worker import WorkerSpec
from serving.contract import ModelContract, Preprocessing
from serving.storage.disk import Disk

CONTRACT = ModelContract(labels=["a", "b"], preprocessing=Preprocessing(height=8, width=8))


def planned(
    folder: Path,
    images: Listing | Iterable[Listed],
    contract: ModelContract = CONTRACT,
    *,
    name: str = "m",
    chunk_rows: int = 4,
    top_k: int = 2,
    format_: Literal["csv", "kaggle"] = "csv",
) -> tuple[RunFolder, Plan]:
    """A run's output folder with its plan and manifest, before the first part."""
    buffer = io.BytesIO()
    manifest = sort_images(images, buffer).cut(chunk_rows)
    run = RunFolder(Disk(), str(folder))
    run.store_manifest(manifest, buffer)
    options = ResultOptions(
        inputs=["x"],
        wire="encoded",
        top_k=top_k,
        format=format_,
        max_image_bytes=2**20,
        max_image_pixels=2**20,
        shards=1,
    )
    plan = Plan(
        started=datetime.datetime.now(datetime.UTC),
        options=options,
        model=PlannedModel(name=name, version=1, contract=contract),
        manifest=manifest,
        sources=images.sources if isinstance(images, Listing) else [],
    )
    return run, run.adopt_plan(plan)


def numbered(count: int) -> list[Listed]:
    """So many images by the names 000.jpg and on."""
    return [Listed(f"{number:03}.jpg") for number in range(count)]


def outcome(row: int, verdict: Verdict) -> Outcome:
    """An outcome that is told from those of other rows."""
    if verdict == "predicted":
        return Outcome(row, verdict, [row % 2, 1 - row % 2], [0.75, 0.25])
    return Outcome(row, verdict, stage="predict", reason="refused", message=f'row "{row}",\n=x')


def predict_all(folder: RunFolder, plan: Plan) -> None:
    """Writes every part, with predicted rows."""
    parts = folder.parts(plan)
    for chunk in range(plan.manifest.chunks):
        parts.write(0, chunk, [outcome(row, "predicted") for row in range(plan.manifest.rows_in(chunk))])


def parts_of(spec: WorkerSpec) -> Parts:
    """The parts that a worker writes."""
    return RunFolder(Disk(), spec.output).parts(spec.plan)


def make_unreadable(path: Path) -> None:
    """Makes it a file that is there and can be opened, but whose every read fails (EIO)."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs /proc, where a file can't be read from its beginning")
    path.unlink()
    path.symlink_to("/proc/self/mem")
