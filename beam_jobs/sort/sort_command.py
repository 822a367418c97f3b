"""`flow-images sort`: its options, and what it prints."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import click

from beam_jobs import storage_flags
from beam_jobs.stoppable import stoppable
from serving.console.grouped_help import GroupedCommand
from serving.console.option_fields import Options, option, options_class
from serving.console.option_flags import option_flags
from serving.console.terminal import console, say
from serving.errors import EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from beam_jobs.sort.sort_images import Account, What


@options_class
class SortOptions(Options, group="Output"):
    """Where the images of a run go, and as what."""

    into: str = option(
        "Folder for a folder of each label: a new or empty one, or one of an earlier call.", metavar="FOLDER"
    )
    link: Literal["symlink", "hard", "copy"] = option(
        "What is made of an image: a symbolic link, a hard link or a copy.",
        more="Of an image in a bucket or on the web it is always a copy.",
        default="symlink",
    )


@click.command(
    cls=GroupedCommand,
    options_metavar="--into FOLDER [OPTIONS]",
    notes={
        "Beam": storage_flags.NOTE,
        "Exit codes": {
            "0": "each image that is there has its place",
            "1": "files are in the way, or can't be read or removed",
            "2": "wrong usage",
            "75, 130, 143": "stopped; the same command continues",
        },
    },
    examples=("flow-images sort out/ --into sorted/", "flow-images sort gs://pets/out --into sorted/ --link copy"),
)
@click.argument("output", metavar="OUTPUT")
@option_flags(SortOptions)
@click.argument("beam_flags", nargs=-1, metavar="[-- BEAM FLAGS]")
def sort(options: SortOptions, output: str, beam_flags: tuple[str, ...]) -> None:
    """Put the images of a complete run into a folder for each label.

    OUTPUT is the folder with predictions.csv and run.json. Images without a label go into _unknown, _rejected and
    _failed. Nothing of yours is moved, replaced or removed; the same command again changes nothing.
    """
    done = 0

    def kept() -> str:
        return f"{done:,} images are in their place" if done else ""

    with stoppable("sort", kept), _shown() as (begin, show):
        from beam_jobs.sort.sort_images import sort_images

        def advance() -> None:
            nonlocal done
            done += 1
            show()

        if not output.strip():
            raise UsageError("`output` is empty: give the folder of a run")
        account = sort_images(
            output, options.into, options.link, storage_flags.storage_options(beam_flags), begin=begin, advance=advance
        )
    _tell(account, options.into)
    if not account.is_whole:
        raise click.exceptions.Exit(EXIT_FAILED)


@contextlib.contextmanager
def _shown() -> Iterator[tuple[Callable[[int], object], Callable[[], object]]]:
    """A bar on a terminal; gives what it is told of the number of images, and of each of them."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda images: None, lambda: None
        return
    columns = TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task("reading the results", total=None)
        yield lambda images: bar.update(task, description="sorting", total=images), lambda: bar.advance(task)


_IN_WORDS: "dict[What, str]" = {
    "linked": "linked",
    "copied": "copied",
    "there": "there already",
    "gone": "gone",
    "too_large": "too large to copy",
    "unreadable": "not readable",
    "in_the_way": "with another file in the way",
}


def _tell(account: "Account", into: str) -> None:
    images, counts = account.images, account.counts
    folders = f"{account.labels:,} label{'' if account.labels == 1 else 's'}"
    say(
        f"{images.total():,} listed = {images['label']:,} of {folders} + {images['unknown']:,} unknown + "
        f"{images['rejected']:,} rejected + {images['failed']:,} failed"
    )
    say(f"of them: {', '.join(f'{counts[what]:,} {words}' for what, words in _IN_WORDS.items() if counts[what])}")
    if account.removed:
        say(f"removed: {account.removed:,} of an earlier call that were no longer right")
    _name(account.troubles, counts["unreadable"] + counts["in_the_way"])
    _name(account.left, account.left_count)
    say(f"sorted: {into}")


def _name(lines: list[str], count: int) -> None:
    for line in lines:
        say(f"flow-images: {line}", err=True)
    if count > len(lines):
        say(f"flow-images: and {count - len(lines):,} more", err=True)
