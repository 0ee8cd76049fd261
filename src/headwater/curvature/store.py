"""A curvature on disk: a safetensors file, bound by its metadata to what it was fitted on.

Tensors: `<group>.Q_A` [I, I], `<layer>.Q_S` [O, O], `<layer>.Λ` [O, I]; for `exact`, `fisher` [P, P] float64.
A basis of several blocks is `<group>.Q_A.0`, `<group>.Q_A.1` and so on.
Metadata (see files.save_tensors): `kind`, `layers` (a JSON table), and the binding the caller gives
(fingerprints and settings). A curvature that was fitted a few layers at a time has a file beside it for each such
section, `curvature-<digits>.safetensors`, and holds but their names, as `sections`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from headwater import aligned
from headwater.basis import Basis, numbered
from headwater.curvature.damping import Damping
from headwater.curvature.exact import ExactCurvature
from headwater.curvature.kinds import Curvature, CurvatureKind, Eigenbasis, EigenCurvature, identity
from headwater.files import load_tensors, read_metadata, save_tensors
from headwater.lm.layers import TrackedLayer


def save_curvature(path: Path, curvature: Curvature, binding: Mapping[str, str]) -> None:
    """Write `curvature` (damping is not part of it: it is chosen when a question is asked)."""
    tensors: dict[str, Tensor] = {}
    if isinstance(curvature, ExactCurvature):
        tensors["fisher"] = curvature.fisher
    elif isinstance(curvature, EigenCurvature) and curvature.kind != "identity":
        for layer in curvature.layers:
            basis = curvature.bases[layer.name]
            tensors[f"{layer.name}.Λ"] = basis.eigenvalues
            if basis.input_basis is not None and basis.output_basis is not None:
                tensors |= named(f"{layer.group}.Q_A", basis.input_basis.blocks)
                tensors |= named(f"{layer.name}.Q_S", basis.output_basis.blocks)
    else:
        tensors["none"] = torch.zeros(0)
    layers = json.dumps([asdict(layer) for layer in curvature.layers])
    save_tensors(path, tensors, {"kind": curvature.kind, "layers": layers, **binding})


def save_sections(path: Path, kind: CurvatureKind, sections: Sequence[Path], binding: Mapping[str, str]) -> None:
    """Make one curvature of the files of its sections, which lie beside `path`."""
    layers = [layer for section in sections for layer in json.loads(read_metadata(section)["layers"])]
    names = [section.name for section in sections]
    written = {"kind": kind, "layers": json.dumps(layers), "sections": json.dumps(names), **binding}
    save_tensors(path, {"none": torch.zeros(0)}, written)


def delete_strays(path: Path) -> None:
    """Delete the files of sections, beside `path`, that are not of the curvature there."""
    own = curvature_files(path)
    for file in path.parent.glob(f"{path.stem}-*{path.suffix}"):
        if file not in own:
            file.unlink()


def layers_of(metadata: Mapping[str, str]) -> tuple[TrackedLayer, ...]:
    """The layers that a curvature with this metadata tracks."""
    return tuple(TrackedLayer(**fields) for fields in json.loads(metadata["layers"]))


def curvature_files(path: Path) -> list[Path]:
    """All files of the curvature at `path`."""
    names = json.loads(read_metadata(path).get("sections", "[]"))
    return [path, *(path.with_name(name) for name in names)]


def load_curvature(path: Path, damping: Damping, device: str = "cpu") -> tuple[Curvature, dict[str, str]]:
    """The curvature at `path` with λ set by `damping`, and its metadata."""
    metadata = read_metadata(path)
    layers = layers_of(metadata)
    kind: CurvatureKind = metadata["kind"]  # pyright: ignore[reportAssignmentType]
    if kind == "identity":
        return identity(layers, device), metadata
    tensors: dict[str, Tensor] = {}
    for file in curvature_files(path):
        tensors |= load_tensors(file, device)
    if kind == "exact":
        return ExactCurvature(layers, tensors["fisher"], damping), metadata
    found: dict[str, Basis | None] = {}
    for name in dict.fromkeys(x for layer in layers for x in (f"{layer.group}.Q_A", f"{layer.name}.Q_S")):
        blocks = blocks_of(name, tensors)
        found[name] = Basis(tuple(aligned.copy(block) for block in blocks)) if blocks else None
    bases = {
        layer.name: Eigenbasis(found[f"{layer.group}.Q_A"], found[f"{layer.name}.Q_S"], tensors[f"{layer.name}.Λ"])
        for layer in layers
    }
    return EigenCurvature(kind, layers, bases, damping), metadata


def named(name: str, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
    """The blocks of a matrix by the names they have in a file."""
    return {name: blocks[0]} if len(blocks) == 1 else {f"{name}.{k}": block for k, block in enumerate(blocks)}


def blocks_of(name: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The blocks that `named` has named; none where there is no such matrix."""
    if name in tensors:
        return [tensors[name]]
    return numbered(name, tensors)
