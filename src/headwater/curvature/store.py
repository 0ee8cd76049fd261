"""A curvature on disk: a safetensors file, bound by its metadata to what it was fitted on.

Which tensors it holds is for its kind to say (see kind.py): `<group>.Q_A` [I, I], `<layer>.Q_S` [O, O] and
`<layer>.Λ` [O, I]; for `exact`, `fisher` [P, P] float64.
Metadata (see files.save_tensors): `kind`, the `package` that brings it where it is not ours, `layers` (a JSON table),
and the binding the caller gives (fingerprints and settings). A curvature that was fitted a few layers at a time has a
file beside it for each such section, `curvature-<digits>.safetensors`, and holds but their names, as `sections`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from headwater.base.files import load_tensors, read_metadata, save_tensors
from headwater.base.plugins import CURVATURES
from headwater.curvature.base import Curvature
from headwater.curvature.damping import Damping
from headwater.curvature.registry import kind_of
from headwater.lm.layers import TrackedLayer


def save_curvature(path: Path, curvature: Curvature, binding: Mapping[str, str]) -> None:
    """Write `curvature` (damping is not part of it: it is chosen when a question is asked)."""
    tensors = kind_of(curvature.kind).tensors(curvature)
    layers = json.dumps([asdict(layer) for layer in curvature.layers])
    save_tensors(path, tensors, {**_made_by(curvature.kind), "layers": layers, **binding})


def save_sections(path: Path, kind: str, sections: Sequence[Path], *, binding: Mapping[str, str]) -> None:
    """Make one curvature of the files of its sections, which lie beside `path`."""
    layers = [layer for section in sections for layer in json.loads(read_metadata(section)["layers"])]
    names = [section.name for section in sections]
    written = {**_made_by(kind), "layers": json.dumps(layers), "sections": json.dumps(names), **binding}
    save_tensors(path, {"none": torch.zeros(0)}, written)


def _made_by(kind: str) -> dict[str, str]:
    package = CURVATURES.package(kind)
    return {"kind": kind, "package": package} if package else {"kind": kind}


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
    """The curvature at `path` with λ set by `damping`, and its metadata.

    Raises HeadwaterError where it is of a kind that another package brings, which is not installed.
    """
    metadata = read_metadata(path)
    name = metadata["kind"]
    kind = kind_of(name, metadata.get("package", ""))
    tensors: dict[str, Tensor] = {}
    for file in curvature_files(path):
        tensors |= load_tensors(file, device)
    return kind.load(name, layers_of(metadata), tensors, damping), metadata
