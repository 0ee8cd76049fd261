"""What an index was built from, kept in its table: it serves no other curvature, damping or corpus."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from headwater.errors import HeadwaterError
from headwater.index.sketch import DEFAULT_BYTES, Sketch, sketch_of_width


@dataclass(frozen=True)
class IndexOptions:
    """How an index is built."""

    bytes: int | None = None
    """Bytes of sketch an example; None is what the index there has, or else 8,192."""
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

    def to_json(self) -> str:
        return json.dumps({"curvature": self.curvature, "sketch": asdict(self.sketch)}, sort_keys=True)

    def with_options(self, options: IndexOptions, there: IndexSettings | None) -> IndexSettings:
        """These settings with the sketch that `options` ask for; where they say nothing, that of the index `there`."""
        dimensions = self.sketch.dimensions
        if options.bytes is None and there is not None and there.sketch.dimensions == dimensions:
            return replace(self, sketch=replace(there.sketch, seed=options.seed))
        return replace(self, sketch=sketch_of_width(dimensions, options.bytes or DEFAULT_BYTES, options.seed))


def settings_for(curvature: Mapping[str, str], dimensions: int) -> IndexSettings:
    """Settings with the default sketch of a curvature that tracks D `dimensions`."""
    return IndexSettings(dict(curvature), sketch_of_width(dimensions))


def parse_settings(text: str) -> IndexSettings:
    """The settings that `to_json` wrote. Raises HeadwaterError where the index was written by something else."""
    try:
        found = json.loads(text)
        return IndexSettings(found["curvature"], Sketch(**found["sketch"]))
    except (KeyError, TypeError, ValueError) as error:
        raise HeadwaterError(
            "The index was not written by this version of Headwater. Build it again: headwater index RUN"
        ) from error
