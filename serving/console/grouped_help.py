"""`--help` and the tables of docs/flags.md in groups: what everybody needs first, the rarely used last."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from typing_extensions import override

from serving.console.option_fields import GROUPS
from serving.console.option_flags import Flag

_WIDEST_FLAG = 24
"""Longer flags have a line of their own, so that at 80 columns half of the screen is left for what they do."""
_OTHER = "Other"
"""The group of `--help`, and of flags that are not field of options."""


class GroupedCommand(click.Command):
    """A command whose `--help` shows its flags in groups, all in the same columns, and examples at its end."""

    def __init__(
        self,
        *args: Any,
        notes: Mapping[str, Mapping[str, str]] | None = None,
        examples: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        """Makes the command as click does, which makes it of a function.

        Args:
          *args: click's.
          notes: further groups, such as that of the exit codes: what each of their lines begins with, and says.
          examples: whole commands as a user would type them; tests/flow_images/test_cli.py parses each.
          **kwargs: click's.
        """
        super().__init__(*args, **kwargs)
        self.notes = notes or {}
        self.examples = examples

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = dict(groups(self))
        help_option = self.get_help_option(ctx)
        found[_OTHER] = [*found.pop(_OTHER, []), *([help_option] if help_option else [])]
        sections = {
            group: [row for option in options if (row := option.get_help_record(ctx))]
            for group, options in found.items()
        }
        if list(sections) == [_OTHER]:
            sections = {"Options": sections[_OTHER]}
        sections |= {title: list(rows.items()) for title, rows in self.notes.items()}
        widest = max(len(flag) for rows in sections.values() for flag, _ in rows if len(flag) <= _WIDEST_FLAG)
        for title, rows in sections.items():
            with formatter.section(title):
                for flag, text in rows:
                    formatter.write(_entry(flag, text, formatter.current_indent, widest + 2, formatter.width))

    @override
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    indented = example.replace("\n", "\n" + " " * (formatter.current_indent + 4))
                    formatter.write(f"{'':>{formatter.current_indent}}{indented}\n")


def _entry(flag: str, text: str, indent: int, column: int, width: int) -> str:
    """A flag with what it does beside it, of which no other flag is broken at its hyphens, as click would."""
    lines = textwrap.wrap(text, max(width - indent - column, 10), break_on_hyphens=False)
    beside = [flag.ljust(column) + (lines or [""])[0], *lines[1:]] if len(flag) < column else [flag, *lines]
    return "".join(f"{' ' * (indent if place == 0 else indent + column)}{line}\n" for place, line in enumerate(beside))


class GroupOfCommands(click.Group):
    """A command of commands, each with its help in groups; the commands themselves may be in sections."""

    command_class = GroupedCommand

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        """Makes the group as click does, which makes it of a function.

        Args:
          *args: click's.
          sections: titles, and the names of the commands below each; None for one of all commands.
          **kwargs: click's.
        """
        super().__init__(*args, **kwargs)
        self.sections = sections

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        names = self.list_commands(ctx)
        widest = max(map(len, names))
        for title, below in (self.sections or {"Commands": names}).items():
            with formatter.section(title):
                for name in below:
                    text = self.summary(ctx, name)
                    formatter.write(_entry(name, text, formatter.current_indent, widest + 2, formatter.width))

    def summary(self, ctx: click.Context, name: str) -> str:
        """What one of the commands does, in a sentence."""
        command = self.get_command(ctx, name)
        return command.get_short_help_str(1000) if command else ""


def groups(command: click.Command) -> Iterator[tuple[str, list[click.Option]]]:
    """The flags of a command by group, in the order of `GROUPS`; in the last one are those of no field."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    group_of = {option: (isinstance(option, Flag) and option.field.group) or _OTHER for option in options}
    for group in (*GROUPS, _OTHER):
        if found := [option for option in options if group_of[option] == group]:
            yield group, found
