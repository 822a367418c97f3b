"""Writes report.html beside the results of a run."""

from collections.abc import Callable, Iterator

from beam_jobs.manifest import Row
from beam_jobs.plan import Plan, RunFolder
from beam_jobs.report.findings import Findings
from beam_jobs.report.page import RunReport, render, shown_images
from beam_jobs.report.source_images import SourceImages
from beam_jobs.result_files import RunFacts, read_answers, read_faults, read_run
from beam_jobs.results import REPORT, RUN, Incomplete
from serving.console.option_fields import option_fields
from serving.errors import UsageError
from serving.images.limits import ImageLimits
from serving.network.retry import RetryPolicy
from serving.storage.base import join, output_errors
from serving.storage.storage_options import StorageOptions
from serving.storage.stores import Stores


def write_report(output: str, storage: StorageOptions | None = None, *, thumbnails: bool = True) -> str:
    """Writes the page of a complete run.

    Args:
      output: the run's folder.
      storage: how stores of results and images are reached; None for what the environment says.
      thumbnails: whether the page has any.

    Returns:
      The path of the page.

    Raises:
      UsageError: there is no run in the folder, or its files were changed.
      Incomplete: the run is not complete.
    """
    folder = RunFolder(Stores(storage).writable(output), output)
    with output_errors(output):
        plan = folder.load_plan()
        run = _run(folder, plan)
        findings = Findings(
            read_answers(folder.storage, output, _rows(folder, plan) if plan else None, run.formats),
            read_faults(folder.storage, output),
            _threshold(run, plan),
        )
        made = _images(storage, run, plan).thumbnails(shown_images(findings)) if thumbnails else None
        page = render(
            RunReport(
                run=run,
                findings=findings,
                output=output,
                contract=plan.model.contract if plan else None,
                thumbnails=made,
            )
        )
        path = join(output, REPORT)
        with folder.storage.replacing(path) as file:
            file.write(page.encode())
    return path


def _run(folder: RunFolder, plan: Plan | None) -> RunFacts:
    try:
        return read_run(folder.storage, folder.output)
    except FileNotFoundError as error:
        if plan:
            raise Incomplete(
                f"{folder.output}: the run is not complete (no {RUN}): the command that began it continues it"
            ) from error
        raise UsageError(f"{folder.output}: no run in it (no {RUN})") from error


def _threshold(run: RunFacts, plan: Plan | None) -> float:
    """The run's, or of one from an earlier release the model's; 0 for none."""
    model = plan.model.contract.threshold if plan else None
    return (model or 0.0) if run.threshold is None else run.threshold


def _rows(folder: RunFolder, plan: Plan) -> Iterator[Row]:
    for chunk in range(plan.manifest.chunks):
        yield from folder.read_chunk(plan, chunk)


def _images(storage: StorageOptions | None, run: RunFacts, plan: Plan | None) -> SourceImages:
    limits = ImageLimits(**{name: run.options[name] for name in option_fields(ImageLimits) if name in run.options})
    locate: Callable[[str], str] = plan.locate if plan else str
    upright = plan is not None and plan.model.contract.preprocessing.orientation == "exif"
    once = Stores(storage, RetryPolicy(patience_s=0))  # a page is not worth the wait for a store that is away
    return SourceImages(once, locate, limits, upright=upright)
