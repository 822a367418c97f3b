"""`fi.evaluate`: an evaluation as a function."""

from flow_images.watching import TrainingSteps, Watched
from serving.console.option_fields import as_keywords, options_class
from serving.text.utf8_files import check_file_names
from trainer.evaluate_options import EvaluateJob
from trainer.evaluation_run import EvaluatedModel as EvaluatedModel
from trainer.evaluation_run import evaluate as _evaluate
from trainer.progress import Progress
from trainer.progress_bar import progress_bar


@options_class
class WatchedEvaluateJob(EvaluateJob, Watched):
    """The keywords of `evaluate`."""


@as_keywords(WatchedEvaluateJob)
def evaluate(job: WatchedEvaluateJob) -> EvaluatedModel:
    """Measures a published or served model on labelled images: the command `flow-images evaluate`.

        found = fi.evaluate(model="models/dogs", folder="new-photos/", output="report/")
        print(found.evaluation.accuracy.value, found.report)

    Its keywords are the command's flags; `output` is required, `model` or `server`, and `labels` or `folder`.
    `progress` is as for `fi.predict`: a bar in a notebook, by default.

    Args:
      job: as keywords; see the command's help.

    Returns:
      What was measured, and where the report is.

    Raises:
      UsageError: wrong options or images, or labels that the model doesn't know; nothing was written.
      Resumable: the server, a bucket or the disk is away or full.
      FlowImagesError: the server can't be asked.
    """
    check_file_names()
    with job.shown(Progress(), TrainingSteps, lambda: progress_bar(words=str)) as progress:
        found = _evaluate(job.part(EvaluateJob), progress)
        progress.begin(f"measured {found.evaluation.images:,} images")
    return found
