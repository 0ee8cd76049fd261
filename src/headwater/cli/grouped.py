"""Command-line options made from declared options (headwater.base.options)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial, wraps
from operator import itemgetter
from typing import Annotated, Any, Literal, Optional, get_args, get_origin

import typer

from headwater.base.options import REQUIRED, Declared, declared, groups_in, option_in, options_of
from headwater.cli.complete import complete_name, known


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Make flags for the parameters of `command` that are dataclasses of options or have an Option.

    The command gets the dataclass with the values. The help shows its options in the panel that the dataclass names. If
    two dataclasses have an option with the same flag, there is one flag, and both get its value.
    """
    signature = inspect.signature(command, eval_str=True)
    shown: dict[str, inspect.Parameter | list[_Shown]] = {}
    made: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
    for one in signature.parameters.values():
        if is_dataclass(one.annotation):
            for each in _options(one.annotation, None if one.default is one.empty else one.default, None):
                _group(shown, _key(each.declared)).append(each)
            made[one.name] = partial(_filled, one.annotation)
        elif option_in(one.annotation) is not None:
            each = declared(one.name, one.annotation, REQUIRED if one.default is one.empty else one.default)
            _group(shown, _key(each)).append(_Shown(each, each.default, None))
            made[one.name] = partial(_value, each)
        else:
            shown[one.name] = one.replace(kind=one.KEYWORD_ONLY)
            made[one.name] = itemgetter(one.name)

    @wraps(command)
    def with_options(**given: Any) -> None:
        command(**{name: make(given) for name, make in made.items()})

    parameters = [_parameter(key, each) if isinstance(each, list) else each for key, each in shown.items()]
    with_options.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
    return with_options


def given(context: typer.Context, *names: str) -> bool:
    """Whether one of these options was given on the command line."""
    sources = [context.get_parameter_source(name) for name in names]
    return any(source is not None and source.name == "COMMANDLINE" for source in sources)


@dataclass(frozen=True)
class _Shown:
    """An option of the command line, with its default and panel."""

    declared: Declared
    default: Any
    panel: str | None


def _options(group: Any, defaults: Any, panel: str | None) -> Iterator[_Shown]:
    """The options of a dataclass and of its nested ones. `defaults` is an instance with other defaults, or None."""
    panel = getattr(group, "panel", panel)
    own, inside = options_of(group), groups_in(group)
    for field in fields(group):
        default = field.default if defaults is None else getattr(defaults, field.name)
        if field.name in inside:
            yield from _options(inside[field.name], default, panel)
        elif field.name in own and own[field.name].option.cli:
            yield _Shown(own[field.name], default, panel)


def _group(shown: dict[str, inspect.Parameter | list[_Shown]], key: str) -> list[_Shown]:
    found = shown.setdefault(key, [])
    assert isinstance(found, list), f"--{key} is declared and a parameter of the command"
    return found


def _key(each: Declared) -> str:
    """The parameter name of an option: its long flag with underscores."""
    long = next((flag for flag in each.option.flags if flag.startswith("--")), None)
    return each.name if long is None else long.removeprefix("--").replace("-", "_")


def _parameter(key: str, same: list[_Shown]) -> inspect.Parameter:
    """The typer parameter of one flag, which belongs to all options of `same`."""
    each, option = same[0].declared, same[0].declared.option
    assert len({(one.declared.type, one.declared.optional) for one in same}) == 1, f"--{key} is of two types"
    default = same[0].default if option.cli_default is None else option.cli_default
    none = "0" if option.zero_is_none else "Default"
    unit = "" if option.unit == 1 else f" In units of {option.unit:g}.".replace("+", "")
    settings: dict[str, Any] = {
        "help": " ".join(dict.fromkeys(one.declared.help(none) for one in same)) + unit,
        "metavar": option.metavar,
        "show_default": option.shown or (default is not None and get_origin(each.type) is not tuple),
        "rich_help_panel": same[0].panel,
    }
    if option.read is None and each.type in (int, float):
        settings |= {"min": 0 if option.zero_is_none else option.minimum, "max": option.maximum}
    if option.choices is not None:
        settings["autocompletion"] = complete_name(option.choices)
        if each.type is str:
            settings["callback"] = known(option.choices)
    if default is None or get_origin(each.type) is tuple:
        default = 0 if option.zero_is_none else None
    elif default is REQUIRED:
        default = inspect.Parameter.empty
    elif option.unit != 1:
        default = default / option.unit
    annotation = Annotated[_kind(each), typer.Option(*flags_of(each), **settings)]
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def flags_of(each: Declared) -> tuple[str, ...]:
    """The flags of an option."""
    flags, name = each.option.flags, each.name.replace("_", "-")
    if each.type is not bool or flags:
        return flags or (f"--{name}",)
    default = each.default if each.option.cli_default is None else each.option.cli_default
    return (f"--{name}/--no-{name}",) if default else (f"--{name}",)


def _kind(each: Declared) -> Any:
    """The type that typer parses an option as."""
    kind: Any = each.type
    if each.option.read is not None:
        kind = str
    elif get_origin(kind) is tuple:
        return Optional[list[get_args(kind)[0]]]  # pyright: ignore  # noqa: UP045 - of a type that is made here
    elif get_origin(kind) not in (None, Literal):  # of several types the command line has the one that it can say
        inside = get_args(kind)
        kind = str if str in inside else next(one for one in inside if get_origin(one) is Literal)
    optional = each.optional and not each.option.zero_is_none
    return Optional[kind] if optional else kind  # noqa: UP045 - of a type that is made here


def _filled(group: Any, given: Mapping[str, Any]) -> Any:
    """The dataclass with the values of the command line."""
    own, inside = options_of(group), groups_in(group)
    values = {name: _value(each, given) for name, each in own.items() if each.option.cli}
    return group(**values, **{name: _filled(one, given) for name, one in inside.items()})


def _value(each: Declared, given: Mapping[str, Any]) -> Any:
    """The value of an option from the command line."""
    value, option = given[_key(each)], each.option
    if get_origin(each.type) is tuple:
        return tuple(value) if value else each.default
    if option.zero_is_none:
        return value or None
    if value is None:
        return None
    if option.read is not None:
        return option.read(value)
    return value if option.unit == 1 else value * option.unit
