"""Runs that are complete, with the answers that a test wants: real parts, merged by the job's own code."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from beam_jobs.chunk_work import ChunkWork
from beam_jobs.listing import Listed
from beam_jobs.parts import Outcome
from beam_jobs.plan import OutputForms
from beam_jobs.predict_options import Format
from beam_jobs.results import merge
from serving.contract import ModelContract, Preprocessing
from tests.beam_jobs.runs import planned


class Image(NamedTuple):
    """An image of a run, by its path."""

    path: str
    scores: Sequence[float] = ()
    """One for each label; none of an image that was rejected or failed."""
    true_label: str | None = None
    fault: tuple[Literal["rejected", "failed"], str, str] | None = None
    """The verdict, its reason and its message."""


def complete(
    folder: Path,
    images: Sequence[Image],
    labels: Sequence[str],
    *,
    top_k: int = 5,
    format_: Literal["csv", "kaggle"] = "csv",
    threshold: float = 0.0,
    formats: Sequence[Format] = (),
    chunk_rows: int = 5000,
    works: Sequence[ChunkWork] = (),
    recorded: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a run of these images and its results, and returns its folder.

    Args:
      folder: of the run.
      images: in any order.
      labels: of the model.
      top_k: scores of each image.
      format_: of the predictions.
      threshold: of the predictions; 0 for none.
      formats: of the predictions, where they are several.
      chunk_rows: images of each chunk.
      works: how the chunks were worked through, in their order; the first release tells none.
      recorded: options that run.json tells.
    """
    contract = ModelContract(
        labels=list(labels),
        preprocessing=Preprocessing(height=8, width=8),
    )
    top_k = min(top_k, len(labels))
    kept = 0 if format_ == "kaggle" else top_k
    listed = [Listed(image.path, label=image.true_label) for image in images]
    run, plan = planned(folder, listed, contract, chunk_rows=chunk_rows, top_k=kept, format_=format_)
    by_path = {image.path: image for image in images}
    for chunk in range(plan.manifest.chunks):
        rows = run.read_chunk(plan, chunk)
        outcomes = [_outcome(number, by_path[row.path], kept) for number, row in enumerate(rows)]
        run.parts(plan).write(0, chunk, outcomes, works[chunk] if works else None)
    forms = OutputForms(formats=tuple(formats) or (format_,), threshold=threshold, top_k=top_k)
    merge(run, plan, recorded or {}, forms)
    return folder


def _outcome(row: int, image: Image, top_k: int) -> Outcome:
    if image.fault:
        verdict, reason, message = image.fault
        return Outcome(row, verdict, stage="read", reason=reason, message=message)
    order = list(range(len(image.scores)))
    if top_k:
        order = sorted(order, key=lambda index: -image.scores[index])[:top_k]
    return Outcome(row, "predicted", order, [image.scores[index] for index in order])


def rows_of(output: Path, name: str = "predictions.csv") -> list[dict[str, str]]:
    """The rows of a CSV of a run, as any reader of CSVs gives them."""
    with (output / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
