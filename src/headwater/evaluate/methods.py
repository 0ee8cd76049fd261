"""Attribution methods behind one interface that scores every example for every query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from headwater.base.plugins import CURVATURES, SOLVERS
from headwater.curvature.registry import kind_of
from headwater.curvature.solvers.solver import solver_of
from headwater.errors import HeadwaterError
from headwater.evaluate import gradients, lexical
from headwater.evaluate.checkpoint_scores import checkpoint_scores
from headwater.evaluate.context import EvaluationContext, ScoreMatrix
from headwater.evaluate.curvatures import FitSpec

Option = int | str
DAMPED: Mapping[str, Option] = {"damping": "", "layers": ""}
"""Damping, and a glob of the tracked layers; empty for the settings of the run."""


@dataclass(frozen=True)
class MethodFamily:
    """An attribution method with its options."""

    score: Callable[..., ScoreMatrix]
    """Takes a context, and every option by name."""
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    """Name -> default, which also determines the type."""
    fits: str | None = None
    """The curvature that it needs. Fitting it is part of the cost."""


@dataclass(frozen=True)
class Method:
    """A family with values for its options."""

    name: str
    """As given by the user: `ekfac`, or `cg:iterations=20,subset=512`."""
    family: MethodFamily
    options: Mapping[str, Option]

    def score(self, context: EvaluationContext) -> ScoreMatrix:
        return self.family.score(context, **self.options)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the scores depend on."""
        return {"method": self.name.partition(":")[0], **self.options}

    @property
    def fit(self) -> FitSpec | None:
        """The curvature that must be fitted first."""
        if self.family.fits is None:
            return None
        return FitSpec(self.family.fits, str(self.options.get("layers", "")))


def _planted(context: EvaluationContext) -> ScoreMatrix:
    """1 if the example is known to state the query, else 0: the score of an oracle."""
    return context.stating.astype(np.float64)


def _random(context: EvaluationContext) -> ScoreMatrix:
    """Random scores."""
    return np.random.default_rng(context.seed).standard_normal((len(context.run.corpus), len(context.queries)))


FAMILIES: Mapping[str, MethodFamily] = {
    "relative": MethodFamily(gradients.relative, DAMPED, "ekfac"),
    "dot": MethodFamily(gradients.dot_product, {"layers": ""}),
    "cosine": MethodFamily(gradients.cosine, {"layers": ""}),
    "trackstar": MethodFamily(gradients.trackstar, DAMPED),
    "sketch": MethodFamily(gradients.sketch, {"bytes": 8192, "kind": "planes"}, "ekfac"),
    "tracin": MethodFamily(partial(checkpoint_scores, method="tracin")),
    "adam": MethodFamily(partial(checkpoint_scores, method="adam")),
    "source": MethodFamily(partial(checkpoint_scores, method="source")),
    "bm25": MethodFamily(lexical.score_bm25),
    "overlap": MethodFamily(lexical.score_overlap),
    "planted": MethodFamily(_planted),
    "random": MethodFamily(_random),
}
"""Methods that are not only a curvature or a solver."""
UNUSED = ("identity", "curvature")
"""A curvature and a solver that duplicate other methods: `dot`, and the curvature itself."""
SUBSET = 256
CHEAPER: Mapping[str, Mapping[str, Option]] = {"cg": {"iterations": 5}, "lissa": {"subset": 0}}
"""Defaults of solvers for many queries, where they differ from those for one. A subset of 0 is all examples."""


def method_names() -> list[str]:
    """Names of all methods: every curvature, every solver, and the others."""
    return [name for name in (*CURVATURES.names(), *SOLVERS.names(), *FAMILIES) if name not in UNUSED]


def family_of(name: str) -> MethodFamily:
    """The family of this name. Raises HeadwaterError if there is none, if there are several, or if it fails to load."""
    if name not in method_names():
        raise HeadwaterError(f"--method {name}: there is no such method. Choose among {', '.join(method_names())}.")
    if method_names().count(name) > 1:
        raise HeadwaterError(
            f"--method {name}: more than one curvature, solver or method has this name. Uninstall one."
        )
    if name in FAMILIES:
        return FAMILIES[name]
    if name in CURVATURES.names():
        kind_of(name)
        return MethodFamily(partial(gradients.influence, kind=name), DAMPED, name)
    options = {**solver_of(name).options, "subset": SUBSET, **CHEAPER.get(name, {}), **DAMPED}
    return MethodFamily(partial(gradients.solved, solver=name), options, "ekfac")


def parse_methods(specs: Sequence[str]) -> list[Method]:
    """The methods with these names, without duplicates.

    Raises HeadwaterError for an unknown family or option, or a value of the wrong type.
    """
    return [_parse(spec) for spec in dict.fromkeys(specs)]


def _parse(spec: str) -> Method:
    name, _, settings = spec.partition(":")
    family = family_of(name)
    options: dict[str, Option] = dict(family.options)
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key not in options:
            known = ", ".join(options) or "none"
            raise HeadwaterError(f"--method {spec}: {name} has no option {key!r}. Its options: {known}.")
        options[key] = _value(spec, key, value, default=family.options[key])
    return Method(spec, family, options)


def _value(spec: str, key: str, value: str, *, default: Option) -> Option:
    if isinstance(default, str):
        return value
    try:
        number = int(value)
    except ValueError:
        number = -1
    least = min(1, default)
    if number < least:
        raise HeadwaterError(f"--method {spec}: {key} must be a whole number of {least} or more, not {value!r}.")
    return number
