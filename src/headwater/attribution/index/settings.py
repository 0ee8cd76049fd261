"""Settings of an index, stored in its table: the curvature it belongs to, and its sketch."""

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
    """The curvature that an index belongs to, and its sketch."""

    curvature: dict[str, str]
    """Fingerprints and settings of the curvature, and its damping."""
    sketch: Sketch
    directions: int = 0
    """Eigenvectors kept on each side of a layer; 0 is all."""
    kind: str = DEFAULT_KIND
    """Kind of the sketch."""

    def to_json(self) -> str:
        facts: dict[str, object] = {"curvature": self.curvature, "sketch": asdict(self.sketch)}  # pyright: ignore
        if self.directions:
            facts["directions"] = self.directions
        if self.kind != DEFAULT_KIND:
            facts |= {"kind": self.kind, "package": SKETCHES.package(self.kind)}
        return json.dumps(facts, sort_keys=True)


def settings_for(
    curvature: Mapping[str, str],
    dimensions: Callable[[int], int],
    options: IndexOptions,
    *,
    existing: IndexSettings | None,
) -> IndexSettings:
    """The settings of a new index: those of `options`, and for options that are None, those of the `existing` index.

    `dimensions` maps a number of directions to D, the size of a whitened gradient.
    """
    directions = options.directions
    if directions is None:
        directions = existing.directions if existing is not None else 0
    numbers, kind = dimensions(directions), options.sketch
    if kind is None:
        kind = existing.kind if existing is not None else DEFAULT_KIND
    if (
        options.bytes is None
        and existing is not None
        and (existing.kind, existing.sketch.dimensions) == (kind, numbers)
    ):
        sketch = replace(existing.sketch, seed=options.seed)  # pyright: ignore[reportArgumentType, reportCallIssue]
    else:
        sketch = sketch_of_width(numbers, options.bytes or DEFAULT_BYTES, options.seed, kind=kind)
    return IndexSettings(dict(curvature), sketch, directions, kind)


def parse_settings(text: str) -> IndexSettings:
    """The settings that `to_json` wrote. Raises HeadwaterError if the text is something else."""
    try:
        found = json.loads(text)
        kind = found.get("kind", DEFAULT_KIND)
        sketch = sketch_kind(kind, found.get("package", "")).read(**found["sketch"])
        return IndexSettings(found["curvature"], sketch, found.get("directions", 0), kind)
    except HeadwaterError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise HeadwaterError(
            "The index was not written by this version of Headwater. Delete it and build it again: headwater index RUN"
        ) from error
