"""Fitting a curvature: the sweeps and eigendecompositions of each kind, each stage resumable."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from headwater import aligned
from headwater.curvature.covariances import Covariances
from headwater.curvature.damping import Damping
from headwater.curvature.eigen import Eigenvalues, eigendecompose
from headwater.curvature.exact import DenseFisher, ExactCurvature, refuse_if_large
from headwater.curvature.kinds import Curvature, CurvatureKind, Eigenbasis, EigenCurvature, identity
from headwater.errors import HeadwaterError
from headwater.files import load_tensors, read_metadata, save_tensors
from headwater.gradient import Bases
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer
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


def fit_curvature(kind: CurvatureKind, sweep: Sweep, bench: Workbench) -> Curvature:
    """Fit `kind` on the sequences of `sweep`, whose labels decide the Fisher.

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
    covariances = _fold(sweep, "covariances", lambda: Covariances(layers), bench)
    basis = _eigenbasis(sweep.engine, layers, covariances, bench)
    if kind == "kfac":
        bases = {layer.name: _kronecker_factored(layer, basis, covariances) for layer in layers}
        return EigenCurvature(kind, layers, bases, Damping())
    del covariances
    return _eigen_curvature(
        kind, sweep, {x.name: (basis[f"{x.group}.Q_A"], basis[f"{x.name}.Q_S"]) for x in layers}, bench
    )


def _eigen_curvature(kind: CurvatureKind, sweep: Sweep, bases: Bases, bench: Workbench) -> EigenCurvature:
    """Λ of every layer in the given bases."""
    layers = tuple(sweep.layers)
    found = _fold(sweep, "eigenvalues", lambda: Eigenvalues(layers, bases), bench)
    fitted = {name: Eigenbasis(*bases[name], found.mean(name)) for name in bases}
    return EigenCurvature(kind, layers, fitted, Damping())


def _kronecker_factored(layer: TrackedLayer, basis: Mapping[str, Tensor], covariances: Covariances) -> Eigenbasis:
    """K-FAC's Λ = T̄ · λ_S λ_Aᵀ: tokens taken as independent, so that their number multiplies."""
    outer = basis[f"{layer.name}.λ_S"][:, None] * basis[f"{layer.group}.λ_A"][None, :]
    return Eigenbasis(basis[f"{layer.group}.Q_A"], basis[f"{layer.name}.Q_S"], outer * covariances.tokens_per_example)


def _eigenbasis(
    engine: Engine, layers: Sequence[TrackedLayer], covariances: Covariances, bench: Workbench
) -> dict[str, Tensor]:
    """Q_A, λ_A by group and Q_S, λ_S by layer; decomposed once, then read back from disk.

    The covariances are released one after the other, so that no more than one is held beside what it becomes.
    """
    checkpoint = bench.checkpoint("eigenbasis")
    if (saved := _saved(checkpoint, str(next(iter(covariances.input_sums.values())).device))) is not None:
        return saved
    basis: dict[str, Tensor] = {}
    matrices = len(covariances.input_sums) + len(covariances.output_sums)
    bench.report(Step("eigenbasis", 0, matrices, 0))
    found = engine.map(_decomposed, _matrices(layers, covariances))
    for done, (name, side, values, vectors) in enumerate(found, start=1):
        basis |= {f"{name}.λ_{side}": values, f"{name}.Q_{side}": aligned.copy(vectors)}
        bench.report(Step("eigenbasis", done, matrices, 0))
    save_tensors(checkpoint.path, basis, {"binding": checkpoint.binding})
    return basis


def _saved(checkpoint: Checkpoint, device: str) -> dict[str, Tensor] | None:
    """The bases of an earlier, interrupted fit; None where there are none of this fit, or they are damaged."""
    with suppress(HeadwaterError):
        if checkpoint.path.exists() and read_metadata(checkpoint.path).get("binding") == checkpoint.binding:
            saved = load_tensors(checkpoint.path, device)
            return {name: aligned.copy(tensor) if tensor.dim() == 2 else tensor for name, tensor in saved.items()}
    return None


def _matrices(layers: Sequence[TrackedLayer], covariances: Covariances) -> Iterator[tuple[str, str, Tensor]]:
    """(name, side, covariance) of every group and layer, each taken out of `covariances`."""
    for layer in layers:
        if layer.name == layer.group:
            yield layer.group, "A", covariances.input_covariance(layer)
        yield layer.name, "S", covariances.output_covariance(layer)
        covariances.release(layer)


def _decomposed(matrix: tuple[str, str, Tensor]) -> tuple[str, str, Tensor, Tensor]:
    name, side, covariance = matrix
    whose = "the inputs of" if side == "A" else "the gradients of"
    return name, side, *eigendecompose(covariance, f"{whose} {name}")


def _fold(sweep: Sweep, stage: str, make: Callable[[], R], bench: Workbench) -> R:
    return fold(replace(sweep, stage=stage), make, bench.checkpoint(stage), bench.report)
