"""Replaces the fields that messages name by the flags of a command.

The library's messages name an option as Python spells it, in backticks: `batch_size`, or `tls.ca` for a field of a
field. A command shows the first as --batch-size and the second as --tls-ca.
"""

import re

import click

_FIELD = re.compile(r"`([a-z]\w*(?:\.\w+)*)`", re.ASCII)


def with_flags(text: str, command: click.Command | None = None) -> str:
    """The text with the command's flags in place of the fields; a field that the command has no flag for stays.

    Args:
      text: of a message.
      command: the one that runs; None for that of this thread's context. Of a group, the flags of its commands count,
        too.
    """
    if command is None and (context := click.get_current_context(silent=True)):
        command = context.command
    flags = _flags(command) if command else {}
    return _FIELD.sub(lambda found: flags.get(_dashed(found[1]), found[0]), text)


def _flags(command: click.Command) -> dict[str, str]:
    """Long flags by their own name, and by that of the argument that they fill."""
    commands = [command, *command.commands.values()] if isinstance(command, click.Group) else [command]
    flags: dict[str, str] = {}
    for option in (parameter for one in commands for parameter in one.params):
        for flag in option.opts:
            if flag.startswith("--"):
                flags |= {flag.removeprefix("--"): flag, _dashed(option.name or ""): flag}
    return flags


def _dashed(field: str) -> str:
    return re.sub(r"[._]", "-", field)
