"""Fields of request bodies, made from where the options are declared, within the server's own limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, Union, get_origin

from pydantic import AfterValidator, BaseModel, Field, create_model

from headwater.base.options import Declared, options_of
from headwater.base.plugins import Group
from headwater.serve.limits import LARGEST_INTEGER, LIMITS, OPTION_LIMITS

T = TypeVar("T")


def _whole(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("contains half of a surrogate pair, which is not text") from error
    return value


Str = Annotated[str, AfterValidator(_whole)]
Condition = Annotated[Str, Field(min_length=1, max_length=LIMITS.condition_characters)]
Globs = Annotated[list[Annotated[Str, Field(min_length=1)]], Field(min_length=1, max_length=LIMITS.layers)]


def with_options(base: type[BaseModel], options: type) -> Any:
    """A body like `base` that also has the options of a dataclass."""
    fields: dict[str, Any] = {
        name: (field_type(options, each), Field(default_of(options, each), description=each.help("null")))
        for name, each in http_options(options).items()
    }
    return create_model(f"{base.__name__}With{options.__name__}", __base__=base, **fields)


def options_from(options: type[T], body: BaseModel) -> T:
    """The options that a body made by `with_options` has."""
    given = {name: getattr(body, name) for name in http_options(options)}
    return options(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})  # pyright: ignore


def http_options(options: type) -> dict[str, Declared]:
    """The options of a dataclass that the HTTP API has."""
    return {name: each for name, each in options_of(options).items() if each.option.http}


def limits_of(options: type, each: Declared) -> tuple[float | None, float | None]:
    """Minimum and maximum of an option on this server; None where it has none."""
    maximum = OPTION_LIMITS.get(options, {}).get(each.name, each.option.maximum)
    if maximum is None and each.type is int:
        maximum = LARGEST_INTEGER
    return each.option.minimum, maximum


def field_type(options: type, each: Declared) -> Any:
    """The type of an option in a body."""
    kind, valid = _plain_type(options, each), each.option.valid
    if each.optional and not _bounded(options, each):
        kind = Union[kind, None]  # noqa: UP007 - of a type that is made here
    return kind if valid is None else Annotated[kind, AfterValidator(_checked(valid))]


def _plain_type(options: type, each: Declared) -> Any:
    kind: Any = each.type
    if kind in (int, float):
        minimum, maximum = limits_of(options, each)
        return Annotated[kind, Field(ge=minimum, le=maximum)]
    if get_origin(kind) is tuple:
        return Globs
    if each.option.choices is not None:
        return Annotated[Str, AfterValidator(_known(each.option.choices))]
    if kind is bool or get_origin(kind) is Literal:
        return kind
    return Condition if kind is str else Str | float


def _bounded(options: type, each: Declared) -> bool:
    """Whether this server does not take None, which stands for more than its maximum."""
    return each.option.zero_is_none and each.name in OPTION_LIMITS.get(options, {})


def default_of(options: type, each: Declared) -> Any:
    """Default of an option on this server."""
    return limits_of(options, each)[1] if each.default is None and _bounded(options, each) else each.default


def _checked(valid: Callable[[Any], object]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is not None:
            valid(value)
        return value

    return check


def _known(group: Group) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in group.names():
            raise ValueError(f"there is no such {group.noun}; choose among {', '.join(group.names())}")
        return value

    return check
