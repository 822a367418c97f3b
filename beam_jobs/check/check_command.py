"""`flow-images check`: the call that recounts a run, and what it prints."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from beam_jobs import storage_flags
from beam_jobs.stoppable import stoppable
from serving.console.grouped_help import GroupedCommand
from serving.console.terminal import console, say
from serving.errors import EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from beam_jobs.check.check_run import Checked


@click.command(
    cls=GroupedCommand,
    options_metavar="",
    notes={
        "Beam": storage_flags.NOTE,
        "Exit codes": {
            "0": "all is right",
            "1": "something is wrong",
            "2": "no run there",
            "75": "not complete, or the store is away",
            "130, 143": "stopped",
        },
    },
    examples=("flow-images check out/", "flow-images check gs://pets/out"),
)
@click.argument("output", metavar="OUTPUT")
@click.argument("beam_flags", nargs=-1, metavar="[-- BEAM FLAGS]")
def check(output: str, beam_flags: tuple[str, ...]) -> None:
    """Recount the results of a complete run, and say the first row of each file that is wrong.

    OUTPUT is the folder with run.json. Each row is held against the list of the images, the parts of the run and the
    other files. A copy of the folder without _state is checked as far as its files tell. Nothing is changed.
    """
    with stoppable("check", lambda: "nothing was changed", "the same command checks again"), _shown() as advance:
        from beam_jobs.check.check_run import check_run

        if not output.strip():
            raise UsageError("`output` is empty: give the folder of a run")
        found = check_run(output, storage_flags.storage_options(beam_flags), advance=advance)
    _tell(found)
    if found.findings:
        raise click.exceptions.Exit(EXIT_FAILED)


@contextlib.contextmanager
def _shown() -> Iterator[Callable[[int], object]]:
    """A count on a terminal; gives what it is told of the number of images."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda images: None
        return
    with screen.status("checking") as status:
        yield lambda images: status.update(f"checking: {images:,} images")


def _tell(found: "Checked") -> None:
    say(
        f"{found.listed:,} listed = {found.predicted:,} predicted + {found.rejected:,} rejected + "
        f"{found.failed:,} failed"
    )
    say(f"checked: {', '.join(found.files)}")
    if found.unchecked:
        say(f"not checked, as it is not there to compare with: {'; '.join(found.unchecked)}")
    for one in found.findings:
        say(f"flow-images: {one}", err=True)
    if found.findings:
        say("wrong: `flow-images merge` writes all results again from the parts", err=True)
    else:
        say("what could be checked is right" if found.unchecked else "all is right")
