"""Methods of attribution behind one interface: scores of every example on every query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headwater.errors import HeadwaterError
from headwater.evaluate import gradients, lookback, words
from headwater.evaluate.curvatures import Fit
from headwater.evaluate.scene import EvalScene

ScoreMatrix = NDArray[np.float64]
"""[N, Q], larger where the example is said to have raised the query's likelihood more."""
Option = int | str
NONE: Mapping[str, Option] = {}
DAMPED: Mapping[str, Option] = {"damping": "", "layers": ""}
"""How λ is set, and a glob of the layers that are tracked; nothing is as the run has them."""


@dataclass(frozen=True)
class Family:
    """A way to say which examples made a model say something, with what can be set about it."""

    what: str
    """What it does, in a few words."""
    score: Callable[..., ScoreMatrix]
    """Of a scene, and of every option by its name."""
    options: Mapping[str, Option] = field(default_factory=dict[str, Option])
    """Their defaults, which also say their types."""
    fits: str | None = None
    """The curvature that it needs, whose fit is part of its cost."""


@dataclass(frozen=True)
class Method:
    """A family with its options set."""

    name: str
    """As it is asked for: `ekfac`, or `cg:iterations=20,subset=512`."""
    family: Family
    options: Mapping[str, Option]

    def score(self, scene: EvalScene) -> ScoreMatrix:
        return self.family.score(scene, **self.options)

    @property
    def fit(self) -> Fit | None:
        """The curvature that must be fitted first."""
        if self.family.fits is None:
            return None
        return Fit(self.family.fits, str(self.options.get("layers", "")))


FAMILIES: Mapping[str, Family] = {
    "ekfac": Family("influence with EK-FAC", gradients.ekfac, DAMPED, "ekfac"),
    "kfac": Family("influence with K-FAC", gradients.kfac, DAMPED, "kfac"),
    "diagonal": Family("influence with the Fisher's diagonal", gradients.diagonal, DAMPED, "diagonal"),
    "exact": Family("influence with the dense Fisher, for tiny models", gradients.exact, DAMPED, "exact"),
    "cg": Family(
        "conjugate gradients on the Gauss–Newton matrix, preconditioned by EK-FAC",
        gradients.conjugate_gradients, {"iterations": 5, "subset": 256, **DAMPED}, "ekfac",
    ),
    "lissa": Family(
        "Neumann series on the Gauss–Newton matrix", gradients.lissa, {"steps": 40, "batch": 32, **DAMPED}, "ekfac"
    ),
    "relative": Family("EK-FAC influence / √I(z, z)", gradients.relative, DAMPED, "ekfac"),
    "dot": Family("dot product of gradients", gradients.dot_product, {"layers": ""}),
    "cosine": Family("cosine of gradients", gradients.cosine, {"layers": ""}),
    "trackstar": Family(
        "cosine of gradients over the root of Adam's second moments", gradients.trackstar, DAMPED
    ),
    "sketch": Family("estimates of the index's sketches alone", gradients.sketch, {"bytes": 8192}, "ekfac"),
    "tracin": Family("gradient products at checkpoints, by their learning rates", lookback.tracin, NONE),
    "source": Family("unrolled training between checkpoints, with EK-FAC", lookback.source, NONE),
    "bm25": Family("BM25 of the query's words", words.score_bm25, NONE),
    "overlap": Family("share of the query's words, pairs and triples", words.score_overlap, NONE),
    "planted": Family("1 where the example is known to state the query", lambda scene: scene.stating.astype(float)),
    "random": Family("chance", lambda scene: _random(scene)),
}  # fmt: skip


def parse_methods(specs: Sequence[str]) -> list[Method]:
    """The methods of these names, each once, in their order.

    Raises HeadwaterError for a family or an option that does not exist, or a value of another type.
    """
    return [_parse(spec) for spec in dict.fromkeys(specs)]


def _parse(spec: str) -> Method:
    name, _, settings = spec.partition(":")
    if name not in FAMILIES:
        raise HeadwaterError(f"--method {name}: there is no such method. Choose among {', '.join(FAMILIES)}.")
    family = FAMILIES[name]
    options: dict[str, Option] = dict(family.options)
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition("=")
        if key not in options:
            known = ", ".join(options) or "nothing"
            raise HeadwaterError(f"--method {spec}: {name} has no option {key!r}. What can be set: {known}.")
        options[key] = _value(spec, key, value, family.options[key])
    return Method(spec, family, options)


def _value(spec: str, key: str, value: str, default: Option) -> Option:
    if isinstance(default, str):
        return value
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise HeadwaterError(f"--method {spec}: {key} must be a whole number of 1 or more, not {value!r}.")
    return number


def _random(scene: EvalScene) -> ScoreMatrix:
    return np.random.default_rng(scene.seed).standard_normal((len(scene.run.corpus), len(scene.queries)))


def described(method: Method) -> dict[str, Any]:
    """What the scores depend on."""
    return {"method": method.name.partition(":")[0], **method.options}
