"""Options, each declared once: the Python API, the command line, the HTTP API, the page and the docs are made of it.

A frozen dataclass declares them:

    @dataclass(frozen=True, kw_only=True)
    class AskOptions:
        k: Annotated[int, Option(help="Examples shown at each end.", flags=("-k",), minimum=1)] = 10

A field may be a dataclass of options itself, whose options then count as those of the dataclass it is in.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from math import inf
from numbers import Integral, Real
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from headwater.base.plugins import Group
from headwater.errors import HeadwaterError

T = TypeVar("T")
REQUIRED = MISSING
"""Stands for the default of an option that has none."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """What a field of a dataclass of options means."""

    help: str
    """What it does, in a sentence. Its default and what None stands for are added to it where it is shown."""
    none: str | None = None
    """What None stands for."""
    flags: tuple[str, ...] = ()
    """How the command line spells it; () is `--name`."""
    metavar: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    choices: Group | None = None
    """The group of plugins whose names are its values."""
    valid: Callable[[Any], object] | None = None
    """Raises HeadwaterError for a value that means nothing."""
    read: Callable[[str], Any] | None = None
    """Makes the value from the command line's text, where the two are of different types."""
    unit: float = 1
    """The command line counts in this unit."""
    zero_is_none: bool = False
    """Whether the command line writes None as 0."""
    cli_default: Any = None
    """Default of the command line where it differs from that in Python."""
    shown: str | None = None
    """Default of the command line in words, where the value depends on the machine."""
    also: tuple[str, ...] = ()
    """Names that other tools use for it; an error about an unknown option suggests this one."""
    cli: bool = True
    """Whether the command line has it."""
    http: bool = True
    """Whether the HTTP API has it."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A field that is an option."""

    name: str
    type: Any
    """Without None and without the Option."""
    optional: bool
    """Whether it may be None."""
    default: Any
    """REQUIRED where it has none."""
    option: Option

    def help(self, none: str = "None") -> str:
        """What it does and what None stands for, which is written as `none`."""
        if self.option.none is None:
            return self.option.help
        return f"{self.option.help} {none}: {self.option.none}."


def option_in(annotation: Any) -> Option | None:
    """The Option that an annotation carries, or None."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((each for each in get_args(annotation)[1:] if isinstance(each, Option)), None)


def declared(name: str, annotation: Any, default: Any) -> Declared:
    """An option of this annotation, which carries an Option."""
    option = option_in(annotation)
    assert option is not None, f"{name} is declared without an Option"
    kinds = _union(get_args(annotation)[0])
    rest = [kind for kind in kinds if kind is not types.NoneType]
    return Declared(
        name=name,
        type=rest[0] if len(rest) == 1 else Union[tuple(rest)],  # noqa: UP007 - of a list
        optional=len(rest) < len(kinds),
        default=default,
        option=option,
    )


@cache
def options_of(options: type) -> Mapping[str, Declared]:
    """The options of a dataclass by their names, without those of dataclasses inside it."""
    hints = get_type_hints(options, include_extras=True)
    return {
        field.name: declared(field.name, hints[field.name], field.default)
        for field in fields(options)
        if option_in(hints[field.name]) is not None
    }


@cache
def groups_in(options: type) -> Mapping[str, Any]:
    """The dataclasses of options inside a dataclass, by the names of their fields."""
    hints = get_type_hints(options, include_extras=True)
    return {field.name: hints[field.name] for field in fields(options) if is_dataclass(hints[field.name])}


def all_options(options: type) -> Iterator[Declared]:
    """The options of a dataclass and of those inside it, in the order of the fields."""
    own, inside = options_of(options), groups_in(options)
    for field in fields(options):
        if field.name in own:
            yield own[field.name]
        elif field.name in inside:
            yield from all_options(inside[field.name])


def check(options: Any) -> None:
    """Raises HeadwaterError, in one sentence, for a value of a wrong type or outside its limits."""
    for name, each in options_of(type(options)).items():
        check_value(each, getattr(options, name))
    for name in groups_in(type(options)):
        check(getattr(options, name))


def check_value(each: Declared, value: Any) -> None:
    """Raises HeadwaterError for a value that an option cannot have."""
    if value is None and each.optional:
        return
    if not any(_fits(value, kind) for kind in _union(each.type)) or not _within(each.option, value):
        nothing = ", or None" if each.optional else ""
        raise HeadwaterError(f"{each.name}={value!r}: {each.name} must be {_wanted(each)}{nothing}.")
    if each.option.valid is not None:
        each.option.valid(value)


def changed(options: T, changes: Mapping[str, object]) -> T:
    """The options with `changes`, checked. Raises HeadwaterError for an unknown name or a wrong value."""
    known: tuple[Field[Any], ...] = fields(options)  # pyright: ignore[reportArgumentType]
    for name in changes.keys() - {field.name for field in known}:
        raise HeadwaterError(_unknown(name, [field.name for field in known], options_of(type(options))))
    made = replace(options, **changes)  # pyright: ignore[reportArgumentType, reportCallIssue, reportUnknownVariableType, reportGeneralTypeIssues, reportTypeCommonIssue]
    check(made)
    return made  # pyright: ignore[reportUnknownVariableType]


def changed_groups(changes: Mapping[str, object], *groups: Any) -> list[Any]:
    """Each of several groups of options with those `changes` that are its fields, checked.

    Raises HeadwaterError for a name that no group has, or a wrong value.
    """
    named = [[field.name for field in fields(group)] for group in groups]
    everything = [name for names in named for name in names]
    for name in changes.keys() - set(everything):
        declared_here = {key: each for group in groups for key, each in options_of(type(group)).items()}
        raise HeadwaterError(_unknown(name, everything, declared_here))
    return [
        changed(group, {name: value for name, value in changes.items() if name in names})
        for group, names in zip(groups, named, strict=True)
    ]


def _unknown(name: str, known: list[str], options: Mapping[str, Declared]) -> str:
    near = [each.name for each in options.values() if name in each.option.also] or get_close_matches(name, known, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    return f"There is no option {name!r}. {meant}The options are {', '.join(known)}."


def _union(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _fits(value: Any, kind: Any) -> bool:
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inside and type(value) in {type(each) for each in inside}
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        return all(any(_fits(item, one) for one in _union(inside[0])) for item in value)  # pyright: ignore
    if origin is dict:
        return isinstance(value, dict)
    if kind in (int, float):
        return type(value) is not bool and isinstance(value, Integral if kind is int else Real)
    return isinstance(value, kind)


def _within(option: Option, value: Any) -> bool:
    if type(value) is bool or not isinstance(value, Real):
        return True
    low = -inf if option.minimum is None else option.minimum
    high = inf if option.maximum is None else option.maximum
    return low <= float(value) <= high  # False for NaN


NOUNS = {int: "a whole number", float: "a number", bool: "True or False", str: "a string"}


def _wanted(each: Declared) -> str:
    """What the value must be, in words."""
    low, high = each.option.minimum, each.option.maximum
    limits = ""
    if low is not None and high is not None:
        limits = f" from {low:,} to {high:,}"
    elif low is not None or high is not None:
        limits = f" of at least {low:,}" if low is not None else f" of at most {high:,}"
    return " or ".join(map(_noun, _union(each.type))) + limits


def _noun(kind: Any) -> str:
    inside = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, inside))
    if get_origin(kind) is tuple:
        return f"a tuple of {NOUNS[inside[0]].split(' ', 1)[-1]}s"
    return NOUNS.get(kind, "a dictionary")
