"""The options of an engine, given to every command that does long work with one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.sweep.sweep import Engine


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What the command line says of the engine; every field is an option of its name."""

    panel: ClassVar = "Engine"
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
        from headwater.sweep.sweep import LOCAL_ENGINE

        if self.engine == "ray":
            from headwater.sweep.ray_engine import RayEngine, Workers

            workers = Workers(self.workers, self.gpus_per_worker, self.cpus_per_worker)
            with RayEngine(workers, self.address) as engine:
                yield engine
        elif self.address is not None:
            raise HeadwaterError(f"--address {self.address} names a Ray cluster: add --engine ray.")
        else:
            yield LOCAL_ENGINE
