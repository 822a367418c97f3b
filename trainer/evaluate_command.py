"""`flow-images evaluate`: flags, progress and the closing lines, nothing else."""

import click

from serving.console.option_flags import option_flags
from serving.console.terminal import printable, say
from trainer.evaluate_options import EvaluateJob
from trainer.progress_bar import progress_bar


@click.command()
@option_flags(EvaluateJob)
def evaluate(job: EvaluateJob) -> None:
    """Measure a published or served model on labelled images.

    Writes report.html and evaluation.json, as `train` does for a new model.
    """
    from trainer.evaluation_run import evaluate as run
    from trainer.evaluation_table import print_evaluation

    with progress_bar() as progress:
        found = run(job, progress)
    print_evaluation(found.evaluation, "images")
    say(f"model:  {printable(found.model)}, version {found.version}")
    say(f"report: {printable(found.report)}")
