"""`flow-images report`: its options, and the call that writes the page of a run."""

import click

from beam_jobs import storage_flags
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import Options, option, options_class
from serving.console.option_flags import option_flags
from serving.console.terminal import say


@options_class
class ReportOptions(Options, group="Output"):
    """What the page of a run shows."""

    no_thumbnails: bool = option(
        "Show no images. Else some are read again from where they were, and are in the page.", default=False
    )


@click.command(
    cls=GroupedCommand,
    options_metavar="[OPTIONS]",
    notes={"Beam": storage_flags.NOTE},
    examples=("flow-images report out/", "flow-images report gs://pets/out --no-thumbnails"),
)
@click.argument("output", metavar="OUTPUT")
@option_flags(ReportOptions)
@click.argument("beam_flags", nargs=-1, metavar="[-- BEAM FLAGS]")
def report(options: ReportOptions, output: str, beam_flags: tuple[str, ...]) -> None:
    """Write report.html beside the results of a complete run.

    OUTPUT is the folder with predictions.csv and run.json. The page is one file that needs no network: the account,
    the labels and scores, images of each label, what was rejected and why, and where the input had the right labels,
    what was right and what was confused.
    """
    from beam_jobs.report.write_report import write_report
    from beam_jobs.run import check_output

    check_output(output)
    path = write_report(output, storage_flags.storage_options(beam_flags), thumbnails=not options.no_thumbnails)
    say(f"report: {path}")
