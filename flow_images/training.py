"""`fi.train`: a whole training as a function."""

from flow_images.watching import TrainingSteps, Watched
from serving.console.option_fields import as_keywords, options_class
from serving.process.tensorflow_import import check_not_forked
from serving.storage.base import shown
from serving.text.utf8_files import check_file_names
from trainer.progress import Progress
from trainer.progress_bar import progress_bar
from trainer.train_options import TrainJob
from trainer.training_run import TrainedModel as TrainedModel
from trainer.training_run import TrainingRun


@options_class
class WatchedTrainJob(TrainJob, Watched):
    """The keywords of `train`."""


@as_keywords(WatchedTrainJob)
def train(job: WatchedTrainJob) -> TrainedModel:
    """Trains a TensorFlow Hub image model on labelled images, and publishes it: the command `flow-images train`.

        trained = fi.train(labels="labels.csv", images="train/", model_store="models/", name="dogs", min_accuracy=0.8)
        print(trained.path, trained.accuracy, trained.report)

    Its keywords are the command's flags; `model_store` and `name` are required, and `labels` or `folder`. The model is
    published as `model_store`/`name`/`version`, whole, with its labels, preprocessing and golden images inside, and
    with report.html. Ctrl-C ends it, and nothing is published; the same call goes on from the features and checkpoints
    that are kept. What is left out and waited for is logged. `progress` is as for `fi.predict`: a bar in a notebook, by
    default.

    Args:
      job: as keywords; see the command's help.

    Returns:
      Where the model and its report are, its labels, and what it was measured to do on test images.

    Raises:
      UsageError: wrong input; nothing was published.
      NotBlessed: the model failed a gate; its report was written, and nothing was published.
      Resumable: the hub, a bucket or the disk was away or full.
      FlowImagesError: training failed; nothing was published.
    """
    check_not_forked()
    check_file_names()
    with (
        job.shown(Progress(), TrainingSteps, lambda: progress_bar(words=str)) as progress,
        TrainingRun(job.part(TrainJob), progress) as run,
    ):
        try:
            model = run.run()
        except BaseException:
            run.discard()
            raise
        progress.begin(f"published {shown(model.path)}")
    return model
