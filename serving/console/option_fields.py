"""Options as fields of frozen dataclasses: help, bounds and flag of each are written once, at its field.

    class Training(Options, group="Training"):
        epochs: int = option("Passes over the training images.", default=15, least=1, most=100_000)

The flags of commands, their --help in groups and the tables of the docs are derived from it
(`serving.console.option_flags`, `grouped_help`), and so is what run.json says (`Options.record`). A wrong value is a
UsageError that names the field, whoever gave it.
"""

import dataclasses
import functools
import inspect
import operator
import os
import types
from collections.abc import Callable, Sequence
from typing import (
    Any,
    ClassVar,
    Literal,
    ParamSpec,
    TypedDict,
    TypeVar,
    Union,
    Unpack,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from serving.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
OptionsT = TypeVar("OptionsT", bound="Options")

Group = Literal[
    "Input",
    "Model",
    "Output",
    "Gates",
    "Training",
    "Addresses",
    "Server",
    "Speed",
    "Limits",
    "TLS",
    "Models without a contract",
    "Cluster",
]
"""Under which heading --help and the docs show an option, in their order: what everybody needs comes first."""
GROUPS: tuple[Group, ...] = get_args(Group)
_NO_BOUND = 2**62
"""From here on, `most` is the limit of a type and not of a user, so the docs don't tell it."""


class Details(TypedDict, total=False):
    """Optional details of an option, besides its help, type and default."""

    group: Group
    """Where it isn't that of the class."""
    more: str
    """Further sentences for the docs: --help has room for a line or two."""
    least: float
    """Least value, or least of each number of a tuple."""
    most: float
    is_open: bool
    """The bounds themselves are not allowed."""
    flag: str
    """The flag, such as `--deadline`, where it isn't the field's name; empty for a field without a flag."""
    short: str
    """A short form of the flag, such as `-n`."""
    metavar: str
    """Stands for the value in --help."""
    variable: str
    """Environment variable that is read where the flag isn't given."""
    yields_to: str
    """Field: where it is given, the variable isn't read."""
    default_words: str
    """What help and tables say of a default that is found when it is needed."""
    parse: Callable[[str], Any]
    """Reads the value from the flag's text, for other types than Python's own; raises ValueError with a message."""
    show: Callable[[Any], str]
    """Writes the value as the text that `parse` takes."""
    is_recorded: bool
    """run.json tells the value. Never for a secret."""


@overload
def option(help: str, **details: Unpack[Details]) -> Any: ...


@overload
def option(help: str, *, default: T, **details: Unpack[Details]) -> T: ...


def option(help: str, *, default: Any = dataclasses.MISSING, **details: Unpack[Details]) -> Any:
    """A field for a class under `@options_class`.

    Args:
      help: one sentence or two, for --help and the docs.
      default: the value where none is given; without it, one has to be given.
      **details: see `Details`.
    """
    return dataclasses.field(default=default, metadata={"help": help, "details": details})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option, dataclasses.field))
def options_class(kind: type[T]) -> type[T]:
    """Makes a frozen dataclass of keywords of a class whose fields are options."""
    return dataclasses.dataclass(frozen=True, kw_only=True)(kind)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OptionField:
    """An option: its field's name, help, type, default and details."""

    name: str
    """The name of the field."""
    help: str
    kind: Any
    """The type of the field, without None."""
    is_optional: bool
    """None is a value, too."""
    default: Any
    """`dataclasses.MISSING` if it must be given."""
    group: Group | None
    """Heading in --help and the docs."""
    details: Details

    @property
    def is_required(self) -> bool:
        """Must it be given?"""
        return self.default is dataclasses.MISSING

    @property
    def flag(self) -> str:
        """The flag; empty if it has none."""
        return self.details.get("flag", "--" + self.name.replace("_", "-"))

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it, or each item of its tuple, may have; empty if it isn't a choice."""
        kind = get_args(self.kind)[0] if get_origin(self.kind) is tuple else self.kind
        return get_args(kind) if get_origin(kind) is Literal else ()

    @property
    def takes_several(self) -> bool:
        """Are several choices one value? Its text has commas between them."""
        return self.type is tuple and bool(self.choices)

    @property
    def type(self) -> Any:
        """The type of the field as a class: `tuple` for a `tuple[str, ...]` or a `Sequence[str]`."""
        origin = get_origin(self.kind) or self.kind
        return tuple if origin in (tuple, Sequence) else origin

    def text(self, value: Any) -> str:
        """A value as a user would write it."""
        if "show" in self.details:
            return self.details["show"](value)
        if self.takes_several:
            return ",".join(value)
        return _number_text(value) if isinstance(value, int | float) else str(value)

    def accept(self, value: Any) -> Any:
        """The value as the field's type has it: paths become text, lists tuples, and a flag's text what it says.

        Raises:
          UsageError: it is of another type, out of bounds or no choice.
        """
        if value is None and self.is_optional:
            return None
        if self.takes_several:
            return self._some(value)
        if self.choices:
            if value not in self.choices:
                raise self._wrong(f"{', '.join(self.choices[:-1])} or {self.choices[-1]}", repr(value))
            return value
        try:
            accepted = self._converted(self._parsed(value))
        except TypeError as error:
            raise self._wrong(self._kind_in_words(), repr(value)) from error
        if not all(map(self._is_within, accepted if self.type is tuple else [accepted])):
            raise self._wrong(self._bounds(), self.text(accepted))
        return accepted

    def _some(self, value: Any) -> tuple[str, ...]:
        """Some of the choices, of a text with commas or of a list."""
        given = value.split(",") if isinstance(value, str) and value else value
        names = [str(name).strip() for name in given]
        is_none = not names and self.default != ()
        if is_none or set(names) - set(self.choices) or len(set(names)) != len(names):
            raise self._wrong(f"some of {', '.join(self.choices)}, each once", repr(value))
        return tuple(names)

    def _parsed(self, value: Any) -> Any:
        if not (isinstance(value, str) and "parse" in self.details):
            return value
        try:
            return self.details["parse"](value)
        except ValueError as error:
            raise UsageError(f"`{self.name}` {value!r}: {error}") from error

    def _converted(self, value: Any) -> Any:
        if self.type is not tuple:
            return _CONVERT[self.type](value) if self.type in _CONVERT else _instance(self.type, value)
        values = [value] if isinstance(value, str | os.PathLike) else value
        converted = tuple(map(_CONVERT[get_args(self.kind)[0]], values))
        if self._length not in (None, len(converted)):
            raise TypeError
        return converted

    @property
    def _length(self) -> int | None:
        """The length of a tuple that has a fixed one, else None."""
        items = get_args(self.kind)
        return len(items) if get_origin(self.kind) is tuple and Ellipsis not in items else None

    def _kind_in_words(self) -> str:
        return f"{self._length} whole numbers" if self._length else _KINDS.get(self.type, f"a {self.type.__name__}")

    def _is_within(self, number: Any) -> bool:
        least, most = self.details.get("least"), self.details.get("most")
        within = operator.lt if self.details.get("is_open") else operator.le  # nan is never within
        return (least is None or within(least, number)) and (most is None or within(number, most))

    @property
    def bounds(self) -> str:
        """The bounds for the docs, such as `1 to 4,096`; empty if it has none."""
        if self.details.get("most", 0) >= _NO_BOUND:
            return f"at least {self._bound('least')}"
        return self._bounds().removeprefix("from ") if {"least", "most"} & self.details.keys() else ""

    def _bounds(self) -> str:
        least = self._bound("least")
        most = self._bound("most")
        if self.details.get("is_open"):
            return " and ".join(filter(None, (least and f"more than {least}", most and f"less than {most}")))
        if least and most:
            return f"from {least} to {most}"
        return f"at least {least}" if least else f"at most {most}"

    def _bound(self, name: Literal["least", "most"]) -> str | None:
        if name not in self.details:
            return None
        return _number_text(self.details[name]) if self.type is tuple else self.text(self.details[name])

    def _wrong(self, expected: str, found: str) -> UsageError:
        return UsageError(f"`{self.name}` must be {expected}, not {found}")


