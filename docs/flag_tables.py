"""Writes docs/flags.md: the flags of all commands, as the commands themselves state them.

python docs/flag_tables.py
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from flow_images.cli import COMMANDS, cli
from serving.console.grouped_help import groups
from serving.console.option_flags import Flag

PAGE = Path(__file__).with_name("flags.md")
_HEAD = """# Flags

All flags of all commands, with their defaults. This page is made of the program: `make docs-tables` writes it.
"""


def page() -> str:
    """The text of the page."""
    root = click.Context(cli, info_name="flow-images")
    return "\n".join([_HEAD, *(line for name in COMMANDS for line in _section(name, root))])


def _section(name: str, root: click.Context) -> Iterator[str]:
    command = cli.get_command(root, name)
    if command is None:
        raise LookupError(name)
    yield f"## {name}\n"
    yield from _table(command, root)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield f"### {name} {below.name}\n"
            yield from _table(below, root)


def _table(command: click.Command, root: click.Context) -> Iterator[str]:
    yield f"{command.get_short_help_str(200)}\n"
    context = click.Context(command, parent=root, show_default=True)
    for group, options in groups(command):
        yield f"**{group}**\n\n| flag | value | default | |\n| --- | --- | --- | --- |"
        yield "\n".join(_row(option, context) for option in options) + "\n"


def _row(option: click.Option, context: click.Context) -> str:
    extra = option.get_help_extra(context)
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    bounds, more = (option.field.bounds, option.field.details.get("more", "")) if isinstance(option, Flag) else ("", "")
    value = "" if option.is_flag else bounds or option.make_metavar(context)
    default = "required" if option.required else extra.get("default", "").strip('"')
    variable = "".join(f" Environment: `{name}`." for name in extra.get("envvars", ()))
    if words := re.fullmatch(r"\((.*)\)", default):
        default = words[1]
    text = " ".join(filter(None, [option.help, more]))
    cells = (flags, value and f"`{value}`", _plain(default), f"{_plain(text)}{variable}")
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text in which Markdown finds no markup but code."""
    return re.sub(r"[*<\[]", r"\\\g<0>", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
