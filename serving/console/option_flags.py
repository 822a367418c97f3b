"""Command line flags of the fields of a dataclass of options; see `serving.console.option_fields`."""

import functools
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.types import OptionHelpExtra
from typing_extensions import override

from serving.console.flags_in_messages import with_flags
from serving.console.option_fields import OptionField, Options, option_fields
from serving.console.terminal import say
from serving.errors import FlowImagesError, UsageError

R = TypeVar("R")


class Number(click.FloatRange):
    """A finite float within a range: `nan` and `inf` compare like no number, so click's own range lets them in."""

    name = "number"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def option_flags(options: type[Options]) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Adds a flag for each option; the command is called with one value of the dataclass instead, by position.

    Where the command fails, and names a flag that a variable of the environment has set, the message tells so.
    """
    fields = [field for field in option_fields(options).values() if field.flag]

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def called(*others: Any, **arguments: Any) -> R:
            values = _without_idle_variables({field: arguments.pop(field.name) for field in fields})
            try:
                return command(*others, options(**values), **arguments)
            except FlowImagesError as error:
                error.add(_variables_in(str(error), fields))
                raise

        flagged: Callable[..., R] = called
        for field in reversed(fields):
            flagged = _flag(field)(flagged)
        return flagged

    return decorate


def _flag(field: OptionField) -> Callable[[Callable[..., R]], Callable[..., R]]:
    details = field.details
    attributes: dict[str, Any] = {
        "cls": Flag,
        "field": field,
        "type": _type(field),
        "help": field.help,
        "metavar": details.get("metavar", _METAVARS.get(field.type)),
        "envvar": details.get("variable"),
        "show_envvar": True,
    }
    if field.type is bool:
        attributes["is_flag"] = True
    if field.type is tuple and "parse" not in details and not field.takes_several:
        attributes["multiple"] = True
    if field.is_required:
        attributes["required"] = True
    else:
        is_text = ("parse" in details or field.takes_several) and field.default is not None
        attributes["default"] = field.text(field.default) if is_text else field.default
        attributes["show_default"] = details.get("default_words") or not (
            field.default is None or field.default is False
        )
    flag = f"{field.flag}/--no-{field.flag.removeprefix('--')}" if field.default is True else field.flag
    return click.option(*filter(None, (details.get("short"), flag)), field.name, **attributes)


_METAVARS = {int: "N", float: "X"}


class Flag(click.Option):
    """A flag of a field. Its default is shown in words; its bounds are left to the docs, and to who oversteps them."""

    def __init__(self, *args: Any, field: OptionField, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.field = field

    @override
    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):  # which click itself puts into brackets
            extra["default"] = self.show_default
        elif "default" in extra and self.field.type is float:
            extra["default"] = f"{self.field.default:g}"
        extra.pop("range", None)
        return extra


def _type(field: OptionField) -> click.ParamType[Any] | None:
    details = field.details
    least, most = details.get("least"), details.get("most")
    if "parse" in details:
        return _Parsed(details["parse"], details.get("metavar", "TEXT"))
    if field.choices:
        return _Several(field) if field.takes_several else click.Choice(field.choices)
    if field.type is int:
        return click.IntRange(least, most)  # type: ignore[arg-type]
    if field.type is float:
        is_open = details.get("is_open", False)
        return Number(least, most, min_open=is_open, max_open=is_open)
    return None if field.type is bool else click.STRING


class _Several(click.ParamType[Any]):
    """Some of the choices of a field, with commas between them."""

    name = "list"

    def __init__(self, field: OptionField) -> None:
        self._field = field

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._field.accept(value)
        except UsageError as error:
            self.fail(str(error).removeprefix(f"`{self._field.name}` "), param, ctx)


class _Parsed(click.ParamType[Any]):
    """A type with a text form of its own; its bounds are checked where all is, by the dataclass."""

    def __init__(self, parse: Callable[[str], Any], name: str) -> None:
        self._parse = parse
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _is_from_environment(field: OptionField) -> bool:
    return click.get_current_context().get_parameter_source(field.name) is ParameterSource.ENVIRONMENT


def _without_idle_variables(given: dict[OptionField, Any]) -> dict[str, Any]:
    """The arguments by name; what the environment says yields to a field that was typed."""
    values = {field.name: value for field, value in given.items()}
    idle = [field for field in given if values.get(field.details.get("yields_to", "")) and _is_from_environment(field)]
    for field in idle:
        typed, variable = field.details["yields_to"], field.details["variable"]
        say(f"flow-images: --{typed} is given, so {variable} is left alone", err=True)
    return values | {field.name: field.default for field in idle}


def _variables_in(message: str, fields: list[OptionField]) -> str:
    """Says for a message about options which of them are set by the environment."""
    named = set(re.findall(r"--[a-z-]+", with_flags(message)))
    found = [field.details["variable"] for field in fields if field.flag in named and _is_from_environment(field)]
    return f" (set by {', '.join(found)} in the environment)" if found else ""
