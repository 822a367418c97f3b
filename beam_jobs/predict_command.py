"""`flow-images predict` and `flow-images merge`: flags, signals and exit codes, nothing else."""

import contextlib
import functools
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from beam_jobs import interrupt
from serving.connection import Connection
from serving.connection_flags import MAX_TOP_K, WIRE_NAMES, model_override_flags, picture_limit_flags, server_flags
from serving.console.flag_types import ByteSize
from serving.console.signals import hearing
from serving.errors import EXIT_OVER_LIMIT, Transient, UsageError

if TYPE_CHECKING:
    from beam_jobs.options import Shard
    from beam_jobs.plan import Plan
    from beam_jobs.results import Account


class Limit(click.ParamType[Any]):
    """How many of the pictures: a count (`20`) or a share (`2%` or `0.02`)."""

    name = "N|SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Limit.Value":
        if isinstance(value, Limit.Value):
            return value
        text = str(value)
        if re.fullmatch(r"[0-9]{1,18}", text):
            return Limit.Value(count=int(text), text=text)
        if re.fullmatch(r"([0-9]+\.?[0-9]*|\.[0-9]+)%?", text):
            share = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
            if share <= 1:
                return Limit.Value(share=share, text=text)
        raise click.BadParameter(f"{text!r} is neither a count (20) nor a share up to all (2% or 0.02)", ctx, param)

    class Value:
        """A parsed limit."""

        def __init__(self, *, count: int | None = None, share: float = 0.0, text: str) -> None:
            self._count, self._share, self._text = count, share, text

        def __str__(self) -> str:
            return self._text

        def allows(self, number: int, of: int) -> bool:
            """Is a number of rows within the limit?"""
            return number <= (self._count if self._count is not None else self._share * of)


limit_flags = [
    click.option("--max-rejected", type=Limit(), default="50%", show_default=True,
                 help="More rejected pictures than this end with exit code 3. Half: a bucket of pictures has a few "
                 "broken ones; where most are, the wrong folder was named."),
    click.option("--max-failed", type=Limit(), default="0", show_default=True,
                 help="The same for failed ones, which --retry-failed may mend."),
]  # fmt: skip


def _with_limits(command: Any) -> Any:
    for flag in reversed(limit_flags):
        command = flag(command)
    return command


@click.command(context_settings={"ignore_unknown_options": False})
@click.option("--input", "inputs", multiple=True, required=True,
              help="A glob ('photos/**/*.jpg'), a folder, a .txt with a path a line, a .csv with a column path (id and "
              "label are kept), or a picture; on a disk, gs:// or s3://. May be repeated.")  # fmt: skip
@click.option("--output", required=True, help="Folder for predictions.csv, rejected.csv, failed.csv and run.json.")
@server_flags
@click.option("--wire", type=click.Choice(WIRE_NAMES),
              help="How pictures travel: preprocessed here as float32 (the default: exact) or rounded to uint8 (a "
              "quarter of the bytes), or as files, encoded (the server decodes).")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(1, 4096), default=32, show_default=True, help="Pictures a request.")
@click.option("--top-k", type=click.IntRange(1, MAX_TOP_K), default=5, show_default=True,
              help="Classes a picture in the CSV.")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(["csv", "kaggle"]), default="csv", show_default=True,
              help="kaggle: a submission file with id and a column per class.")  # fmt: skip
@click.option("--shard", metavar="I/N", help="Do only share I (from 0) of N; the last one to finish merges.")
@click.option("--fresh", is_flag=True, help="Forget the run in --output and start over; leave it out to continue.")
@click.option(
    "--retry-failed", is_flag=True, help="Ask again for the pictures that failed, were missing or were too slow."
)
@_with_limits
@picture_limit_flags
@click.option("--readers", type=click.IntRange(1, 512), default=64, show_default=True,
              help="Pictures read and decoded at once; more for a slow bucket.")  # fmt: skip
@click.option("--max-memory", type=ByteSize(128 * 2**20, 2**50), metavar="SIZE",
              help="Memory that this process may take, such as 2GiB: large pictures wait, go in smaller requests, or "
              "are rejected. [default: nine tenths of the container's limit, else half of the machine's memory; half "
              "of that beside the server of --model]")  # fmt: skip
