"""Curvatures, solvers, sketches and metrics by name: Headwater's own, and those of plugins (docs/plugins.md).

Each group is a table of names and `module:attribute`. Headwater's own are here, those of plugins in their entry points.
Both are loaded when they are first used. So all names are known without loading anything, and a broken plugin is a
problem only for those who use it.
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
    """All curvatures, or all solvers, and so on."""

    name: str
    """Name of the entry points."""
    noun: str
    """For messages."""
    option: str
    """Option of the command line that takes a name."""
    type: str
    """Class of the members, as `module:attribute`."""
    builtin: Mapping[str, str]
    """Headwater's own: name -> `module:attribute`"""

    def names(self) -> list[str]:
        """All names: Headwater's own first, then those of plugins, whether they load or not."""
        return list(dict.fromkeys([*self.builtin, *(entry.name for entry in _installed(self.name, tuple(sys.path)))]))

    def load(self, name: str, package: str = "") -> Any:
        """The member with this name. `package` is the plugin that it came from, if a file says so.

        Raises HeadwaterError if there is none, if it cannot be loaded, or if two have this name.
        """
        entry = self._entry(name, package)
        try:
            found = entry.load()
        except Exception as error:
            raise HeadwaterError(
                f"The {self.noun} {name!r} of the package {_package(entry)} cannot be loaded: "
                f"{type(error).__name__}: {first_line(error)}. Update or uninstall that package: "
                f"pip uninstall {_package(entry)}"
            ) from error
        wanted = EntryPoint("", self.type, "").load()
        if not isinstance(found, wanted):
            raise HeadwaterError(
                f"The {self.noun} {name!r} of the package {_package(entry)} is {entry.value}, which is not a "
                f"{self.type.replace(':', '.')}. Update or uninstall that package: pip uninstall {_package(entry)}"
            )
        return found

    def package(self, name: str) -> str:
        """The package of the plugin with this name. Empty if it is Headwater's own, or there is none."""
        entries = [entry for entry in _installed(self.name, tuple(sys.path)) if entry.name == name]
        return _package(entries[0]) if entries and name not in self.builtin else ""

    def _entry(self, name: str, package: str) -> EntryPoint:
        installed = [entry for entry in _installed(self.name, tuple(sys.path)) if entry.name == name]
        if name in self.builtin and not installed:
            return EntryPoint(name, self.builtin[name], self.name)
        owners = [*(["Headwater itself"] if name in self.builtin else []), *map(_package, installed)]
        if len(owners) > 1:
            raise HeadwaterError(
                f"There is more than one {self.noun} named {name!r}: of {' and of '.join(owners)}. Uninstall one of "
                "them."
            )
        if installed:
            return installed[0]
        if package:
            raise HeadwaterError(
                f"This was made with the {self.noun} {name!r} of the package {package}, which is not installed here "
                f"or no longer has it. Install it: pip install {package}"
            )
        raise HeadwaterError(
            f"{self.option} {name}: there is no such {self.noun}. Choose among {', '.join(self.names())}."
        )


CURVATURES = Group(
    name="headwater.curvatures",
    noun="curvature",
    option="--curvature",
    type="headwater.curvature.registry:CurvatureKind",
    builtin={
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
    builtin={
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
    builtin={"planes": "headwater.attribution.index.planes:PLANES"},
)
METRICS = Group(
    name="headwater.metrics",
    noun="metric",
    option="--metric",
    type="headwater.evaluate.measures:Metric",
    builtin={
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
    """A curvature, solver, sketch or metric of another package."""

    group: str
    name: str
    package: str
    version: str
    trouble: str | None
    """Why it cannot be used. None if it can."""


def plugins() -> list[Plugin]:
    """All of other packages. Each is loaded, to see whether it loads."""
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
    """The entry points of a group in all packages on the `path`, which is searched once."""
    return tuple(entry_points(group=group))


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "headwater"
