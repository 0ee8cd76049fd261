"""The eigendecompositions of all covariances of a fit, done once and kept until the fit is finished."""

from __future__ import annotations

from contextlib import suppress

from torch import Tensor

from headwater.base.files import load_tensors, read_metadata, save_tensors
from headwater.base.progress import Step
from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import Eigenbases, eigendecompose
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.gradients import aligned_rows
from headwater.sweep.checkpoint import SweepCheckpoint
from headwater.sweep.checkpoint_policy import CheckpointPolicy
from headwater.sweep.engine import Engine


def decompose(covariances: Covariances, engine: Engine, bench: Workbench) -> Eigenbases:
    """The eigenbases of `covariances`. A resumed fit reads them from disk if they took long to compute.

    The sums of the covariances are released one after the other, so only one is held beside its decomposition.
    """
    checkpoint, names = bench.checkpoint("eigenbasis"), covariances.names
    if (saved := _saved(checkpoint, str(covariances.sums[names[0]].device))) is not None:
        covariances.sums.clear()
        return saved
    tensors: dict[str, Tensor] = {}
    policy = CheckpointPolicy()
    bench.report(Step(stage="eigenbasis", done=0, total=len(names), tokens=0))
    found = engine.map(_decomposed, ((name, covariances.pop_covariance(name)) for name in names))
    for done, (name, values, vectors) in enumerate(found, start=1):
        tensors |= {f"λ {name}": values, f"Q {name}": aligned_rows.copy(vectors)}
        bench.report(Step(stage="eigenbasis", done=done, total=len(names), tokens=0))
    if policy.is_due(tensors):
        save_tensors(checkpoint.path, tensors, {"binding": checkpoint.binding})
    return Eigenbases(tensors)


def _saved(checkpoint: SweepCheckpoint, device: str) -> Eigenbases | None:
    """The eigenbases of this fit from before an interruption. None if there are none, or they are damaged."""
    with suppress(HeadwaterError):
        if checkpoint.path.exists() and read_metadata(checkpoint.path).get("binding") == checkpoint.binding:
            saved = load_tensors(checkpoint.path, device)
            return Eigenbases({name: aligned_rows.copy(x) if x.dim() == 2 else x for name, x in saved.items()})
    return None


def _decomposed(item: tuple[str, Tensor]) -> tuple[str, Tensor, Tensor]:
    name, covariance = item
    layer, side, _ = name.rsplit(".", 2)
    return name, *eigendecompose(covariance, f"the {'inputs' if side == 'A' else 'gradients'} of {layer}")
