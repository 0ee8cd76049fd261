"""What an index was built from, kept in its table: it serves no other curvature, damping or corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from headwater.errors import HeadwaterError
from headwater.index.sketch import DEFAULT_BYTES, Sketch, sketch_of_width


@dataclass(frozen=True)
class IndexOptions:
    """How an index is built."""

    bytes: int | None = None
    """Bytes of sketch an example; None is what the index there has, or else 8,192."""
    directions: int | None = None
    """Of every layer's inputs and outputs, so many of the strongest are sketched; 0 is all, None is what the index
    there has, or else all."""
    seed: int = 0
    """Of the sketch's random signs."""
    store: str | None = None
    """URL of an object store's folder for the table; None is the run's own directory, or where it was before."""


@dataclass(frozen=True)
class IndexSettings:
    """The curvature an index belongs to, and its sketch."""

    curvature: dict[str, str]
    """Fingerprints and settings of the curvature, and its damping."""
    sketch: Sketch
    directions: int = 0
    """Of every layer's inputs and outputs, so many were sketched; 0 is all."""

    def to_json(self) -> str:
        kept = {"directions": self.directions} if self.directions else {}
        return json.dumps({"curvature": self.curvature, "sketch": asdict(self.sketch)} | kept, sort_keys=True)


def settings_for(
    curvature: Mapping[str, str], dimensions: Callable[[int], int], options: IndexOptions, there: IndexSettings | None
) -> IndexSettings:
    """What an index is built with: what `options` ask for, and where they say nothing, what the index `there` has.

    `dimensions` gives the numbers of a whitened gradient along so many directions.
    """
    directions = options.directions
    if directions is None:
        directions = there.directions if there is not None else 0
    numbers = dimensions(directions)
    if options.bytes is None and there is not None and there.sketch.dimensions == numbers:
        return IndexSettings(dict(curvature), replace(there.sketch, seed=options.seed), directions)
    return IndexSettings(
        dict(curvature), sketch_of_width(numbers, options.bytes or DEFAULT_BYTES, options.seed), directions
    )


def parse_settings(text: str) -> IndexSettings:
    """The settings that `to_json` wrote. Raises HeadwaterError where the index was written by something else."""
    try:
        found = json.loads(text)
        return IndexSettings(found["curvature"], Sketch(**found["sketch"]), found.get("directions", 0))
    except (KeyError, TypeError, ValueError) as error:
        raise HeadwaterError(
            "The index was not written by this version of Headwater. Build it again: headwater index RUN"
        ) from error
