"""Curvatures, solvers, sketches and metrics by their names: our own, and those of other packages (docs/plugins.md).

Each group is one table. What other packages add stands in their entry points, what is ours stands here, both as
`module:attribute`, and both are loaded the same way, when they are first asked for. So all names are known without
loading anything, and a package that is broken harms nobody who does not ask for it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from headwater.errors import HeadwaterError, first_line


@dataclass(frozen=True, kw_only=True)
class Group:
    """Everything of one sort that has a name."""

    name: str
    """Of the entry points."""
    noun: str
    option: str
    """What names one on the command line."""
    type: str
    """What each is an instance of, as `module:attribute`."""
    ours: Mapping[str, str]
    """name -> `module:attribute`"""

    def names(self) -> list[str]:
        """Ours first, then those of other packages, whether they can be loaded or not."""
        return list(dict.fromkeys([*self.ours, *(entry.name for entry in _installed(self.name, tuple(sys.path)))]))

    def load(self, name: str, package: str = "") -> Any:
        """The one of that name. `package` is where it came from when it was last seen, if that was not here.

        Raises HeadwaterError where there is none, where it cannot be loaded, and where two have that name.
        """
        entry = self._entry(name, package)
        try:
            found = entry.load()
        except Exception as error:
            raise HeadwaterError(
                f"The {self.noun} {name!r} of the package {_package(entry)} cannot be loaded: "
                f"{type(error).__name__}: {first_line(error)}. Mend, update or uninstall that package."
            ) from error
        wanted = EntryPoint("", self.type, "").load()
        if not isinstance(found, wanted):
            raise HeadwaterError(
                f"The {self.noun} {name!r} of the package {_package(entry)} is {entry.value}, which is not a "
                f"{self.type.replace(':', '.')}. Mend, update or uninstall that package."
            )
        return found

    def package(self, name: str) -> str:
        """The package that brings the one of that name; empty where it is ours, or there is none."""
        entries = [entry for entry in _installed(self.name, tuple(sys.path)) if entry.name == name]
        return _package(entries[0]) if entries and name not in self.ours else ""

    def _entry(self, name: str, package: str) -> EntryPoint:
        installed = [entry for entry in _installed(self.name, tuple(sys.path)) if entry.name == name]
        if name in self.ours and not installed:
            return EntryPoint(name, self.ours[name], self.name)
        owners = [*(["Headwater itself"] if name in self.ours else []), *map(_package, installed)]
        if len(owners) > 1:
            raise HeadwaterError(
                f"There is more than one {self.noun} named {name!r}: of {' and of '.join(owners)}. Uninstall one, or "
                "have it renamed."
            )
        if installed:
            return installed[0]
        if package:
            raise HeadwaterError(
                f"This was made with the {self.noun} {name!r} of the package {package}, which is not installed here or "
                f"has it no more. Install it: pip install {package}"
            )
        raise HeadwaterError(
            f"{self.option} {name}: there is no such {self.noun}. Choose among {', '.join(self.names())}."
        )


CURVATURES = Group(
    name="headwater.curvatures",
    noun="curvature",
    option="--curvature",
    type="headwater.curvature.registry:CurvatureKind",
    ours={
        "ekfac": "headwater.curvature.builtin:EKFAC",
        "kfac": "headwater.curvature.builtin:KFAC",
        "diagonal": "headwater.curvature.builtin:DIAGONAL",
        "identity": "headwater.curvature.builtin:IDENTITY",
        "exact": "headwater.curvature.builtin:EXACT",
    },
)
SOLVERS = Group(
    name="headwater.solvers",
    noun="solver",
    option="--solver",
    type="headwater.curvature.solvers.solver:Solver",
    ours={
        "curvature": "headwater.curvature.solvers.solver:CURVATURE",
        "cg": "headwater.curvature.solvers.conjugate_gradient:CG",
        "lissa": "headwater.curvature.solvers.lissa:LISSA",
    },
)
SKETCHES = Group(
    name="headwater.sketches",
    noun="sketch",
    option="--sketch",
    type="headwater.attribution.index.sketch:SketchKind",
    ours={"planes": "headwater.attribution.index.planes:PLANES"},
)
METRICS = Group(
    name="headwater.metrics",
    noun="metric",
    option="--metric",
    type="headwater.evaluate.measures:Metric",
    ours={
        "lds": "headwater.evaluate.measures:LDS",
        "trace": "headwater.evaluate.measures:TRACE",
        "qld": "headwater.evaluate.measures:QLD",
        "tail-patch": "headwater.evaluate.measures:TAIL_PATCH",
        "brittleness": "headwater.evaluate.measures:BRITTLENESS",
    },
)
GROUPS = (CURVATURES, SOLVERS, SKETCHES, METRICS)


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """What another package brings."""

    group: str
    name: str
    package: str
    version: str
    trouble: str | None
    """Why it cannot be used, or None."""


def plugins() -> list[Plugin]:
    """All that other packages bring, each loaded to see whether it can be."""
    found: list[Plugin] = []
    for group in GROUPS:
        for entry in _installed(group.name, tuple(sys.path)):
            trouble = None
            try:
                group.load(entry.name)
            except HeadwaterError as error:
                trouble = str(error)
            version = entry.dist.version if entry.dist else ""
            found.append(
                Plugin(group=group.name, name=entry.name, package=_package(entry), version=version, trouble=trouble)
            )
    return found


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of a group in all packages on the `path`, which is looked through once."""
    return tuple(entry_points(group=group))


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "headwater"