@click.option("--requests-in-flight", type=click.IntRange(1, 64), default=3, show_default=True)
@model_override_flags
@click.argument("beam_flags", nargs=-1, metavar="[-- BEAM FLAGS]")
def predict(
    connection: Connection, inputs: tuple[str, ...], output: str, wire: Any, batch_size: int, top_k: int, format_: Any,
    shard: str | None, fresh: bool, retry_failed: bool, max_rejected: Limit.Value, max_failed: Limit.Value,
    max_image_bytes: int, max_image_pixels: int, readers: int, max_memory: int | None, requests_in_flight: int,
    beam_flags: tuple[str, ...], **plain: Any,
) -> None:  # fmt: skip
    """Predict every picture of the inputs into one CSV.

    Every picture ends in exactly one of predictions.csv, rejected.csv (its own fault) and failed.csv (the
    system's). The same command continues a run that was stopped. Flags after -- are Beam's.

    Exit codes: 0 complete; 1 failed; 2 wrong usage; 3 complete, but over --max-rejected or --max-failed; 75, 130 and
    143 stopped, the same command continues.
    """
    from beam_jobs.beam_flags import parse_beam_flags, runs_here
    from beam_jobs.chunk_predictor import ChunkOptions
    from beam_jobs.memory import Allowance
    from beam_jobs.options import PredictOptions
    from beam_jobs.progress_bar import progress_bar
    from beam_jobs.run import Run
    from beam_jobs.storage_flags import storage_options
    from serving.discovery import ModelOverrides
    from serving.images.limits import PictureLimits
    from serving.model_store import local_copy
    from serving.storage.stores import Stores
    from serving.tensorflow_import import import_tensorflow

    _check_places(output)
    if connection.embedded and not runs_here(parse_beam_flags(beam_flags)):
        raise UsageError("--model starts its server on this machine, where a runner's workers can't reach it: --server")
    options = PredictOptions(
        inputs=inputs, output=output, wire=wire, format=format_, top_k=top_k, shard=_parse_shard(shard), fresh=fresh,
        retry_failed=retry_failed, limits=PictureLimits(max_bytes=max_image_bytes, max_pixels=max_image_pixels),
        chunk=ChunkOptions(batch_size=batch_size, readers=readers, requests_in_flight=requests_in_flight),
        memory=Allowance(max_memory, connection.embedded), retry=connection.retry, plain=ModelOverrides(**plain),
        beam_flags=beam_flags, asked=connection.asked,
    )  # fmt: skip
    with _stoppable(), progress_bar() as bar:

        def start(plan: "Plan", rows: int) -> None:
            bar.start(rows, done=plan.manifest.listed - rows if options.shard.of == 1 else 0)

        prepare = import_tensorflow if wire != "encoded" else lambda: None
        stores = Stores(storage_options(beam_flags), connection.retry, interrupt.STOP)
        fetch = functools.partial(local_copy, stores=stores)
        connect = functools.partial(connection.connect, meanwhile=prepare, fetch=fetch)
        account = Run(options, connect, on_start=start, on_progress=bar.advance).execute()
    if account is None:
        click.echo(f"shard {shard} is done; others are not yet, so {output} is merged by the last one")
    else:
        _conclude(account, output, max_rejected, max_failed)


@click.command()
@click.option("--output", required=True, help="The run's output folder.")
@_with_limits
@click.argument("beam_flags", nargs=-1, metavar="[-- BEAM FLAGS]")
def merge(output: str, max_rejected: Limit.Value, max_failed: Limit.Value, beam_flags: tuple[str, ...]) -> None:
    """Write predictions.csv, rejected.csv, failed.csv and run.json from the parts of a run.

    The last shard does so by itself; this repeats it, with the same result.
    """
    from beam_jobs.run import merge_folder

    _check_places(output)
    _conclude(merge_folder(output, beam_flags), output, max_rejected, max_failed)


def _check_places(output: str) -> None:
    """Refuses what no run could write to, before a server is waited for."""
    if not output.strip():
        raise UsageError("--output is empty: give a folder")
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise UsageError(
            f"no place for temporary files ({error.strerror}): let TMPDIR name a folder that can be written to"
        ) from error
    if "://" in output:
        return
    there = next(folder for folder in (Path(output), *Path(output).absolute().parents) if folder.exists())
    if not there.is_dir():
        raise UsageError(f"--output {output} can't be used: {there}: Not a directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--output {output} can't be used: {there} may not be written to")


_MAX_SHARDS = 100_000
"""As many pods as an Indexed Job of Kubernetes may have."""


def _parse_shard(text: str | None) -> "Shard":
    from beam_jobs.options import Shard

    if text is None:
        return Shard()
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not int(found[1]) < int(found[2]) <= _MAX_SHARDS:
        raise UsageError(
            f"--shard {text}: expected I/N with I from 0 to N-1 and N at most {_MAX_SHARDS:,}, such as 0/4"
        )
    return Shard(int(found[1]), int(found[2]))


def _conclude(account: "Account", output: str, max_rejected: Limit.Value, max_failed: Limit.Value) -> None:
    """Prints the account; exits with 3 where it is over a limit."""
    from beam_jobs.inputs import left_out_in_words
    from beam_jobs.results import FAILED, PREDICTIONS, REJECTED
    from serving.storage.base import join

    click.echo(
        f"{account.listed:,} listed = {account.predicted:,} predicted + {account.rejected:,} rejected + "
        f"{account.failed:,} failed" + (f"; {account.duplicates:,} duplicates left out" if account.duplicates else "")
    )
    if words := left_out_in_words(account.left_out):
        click.echo(f"left out of the inputs: {words}")
    click.echo(f"predictions: {join(output, PREDICTIONS)}")
    if account.labelled:
        click.echo(f"accuracy: {account.correct / account.labelled:.3f} of {account.labelled:,} labelled pictures")
    over = False
    for number, limit, flag, name in (
        (account.rejected, max_rejected, "--max-rejected", REJECTED),
        (account.failed, max_failed, "--max-failed", FAILED),
    ):
        if number:
            click.echo(f"{name.removesuffix('.csv')}: {join(output, name)}")
        if not limit.allows(number, account.listed):
            click.echo(f"flow-images: {number:,} in {name}, over {flag} {limit}", err=True)
            over = True
    if over:
        raise click.exceptions.Exit(EXIT_OVER_LIMIT)


_STOP_WITHIN_S = 5.0


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the run within seconds, resumable; a second one ends the process at once."""
    received: list[int] = []

    def handle(number: int) -> None:
        if received:
            interrupt.exit_now(128 + number)
        received.append(number)
        print("\nstopping; once more to end at once", file=sys.stderr, flush=True)
        interrupt.exit_after(_STOP_WITHIN_S, 128 + number)
        interrupt.request_stop()

    try:
        with hearing(handle):
            yield
    except Exception as error:
        # What a stop breaks off may fail in any way; without one, an error is an error.
        if not received:
            if isinstance(error, Transient):
                error.args = (f"{error.args[0]}; what is done is kept: the same command continues", *error.args[1:])
            raise
        click.echo("flow-images predict: interrupted; the same command continues", err=True)
        sys.exit(128 + received[0])
