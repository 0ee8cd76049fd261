"""The options of an engine, given to every command that does long work with one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.sweep.sweep import Engine


@dataclass(frozen=True)
class EngineOptions:
    """What the command line says of the engine; every field is an option of its name."""

    engine: Annotated[
        Literal["here", "ray"], typer.Option(help="Work in this process, or with the workers of a Ray cluster.")
    ] = "here"
    address: Annotated[
        str | None,
        typer.Option(help="Address of the Ray cluster (auto, or host:port). Default: one is started on this machine."),
    ] = None
    workers: Annotated[int, typer.Option(help="How many Ray workers; each holds the model.", min=1)] = 2
    gpus_per_worker: Annotated[float, typer.Option(help="GPUs of each Ray worker.", min=0)] = 0
    cpus_per_worker: Annotated[
        int, typer.Option(help="Cores and threads of each Ray worker: the same number gives the same bytes.", min=1)
    ] = 1

    @contextmanager
    def start(self) -> Iterator[Engine]:
        """This process, or a Ray cluster's workers for the length of the block.

        Raises HeadwaterError where a cluster's address is given but not its engine.
        """
        from headwater.sweep.sweep import HERE

        if self.engine == "ray":
            from headwater.sweep.ray_engine import RayEngine, Workers

            workers = Workers(self.workers, self.gpus_per_worker, self.cpus_per_worker)
            with RayEngine(workers, self.address) as engine:
                yield engine
        elif self.address is not None:
            raise HeadwaterError(f"--address {self.address} names a Ray cluster: add --engine ray.")
        else:
            yield HERE


def with_engine(command: Callable[..., None]) -> Callable[..., None]:
    """Put the options of an engine in the place of a command's parameter `engine: EngineOptions`."""
    hints = get_type_hints(EngineOptions, include_extras=True)
    options = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(EngineOptions)
    ]

    @wraps(command)
    def with_options(**given: Any) -> None:
        chosen = EngineOptions(**{option.name: given.pop(option.name) for option in options})
        command(**given, engine=chosen)

    signature = inspect.signature(command, eval_str=True)
    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()]
    place = [one.name for one in own].index("engine")
    own[place : place + 1] = options
    with_options.__signature__ = signature.replace(parameters=own)  # pyright: ignore[reportAttributeAccessIssue]
    return with_options
