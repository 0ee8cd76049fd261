"""A kind of curvature: how it is fitted, stored and loaded."""

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
from headwater.gradients.basis import Basis, numbered_blocks
from headwater.gradients.reducer import R
from headwater.lm.layers import TrackedLayer


class Fitting(Protocol):
    """What a curvature is fitted from: passes over the examples."""

    @property
    def kind(self) -> str:
        """The name of the kind that is fitted."""
        ...

    @property
    def layers(self) -> tuple[TrackedLayer, ...]: ...
    @property
    def block_width(self) -> int | None:
        """Covariances wider than this are approximated as block-diagonal (see Covariances)."""
        ...

    @property
    def device(self) -> str:
        """Device of the model, and of the fitted tensors."""
        ...

    def fold(self, stage: str, make: Callable[[], R]) -> R:
        """One pass over the examples: the reducer from `make` with the gradients of all of them.

        Each pass has its own `stage`, which names it in the progress. After an interruption it resumes with the next
        shard. `make` may be sent to other machines, so it should refer to the layers and other small values only, not
        to the Fitting.
        """
        ...

    def eigenbases(self, covariances: Covariances) -> Eigenbases:
        """The eigenbases of all covariances. The sums of `covariances` are released."""
        ...

    def with_gradient_cache(self) -> Self:
        """The same, but the first pass keeps its gradients on disk for the next, if that is faster."""
        ...


def eigen_tensors(curvature: Curvature) -> dict[str, Tensor]:
    """The tensors of an EigenCurvature: `<layer>.Λ` [O, I], `<group>.Q_A` [I, I] and `<layer>.Q_S` [O, O].

    A basis of several blocks is `<group>.Q_A.0`, `<group>.Q_A.1` and so on.
    """
    assert isinstance(curvature, EigenCurvature), "a curvature of another form needs its own `tensors` and `load`"
    tensors: dict[str, Tensor] = {}
    for layer in curvature.layers:
        basis = curvature.bases[layer.name]
        tensors[f"{layer.name}.Λ"] = basis.eigenvalues
        if basis.input_basis is not None and basis.output_basis is not None:
            tensors |= named_blocks(f"{layer.group}.Q_A", basis.input_basis.blocks)
            tensors |= named_blocks(f"{layer.name}.Q_S", basis.output_basis.blocks)
    return tensors


def eigen_loaded(
    kind: str, layers: Sequence[TrackedLayer], tensors: Mapping[str, Tensor], damping: Damping
) -> EigenCurvature:
    """The EigenCurvature of the tensors that `eigen_tensors` returned."""
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
    """One way to approximate the curvature. The defaults suit every EigenCurvature."""

    fit: Callable[[Fitting], Curvature]
    """Fits the curvature. It returns one with the name `fitting.kind` and `Damping()`."""
    tensors: Callable[[Curvature], Mapping[str, Tensor]] = eigen_tensors
    """Returns the tensors to store, at least one."""
    load: Callable[[str, Sequence[TrackedLayer], Mapping[str, Tensor], Damping], Curvature] = eigen_loaded
    """Makes the curvature from its name, its layers, the stored tensors, and the damping."""
    in_sections: bool = False
    """Whether groups of layers can be fitted separately, each in about the memory of its covariances."""


def kind_of(name: str, package: str = "") -> CurvatureKind:
    """The kind with this name. Raises HeadwaterError if there is none (see plugins.Group.load)."""
    return CURVATURES.load(name, package)


def named_blocks(name: str, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
    """The blocks of a matrix by their names in a file."""
    return {name: blocks[0]} if len(blocks) == 1 else {f"{name}.{k}": block for k, block in enumerate(blocks)}


def blocks_of(name: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The blocks that `named_blocks` named. None if there is no such matrix."""
    if name in tensors:
        return [tensors[name]]
    return numbered_blocks(name, tensors)
