"""What an index was built from, kept in its table: it serves no other curvature, damping or corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from headwater.attribution.index.options import DEFAULT_BYTES, DEFAULT_KIND, IndexOptions
from headwater.attribution.index.sketch import Sketch, sketch_kind, sketch_of_width
from headwater.base.plugins import SKETCHES
from headwater.errors import HeadwaterError


@dataclass(frozen=True)
class IndexSettings:
    """The curvature an index belongs to, and its sketch."""

    curvature: dict[str, str]
    """Fingerprints and settings of the curvature, and its damping."""
    sketch: Sketch
    directions: int = 0
    """Of every layer's inputs and outputs, so many were sketched; 0 is all."""
    kind: str = DEFAULT_KIND
    """Of the sketch."""

    def to_json(self) -> str:
        kept: dict[str, object] = {"curvature": self.curvature, "sketch": asdict(self.sketch)}  # pyright: ignore
        if self.directions:
            kept["directions"] = self.directions
        if self.kind != DEFAULT_KIND:
            kept |= {"kind": self.kind, "package": SKETCHES.package(self.kind)}
        return json.dumps(kept, sort_keys=True)


def settings_for(
    curvature: Mapping[str, str],
    dimensions: Callable[[int], int],
    options: IndexOptions,
    *,
    there: IndexSettings | None,
) -> IndexSettings:
    """What an index is built with: what `options` ask for, and where they say nothing, what the index `there` has.

    `dimensions` gives the numbers of a whitened gradient along so many directions.
    """
    directions = options.directions
    if directions is None:
        directions = there.directions if there is not None else 0
    numbers, kind = dimensions(directions), options.sketch
    if kind is None:
        kind = there.kind if there is not None else DEFAULT_KIND
    if options.bytes is None and there is not None and (there.kind, there.sketch.dimensions) == (kind, numbers):
        sketch = replace(there.sketch, seed=options.seed)  # pyright: ignore[reportArgumentType, reportCallIssue]
    else:
        sketch = sketch_of_width(numbers, options.bytes or DEFAULT_BYTES, options.seed, kind=kind)
    return IndexSettings(dict(curvature), sketch, directions, kind)


def parse_settings(text: str) -> IndexSettings:
    """The settings that `to_json` wrote. Raises HeadwaterError where the index was written by something else."""
    try:
        found = json.loads(text)
        kind = found.get("kind", DEFAULT_KIND)
        sketch = sketch_kind(kind, found.get("package", "")).read(**found["sketch"])
        return IndexSettings(found["curvature"], sketch, found.get("directions", 0), kind)
    except HeadwaterError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise HeadwaterError(
            "The index was not written by this version of Headwater. Build it again: headwater index RUN"
        ) from error
