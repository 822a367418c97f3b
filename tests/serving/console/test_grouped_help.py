"""--help in groups: each fits a screen of 80 columns, and together they have every flag once."""

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from flow_images.cli import COMMANDS, cli
from serving.console.grouped_help import GroupedCommand, groups
from serving.console.option_fields import GROUPS, Options, option, options_class
from serving.console.option_flags import option_flags

SCREEN = 24


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", one) for below, one in command.commands.items())


COMMAND = [pytest.param(name, command, id=name) for name, command in commands()]


def help_of(name: str, columns: int = 80) -> str:
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(cli, [*name.split(), "--help"], terminal_width=columns)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(("name", "command"), COMMAND)
def test_a_group_is_a_screen_of_80_columns(name: str, command: click.Command) -> None:
    shown = help_of(name)
    assert not [line for line in shown.splitlines() if len(line) > 80]
    for section in shown.split("\n\n"):
        assert len(section.splitlines()) <= SCREEN, section


@pytest.mark.parametrize(("name", "command"), COMMAND)
def test_every_flag_is_there_once_and_whole(name: str, command: click.Command) -> None:
    shown = help_of(name)
    for one in command.params:
        if isinstance(one, click.Option):
            assert len(re.findall(rf"^  (-\w, )?{one.opts[-1]}\b(?!-)", shown, re.MULTILINE)) == 1, one.opts
    assert not [line for line in shown.splitlines() if re.search(r"\w-$", line)], "a flag is broken at its hyphen"


@pytest.mark.parametrize(("name", "command"), COMMAND)
def test_only_what_is_no_field_is_in_no_group(name: str, command: click.Command) -> None:
    found = dict(groups(command))
    assert {one.name for one in found.pop("Other", [])} <= {"as_json"}
    assert list(found) == [group for group in GROUPS if group in found]


@options_class
class Deed(Options, group="Speed"):
    fast: bool = option("Do it fast, as --very-fast-indeed-and-sure and --very-fast-indeed-and-sure do.", default=False)


@options_class
class Job(Deed, group="Input"):
    what: str = option("What to do.", metavar="DEED")
    limit: int = option("At most.", default=5, least=1, most=9_999, group="Limits")


@click.command(cls=GroupedCommand, notes={"Exit codes": {"0": "done"}}, examples=("job --what x \\\n--limit 5",))
@option_flags(Job)
def job(options: Job) -> None:
    """Does it."""


def test_a_field_is_in_its_own_group_or_in_that_of_the_class_that_states_it() -> None:
    shown = CliRunner().invoke(job, ["--help"], prog_name="job", terminal_width=60).output
    assert shown.splitlines() == [
        "Usage: job [OPTIONS]",
        "",
        "  Does it.",
        "",
        "Input:",
        "  --what DEED  What to do.  [required]",
        "",
        "Speed:",
        "  --fast       Do it fast, as --very-fast-indeed-and-sure",
        "               and --very-fast-indeed-and-sure do.",
        "",
        "Limits:",
        "  --limit N    At most.  [default: 5]",
        "",
        "Other:",
        "  --help       Show this message and exit.",
        "",
        "Exit codes:",
        "  0            done",
        "",
        "Examples:",
        "  job --what x \\",
        "      --limit 5",
    ]
