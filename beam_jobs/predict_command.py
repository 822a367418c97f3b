"""`flow-images predict` and `flow-images merge`: flags, signals and exit codes, nothing else."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from beam_jobs.predict_options import (
    MergeOptions,
    OutputOptions,
    PageOptions,
    PredictOptions,
    ProgressOptions,
    RejectionLimits,
)
from beam_jobs.stoppable import stoppable
from serving.console.grouped_help import GroupedCommand
from serving.console.option_flags import option_flags
from serving.console.terminal import say
from serving.errors import EXIT_OVER_LIMIT

if TYPE_CHECKING:
    from beam_jobs.progress_log import Shown, Work
    from beam_jobs.results import Account


_BEAM = {"-- BEAM FLAGS": "Where Beam runs, such as -- --runner=FlinkRunner; see docs/runners.md."}


@click.command(
    cls=GroupedCommand,
    options_metavar="--input PATH --output FOLDER (--server HOST:PORT | --model STORE/NAME) [OPTIONS]",
    notes={
        "Beam": _BEAM,
        "Exit codes": {
            "0": "complete",
            "1": "failed",
            "2": "wrong usage",
            "3": "complete, but over --max-rejected or --max-failed",
            "75, 130, 143": "stopped; the same command continues",
        },
    },
    examples=(
        "flow-images predict --input photos/ --model models/dogs --output out/",
        "flow-images predict --input 'photos/**/*.jpg' --output out/ --retry-failed \\\n"
        "--server localhost:8500 --model-name dogs",
        "flow-images predict --input labels.csv --images photos/ --format kaggle \\\n"
        "--model models/dogs --output submission/",
        "flow-images predict --input gs://pets/new --output gs://pets/out \\\n"
        "--server serving:8500 --model-name dogs --wire encoded \\\n"
        "-- --runner=FlinkRunner --flink_master=flink:8081",
    ),
)
@option_flags(PredictOptions)
@option_flags(RejectionLimits)
@option_flags(ProgressOptions)
@option_flags(PageOptions)
@click.argument("beam_flags", nargs=-1, metavar="[-- BEAM FLAGS]")
def predict(
    options: PredictOptions,
    limits: RejectionLimits,
    display: ProgressOptions,
    page: PageOptions,
    beam_flags: tuple[str, ...],
) -> None:
    """Predict every image of the inputs into one CSV.

    Every image ends in exactly one of predictions.csv, rejected.csv (its own fault) and failed.csv (the
    system's). The same command continues a run that was stopped.
    """
    from beam_jobs.predict_job import run_job
    from beam_jobs.progress_bar import shown_progress

    shown: list[Shown] = []
    with stoppable("predict", lambda: shown[0].kept if shown else ""), shown_progress(quiet=display.quiet) as progress:
        shown.append(progress)
        account = run_job(dataclasses.replace(options, beam_flags=beam_flags), progress)
    if account is None or progress.run is None:
        say(f"shard {options.shard} is done; the last shard that ends writes the results into {options.output}")
    else:
        is_over = _conclude(account, progress.run, options.output, limits, progress.work)
        _end(is_over, page, options.output, beam_flags)


@click.command(
    cls=GroupedCommand,
    options_metavar="--output FOLDER [OPTIONS]",
    notes={"Beam": _BEAM},
    examples=(
        "flow-images merge --output out/",
        "flow-images merge --output out/ --format csv,parquet --threshold 0.8",
    ),
)
@option_flags(MergeOptions)
@click.argument("beam_flags", nargs=-1, metavar="[-- BEAM FLAGS]")
def merge(options: MergeOptions, beam_flags: tuple[str, ...]) -> None:
    """Write predictions.csv, rejected.csv, failed.csv and run.json from the parts of a run.

    The last shard does so by itself; this repeats it, with the same result, or with another --format or --threshold:
    no image is asked about again.
    """
    from beam_jobs.results import Account
    from beam_jobs.run import check_output, merge_folder

    check_output(options.output)
    finished = merge_folder(options.output, beam_flags, options.part(OutputOptions))
    is_over = _conclude(Account.of(finished), finished.run, options.output, options)
    _end(is_over, options, options.output, beam_flags)


def _conclude(
    account: "Account", run: Mapping[str, Any], output: str, limits: RejectionLimits, work: "Work | None" = None
) -> bool:
    """Prints the account and what was found, and tells whether the account is over a limit."""
    from beam_jobs.listing import left_out_in_words
    from beam_jobs.plan import OutputForms
    from beam_jobs.results import EMBEDDINGS, FAILED, REJECTED, prediction_files
    from beam_jobs.summary_table import print_summary
    from serving.storage.base import join

    say(
        f"{account.listed:,} listed = {account.predicted:,} predicted + {account.rejected:,} rejected + "
        f"{account.failed:,} failed" + (f"; {account.duplicates:,} duplicates left out" if account.duplicates else "")
    )
    if words := left_out_in_words(account.left_out):
        say(f"left out of the inputs: {words}")
    print_summary(run, work)
    files = prediction_files(OutputForms.recorded(run["options"]).formats)
    say(f"predictions: {', '.join(join(output, name) for name in files.values())}")
    if run["options"].get("embeddings"):
        say(f"embeddings: {join(output, EMBEDDINGS)}")
    over = False
    for number, limit, flag, name in (
        (account.rejected, limits.max_rejected, "--max-rejected", REJECTED),
        (account.failed, limits.max_failed, "--max-failed", FAILED),
    ):
        if number:
            say(f"{name.removesuffix('.csv')}: {join(output, name)}")
        if not limit.allows(number, account.listed):
            say(f"flow-images: {number:,} in {name}, over {flag} {limit}", err=True)
            over = True
    return over


def _end(is_over: bool, page: PageOptions, output: str, beam_flags: tuple[str, ...]) -> None:
    """Writes the page that was asked for; exits with 3 where the account is over a limit."""
    if page.report:
        try:
            from beam_jobs.report.write_report import write_report
            from beam_jobs.storage_flags import storage_options

            say(f"report: {write_report(output, storage_options(beam_flags))}")
        except Exception as error:  # whatever it is, the results are complete
            extra = ": pip install 'flow-images[report]'" if isinstance(error, ModuleNotFoundError) else ""
            say(f"flow-images: no report: {error}{extra}", err=True)
    if is_over:
        raise click.exceptions.Exit(EXIT_OVER_LIMIT)
