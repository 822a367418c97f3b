"""`flow-images train`: flags, progress and the closing lines, nothing else."""

import shlex
from typing import TYPE_CHECKING

import click

from serving.console.flags_in_messages import with_flags
from serving.console.grouped_help import GroupedCommand
from serving.console.option_flags import option_flags
from serving.console.terminal import printable, say
from serving.errors import NotBlessed
from trainer.clean_stop import stoppable
from trainer.progress_bar import progress_bar
from trainer.train_options import TrainJob

if TYPE_CHECKING:
    from trainer.training_run import TrainedModel, TrainingRun


@click.command(
    cls=GroupedCommand,
    options_metavar="(--labels CSV | --folder FOLDER) --model-store FOLDER --name NAME [OPTIONS]",
    notes={
        "Exit codes": {
            "0": "published, now or by the same training before",
            "1": "failed",
            "2": "wrong usage",
            "4": "a gate failed: reported, not published",
            "75": "stopped; the same command continues",
            "130, 143": "interrupted; the same command continues",
        }
    },
    examples=(
        "flow-images train --folder photos/ --model-store models --name dogs",
        "flow-images train --labels labels.csv --images train/ \\\n"
        "--model-store gs://pets/models --name dogs --min-accuracy 0.8",
        "flow-images train --folder photos/ --model-store models --name dogs \\\n"
        "--fine-tune --augment --max-regression 0.01",
    ),
)
@option_flags(TrainJob)
def train(job: TrainJob) -> None:
    """Train a TensorFlow Hub image model on labelled images, measure it, and export it for serving.

    The model is published as STORE/NAME/VERSION, whole, with its labels and preprocessing inside, and with report.html.
    With a gate, a model that fails it is reported and not published.
    """
    from trainer.training_run import AlreadyPublished, TrainingRun

    with progress_bar() as progress:
        run = TrainingRun(job, progress)
        with stoppable(lambda: _interrupted(run), run.discard), run:
            try:
                model = run.run()
            except AlreadyPublished as there:
                progress.close()
                say(printable(str(there)), as_is=True)
                return
            except NotBlessed:
                progress.close()
                _print_evaluation(run)
                raise
            progress.close()
            _print_evaluation(run)
            _conclude(model)


def _interrupted(run: "TrainingRun") -> str:
    if run.published:
        return f"flow-images train: interrupted; {printable(run.published)} was published before"
    goes_on = "; the same command continues with what is kept" if run.is_kept else ""
    return f"flow-images train: interrupted; nothing was published{goes_on}"


def _print_evaluation(run: "TrainingRun") -> None:
    from trainer.evaluation_table import print_training

    assert run.evaluation is not None
    assert run.record is not None
    print_training(run.record, run.evaluation)


def _conclude(model: "TrainedModel") -> None:
    for gate in model.gates:
        say(f"gate --{gate.name.replace('_', '-')}: wanted {gate.wanted}, found {gate.found}")
    if model.suspects:
        say(f"labels that may be wrong: {len(model.suspects):,} of {model.training_images:,}; the report shows them")
    if model.undetected:
        text = (
            f"WARNING: the model's answers to its golden images hardly depend on {', '.join(model.undetected)}, so a "
            "job will not notice a server or client that gets that wrong"
        )
        say(f"flow-images: {with_flags(text)}", err=True)
    say(f"report: {printable(model.report)}", as_is=True)
    say(f"model: {printable(model.path)}", as_is=True)
    path = printable(shlex.quote(model.path))
    say(f"next:  flow-images predict --model {path} --input 'IMAGES/**/*.jpg' --output out/", as_is=True)
