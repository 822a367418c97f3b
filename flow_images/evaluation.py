"""`fi.evaluate`: an evaluation as a function."""

from serving.console.option_fields import as_keywords
from serving.text.utf8_files import check_file_names
from trainer.evaluate_options import EvaluateJob
from trainer.evaluation_run import EvaluatedModel as EvaluatedModel
from trainer.evaluation_run import evaluate as _evaluate


@as_keywords(EvaluateJob)
def evaluate(job: EvaluateJob) -> EvaluatedModel:
    """Measures a published or served model on labelled images: the command `flow-images evaluate`.

        found = fi.evaluate(model="models/dogs", folder="new-photos/", output="report/")
        print(found.evaluation.accuracy.value, found.report)

    Its keywords are the command's flags; `output` is required, `model` or `server`, and `labels` or `folder`.

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
    return _evaluate(job)
