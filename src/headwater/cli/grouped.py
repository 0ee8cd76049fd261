"""Options that belong together, as one parameter of a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let every parameter of `command` that is a dataclass stand for the options that its fields declare.

    In the help they stand together, under the `panel` of the dataclass.
    """
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        one.name: one.annotation for one in signature.parameters.values() if is_dataclass(one.annotation)
    }
    options = {name: list(_options(group)) for name, group in groups.items()}

    @wraps(command)
    def with_options(**given: Any) -> None:
        chosen = {
            name: group(**{option.name: given.pop(option.name) for option in options[name]})
            for name, group in groups.items()
        }
        command(**given, **chosen)

    shown: list[inspect.Parameter] = []
    for one in signature.parameters.values():
        shown += options.get(one.name, [one.replace(kind=inspect.Parameter.KEYWORD_ONLY)])
    with_options.__signature__ = signature.replace(parameters=shown)  # pyright: ignore[reportAttributeAccessIssue]
    return with_options


def _options(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        declared, option = get_args(hints[field.name])
        option = copy(option)  # one may be declared for several groups
        option.rich_help_panel = group.panel
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=Annotated[declared, option]
        )
