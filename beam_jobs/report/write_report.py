"""Writes report.html beside the results of a run."""

from beam_jobs.complete_run import CompleteRun
from beam_jobs.plan import RunFolder
from beam_jobs.report.course import Course
from beam_jobs.report.findings import Findings
from beam_jobs.report.page import RunReport, render, shown_images
from beam_jobs.report.source_images import SourceImages
from beam_jobs.report.training import find_training
from beam_jobs.results import REPORT
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
        run = CompleteRun(folder)
        findings = Findings(run.answers(), run.faults(), run.threshold)
        made = _images(storage, run).thumbnails(shown_images(findings)) if thumbnails else None
        changed = run.changes(findings.predicted, findings.count("rejected"), findings.count("failed"))
        page = render(
            RunReport(
                run=run.facts,
                findings=findings,
                output=output,
                changed=changed,
                contract=run.plan.model.contract if run.plan else None,
                thumbnails=made,
                course=Course(run.works()),
                training=find_training(run, output, Stores(storage, RetryPolicy(patience_s=0))),
            )
        )
        path = join(output, REPORT)
        with folder.storage.replacing(path) as file:
            file.write(page.encode())
    return path


def _images(storage: StorageOptions | None, run: CompleteRun) -> SourceImages:
    upright = run.plan is not None and run.plan.model.contract.preprocessing.orientation == "exif"
    once = Stores(storage, RetryPolicy(patience_s=0))  # a page is not worth the wait for a store that is away
    return SourceImages(once, run.locate, run.limits, upright=upright)
