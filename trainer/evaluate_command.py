"""`flow-images evaluate`: flags, progress and the closing lines, nothing else."""

import click

from serving.console.grouped_help import GroupedCommand
from serving.console.option_flags import option_flags
from serving.console.terminal import printable, say
from trainer.evaluate_options import EvaluateJob
from trainer.progress_bar import progress_bar


@click.command(
    cls=GroupedCommand,
    options_metavar="(--labels CSV | --folder FOLDER) --output FOLDER "
    "(--server HOST:PORT | --model STORE/NAME) [OPTIONS]",
    examples=(
        "flow-images evaluate --folder new/ --model models/dogs --output report/",
        "flow-images evaluate --labels labels.csv --images photos/ --output report/ \\\n"
        "--server serving:8500 --model-name dogs",
    ),
)
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
    say(f"report: {printable(found.report)}", as_is=True)