def _boolean(value: Any) -> bool:
    return bool(_instance(bool, value))


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


def _text(value: Any) -> str:
    return str(_instance(str, os.fspath(value)))


def _instance(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _number_text(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


_CONVERT: dict[Any, Callable[[Any], Any]] = {bool: _boolean, int: _integer, float: _number, str: _text}
_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text or a path", tuple: "a list"}


def option_fields(options: "type[Options]") -> dict[str, OptionField]:
    """The options of a class by field: its own first, then those of its bases in their order."""
    fields = {field.name: field for field in dataclasses.fields(options)}
    kinds = get_type_hints(options)
    found: dict[str, OptionField] = {}
    for stated_in in options.__mro__:
        for name in inspect.get_annotations(stated_in):
            if name in found or name not in fields or "details" not in fields[name].metadata:
                continue
            kind, is_optional = _without_none(kinds[name])
            found[name] = OptionField(
                name=name,
                kind=kind,
                is_optional=is_optional,
                default=fields[name].default,
                group=fields[name].metadata["details"].get("group", getattr(stated_in, "group", None)),
                **fields[name].metadata,
            )
    return found


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind, False
    (left,) = (one for one in get_args(kind) if one is not types.NoneType)
    return left, True


@options_class
class Options:
    """Base of classes of options: checks each value, and gives parts of itself.

    A class says the group of its fields, as `class Throughput(Options, group="Speed")`; a field may say its own.

    Raises:
      UsageError: a value is of another type, out of bounds or no choice; the message names the field.
    """

    group: ClassVar[Group | None] = None

    def __init_subclass__(cls, group: Group | None = None) -> None:
        super().__init_subclass__()
        cls.group = group

    def __post_init__(self) -> None:
        for field in option_fields(type(self)).values():
            value = getattr(self, field.name)
            if (accepted := field.accept(value)) is not value:
                object.__setattr__(self, field.name, accepted)

    def part(self, kind: type[OptionsT]) -> OptionsT:
        """The fields of one base class, as a value of that class alone."""
        return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})

    def record(self) -> dict[str, Any]:
        """The values that run.json tells, by field."""
        fields = option_fields(type(self)).values()
        return {field.name: getattr(self, field.name) for field in fields if field.details.get("is_recorded")}


def as_keywords(options: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """Makes of a function of one dataclass a function of its fields, as keywords, with their types and defaults.

    @as_keywords(PredictOptions)
    def predict(options: PredictOptions) -> Account: ...

    predict(inputs=["photos/"], output="out", batch_size=64)
    """

    def decorate(function: Callable[[T], R]) -> Callable[P, R]:
        result = inspect.signature(function).return_annotation
        signature = inspect.signature(options).replace(return_annotation=result)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:  # whose words name no function; the dataclass would name itself
                raise TypeError(f"{function.__name__}() {error}") from None
            return function(options(*args, **kwargs))

        # For `help` and editors: the keywords, in place of the one argument that `wraps` would show.
        called.__signature__ = signature  # type: ignore[attr-defined]
        return called

    return decorate
