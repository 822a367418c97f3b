"""docs/flags.md says what the commands do."""

import click
import pytest

from docs.flag_tables import PAGE, page
from flow_images.cli import COMMANDS, cli

WITHOUT_FLAGS = {"check"}


def test_the_page_is_what_the_commands_state() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make docs-tables writes it"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_every_command_is_in_its_section(name: str) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    below = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    flags = [flag for one in below for option in one.params if isinstance(option, click.Option)
             for flag in (*option.opts, *option.secondary_opts)]  # fmt: skip
    assert bool(flags) == (name not in WITHOUT_FLAGS)
    for flag in flags:
        assert f"`{flag}`" in section
