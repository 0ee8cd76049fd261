"""The engine that a command was asked to work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from headwater.errors import HeadwaterError
from headwater.sweep.ray_engine import RayEngine, Workers
from headwater.sweep.sweep import HERE, Engine


@contextmanager
def engine_of(kind: Literal["here", "ray"], address: str | None, workers: Workers) -> Iterator[Engine]:
    """This process, or a Ray cluster's workers for the length of the block.

    Raises HeadwaterError where a cluster's address is given but not its engine.
    """
    if kind == "ray":
        with RayEngine(workers, address) as engine:
            yield engine
    elif address is not None:
        raise HeadwaterError(f"--address {address} names a Ray cluster: add --engine ray.")
    else:
        yield HERE
