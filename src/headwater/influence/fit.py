"""Fitting a curvature: the sweeps and eigendecompositions of each kind, each stage resumable."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from headwater import aligned
from headwater.curvature.covariances import Covariances
from headwater.curvature.damping import Damping
from headwater.curvature.eigen import Eigenbases, Eigenvalues, eigendecompose
from headwater.curvature.exact import DenseFisher, ExactCurvature, refuse_if_large
from headwater.curvature.kinds import Curvature, CurvatureKind, Eigenbasis, EigenCurvature, identity
from headwater.errors import HeadwaterError
from headwater.files import load_tensors, read_metadata, save_tensors
from headwater.gradient import Bases
from headwater.lm.capture import Labels
from headwater.sweep.kept import Kept, kept_in
from headwater.sweep.progress import Report, Step, silent
from headwater.sweep.sweep import Checkpoint, Engine, R, Sweep, fold

Fisher = Literal["sampled", "empirical"]
_GRADIENTS = "gradients-"
"""Begins the names of folders of kept gradients."""


@dataclass(frozen=True)
class Workbench:
    """Where a fit keeps what it has finished, and the settings that decide whether that is still of use."""

    folder: Path
    binding: str
    report: Report = silent

    def checkpoint(self, stage: str) -> Checkpoint:
        return Checkpoint(self.folder / f"{stage}.checkpoint.safetensors", f"{stage}: {self.binding}")

    def kept(self, sweep: Sweep) -> Kept:
        """Where the gradients that a fit reads twice are kept between the times."""
        settings = f"{self.binding} {sweep.labels} {sweep.token_budget}"
        return kept_in(self.folder / f"{_GRADIENTS}{hashlib.sha256(settings.encode()).hexdigest()[:16]}")

    def clear(self) -> None:
        for path in self.folder.glob("*.checkpoint.safetensors"):
            path.unlink()
        for folder in self.folder.glob(f"{_GRADIENTS}*"):
            shutil.rmtree(folder)


def labels_of(fisher: Fisher, seed: int) -> Labels:
    """The labels that a Fisher's gradients are taken at."""
    return Labels("sampled" if fisher == "sampled" else "true", seed)


def fit_curvature(kind: CurvatureKind, sweep: Sweep, bench: Workbench, block_width: int | None = None) -> Curvature:
    """Fit `kind` on the sequences of `sweep`, whose labels decide the Fisher.

    Covariances wider than `block_width` are taken for block-diagonal, as Grosse et al. 2023 do in their largest model.
    Interrupted, it goes on from the last finished shard. The returned curvature carries the default damping.
    """
    layers = tuple(sweep.layers)
    if kind == "identity":
        return identity(layers, str(sweep.lm.device))
    if kind == "exact":
        refuse_if_large(layers)
        fisher = _fold(sweep, "fisher", lambda: DenseFisher(layers), bench)
        return ExactCurvature(layers, fisher.total / fisher.examples, Damping())
    if kind == "diagonal":
        return _eigen_curvature(kind, sweep, {layer.name: (None, None) for layer in layers}, bench)
    if kind == "ekfac":
        sweep = replace(sweep, kept=bench.kept(sweep))
    covariances = _fold(sweep, "covariances", lambda: Covariances(layers, block_width), bench)
    found = _eigenbases(sweep.engine, covariances, bench)
    bases = found.pairs(layers)
    if kind == "kfac":  # Λ = T̄ · λ_S λ_Aᵀ: tokens taken as independent, so that their number multiplies
        products = {x.name: found.outer(x) * covariances.tokens_per_example for x in layers}
        return EigenCurvature(kind, layers, {x: Eigenbasis(*bases[x], products[x]) for x in bases}, Damping())
    return _eigen_curvature(kind, sweep, bases, bench)


def _eigen_curvature(kind: CurvatureKind, sweep: Sweep, bases: Bases, bench: Workbench) -> EigenCurvature:
    """Λ of every layer in the given bases."""
    layers = tuple(sweep.layers)
    found = _fold(sweep, "eigenvalues", lambda: Eigenvalues(layers, bases), bench)
    fitted = {name: Eigenbasis(*bases[name], found.mean(name)) for name in bases}
    return EigenCurvature(kind, layers, fitted, Damping())


def _eigenbases(engine: Engine, covariances: Covariances, bench: Workbench) -> Eigenbases:
    """Decomposed once, then read back from disk.

    The covariances are released one after the other, so that no more than one is held beside what it becomes.
    """
    checkpoint, names = bench.checkpoint("eigenbasis"), covariances.names
    if (saved := _saved(checkpoint, str(covariances.sums[names[0]].device))) is not None:
        covariances.sums.clear()
        return saved
    tensors: dict[str, Tensor] = {}
    bench.report(Step("eigenbasis", 0, len(names), 0))
    found = engine.map(_decomposed, ((name, covariances.taken(name)) for name in names))
    for done, (name, values, vectors) in enumerate(found, start=1):
        tensors |= {f"λ {name}": values, f"Q {name}": aligned.copy(vectors)}
        bench.report(Step("eigenbasis", done, len(names), 0))
    save_tensors(checkpoint.path, tensors, {"binding": checkpoint.binding})
    return Eigenbases(tensors)


def _saved(checkpoint: Checkpoint, device: str) -> Eigenbases | None:
    """The bases of an earlier, interrupted fit; None where there are none of this fit, or they are damaged."""
    with suppress(HeadwaterError):
        if checkpoint.path.exists() and read_metadata(checkpoint.path).get("binding") == checkpoint.binding:
            saved = load_tensors(checkpoint.path, device)
            return Eigenbases({name: aligned.copy(x) if x.dim() == 2 else x for name, x in saved.items()})
    return None


def _decomposed(named: tuple[str, Tensor]) -> tuple[str, Tensor, Tensor]:
    name, covariance = named
    owner, side, _ = name.rsplit(".", 2)
    whose = "the inputs of" if side == "A" else "the gradients of"
    return name, *eigendecompose(covariance, f"{whose} {owner}")


def _fold(sweep: Sweep, stage: str, make: Callable[[], R], bench: Workbench) -> R:
    return fold(replace(sweep, stage=stage), make, bench.checkpoint(stage), bench.report)
