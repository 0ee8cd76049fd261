"""A kind of curvature: how it is fitted, what of it is kept on disk, and how it is read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

from headwater.base.plugins import CURVATURES
from headwater.curvature.base import Curvature, Eigenbasis, EigenCurvature
from headwater.curvature.covariances import Covariances
from headwater.curvature.damping import Damping
from headwater.curvature.eigen import Eigenbases
from headwater.gradients import aligned_rows
from headwater.gradients.basis import Basis, numbered
from headwater.gradients.reducer import R
from headwater.lm.layers import TrackedLayer


class Fitting(Protocol):
    """What a curvature is fitted with: passes over the examples."""

    @property
    def kind(self) -> str:
        """The name of what is fitted."""
        ...

    @property
    def layers(self) -> tuple[TrackedLayer, ...]: ...
    @property
    def block_width(self) -> int | None:
        """Covariances wider than this are taken for block-diagonal (see Covariances)."""
        ...

    @property
    def device(self) -> str: ...
    def fold(self, stage: str, make: Callable[[], R]) -> R:
        """One pass: the reducer that `make` makes, given the gradients of every example.

        Each pass has a `stage` of its own, which names it in the progress. Interrupted, it goes on with the next shard.
        `make` may be sent to other machines: let it hold the layers and what else it needs, not the Fitting.
        """
        ...

    def eigenbases(self, covariances: Covariances) -> Eigenbases:
        """All covariances decomposed; their sums are let go of."""
        ...

    def keeping(self) -> Self:
        """The same, but gradients are kept on disk in the first pass and read in the next, where that is quicker."""
        ...


def eigen_tensors(curvature: Curvature) -> dict[str, Tensor]:
    """Those of an EigenCurvature: `<layer>.Λ` [O, I], `<group>.Q_A` [I, I] and `<layer>.Q_S` [O, O].

    A basis of several blocks is `<group>.Q_A.0`, `<group>.Q_A.1` and so on.
    """
    assert isinstance(curvature, EigenCurvature), "another form needs tensors and load of its own"
    tensors: dict[str, Tensor] = {}
    for layer in curvature.layers:
        basis = curvature.bases[layer.name]
        tensors[f"{layer.name}.Λ"] = basis.eigenvalues
        if basis.input_basis is not None and basis.output_basis is not None:
            tensors |= named(f"{layer.group}.Q_A", basis.input_basis.blocks)
            tensors |= named(f"{layer.name}.Q_S", basis.output_basis.blocks)
    return tensors


def eigen_loaded(
    kind: str, layers: Sequence[TrackedLayer], tensors: Mapping[str, Tensor], damping: Damping
) -> EigenCurvature:
    """What `eigen_tensors` kept."""
    found: dict[str, Basis | None] = {}
    for name in dict.fromkeys(x for layer in layers for x in (f"{layer.group}.Q_A", f"{layer.name}.Q_S")):
        blocks = blocks_of(name, tensors)
        found[name] = Basis(tuple(aligned_rows.copy(block) for block in blocks)) if blocks else None
    bases = {
        layer.name: Eigenbasis(found[f"{layer.group}.Q_A"], found[f"{layer.name}.Q_S"], tensors[f"{layer.name}.Λ"])
        for layer in layers
    }
    return EigenCurvature(kind, tuple(layers), bases, damping)


@dataclass(frozen=True)
class CurvatureKind:
    """One way to approximate the curvature. The defaults suit all that are an EigenCurvature."""

    fit: Callable[[Fitting], Curvature]
    """The curvature, of the name `fitting.kind` and with `Damping()`."""
    tensors: Callable[[Curvature], Mapping[str, Tensor]] = eigen_tensors
    """What is kept of it; at least one tensor."""
    load: Callable[[str, Sequence[TrackedLayer], Mapping[str, Tensor], Damping], Curvature] = eigen_loaded
    """The curvature of a name and layers again, of the tensors that were kept, with λ set."""
    in_sections: bool = False
    """Whether it takes about what covariances take, and each group of layers may be fitted without the others."""


def kind_of(name: str, package: str = "") -> CurvatureKind:
    """The kind of that name. Raises HeadwaterError where there is none (see plugins.Group.load)."""
    return CURVATURES.load(name, package)


def named(name: str, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
    """The blocks of a matrix by the names they have in a file."""
    return {name: blocks[0]} if len(blocks) == 1 else {f"{name}.{k}": block for k, block in enumerate(blocks)}


def blocks_of(name: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The blocks that `named` has named; none where there is no such matrix."""
    if name in tensors:
        return [tensors[name]]
    return numbered(name, tensors)
