"""The engine options that all commands with long work share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from headwater.base.options import Option
from headwater.base.progress import Report
from headwater.errors import HeadwaterError
from headwater.sweep.options import ShardExamples, Workers

if TYPE_CHECKING:
    from headwater.sweep.execution import Execution


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The engine that does long work, and the size of a shard."""

    panel: ClassVar = "Engine"
    engine: Annotated[
        Literal["here", "ray"], Option(help="Work in this process, or with the workers of a Ray cluster.")
    ] = "here"
    address: Annotated[
        str | None,
        Option(help="Address of the Ray cluster: auto, or host:port.", none="a new cluster on this machine"),
    ] = None
    workers: Workers = Workers()
    shard_examples: ShardExamples = None

    @contextmanager
    def start(self, report: Report) -> Iterator[Execution]:
        """The execution of the command: this process, or the workers of a Ray cluster while the block runs.

        Raises HeadwaterError if there is an address of a cluster but no `--engine ray`.
        """
        from headwater.sweep.execution import Execution

        if self.engine == "ray":
            from headwater.sweep.ray_engine import RayEngine

            with RayEngine(self.workers, self.address) as engine:
                yield Execution(engine=engine, report=report, shard_examples=self.shard_examples)
        elif self.address is not None:
            raise HeadwaterError(f"--address {self.address} is the address of a Ray cluster. Add --engine ray.")
        else:
            yield Execution(report=report, shard_examples=self.shard_examples)
