"""A curvature on disk: a safetensors file, bound by its metadata to what it was fitted on.

The tensors depend on the kind (see registry.py): `<group>.Q_A` [I, I], `<layer>.Q_S` [O, O] and `<layer>.Λ` [O, I]; for
`exact`, `fisher` [P, P] in float64. The metadata (see files.save_tensors) are `kind`, its `package` if it comes from a
plugin, `layers` (a JSON table), and the caller's binding (fingerprints and settings). A curvature that was fitted in
sections has one more file for each section, `curvature-<digits>.safetensors`. Its own file holds only their names, as
`sections`.
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
    """Write `curvature` without its damping, which is chosen when a question is asked."""
    tensors = kind_of(curvature.kind).tensors(curvature)
    layers = json.dumps([asdict(layer) for layer in curvature.layers])
    save_tensors(path, tensors, {**_made_by(curvature.kind), "layers": layers, **binding})


def save_sections(path: Path, kind: str, sections: Sequence[Path], *, binding: Mapping[str, str]) -> None:
    """Write the file of a curvature whose `sections` are files beside `path`."""
    layers = [layer for section in sections for layer in json.loads(read_metadata(section)["layers"])]
    names = [section.name for section in sections]
    written = {**_made_by(kind), "layers": json.dumps(layers), "sections": json.dumps(names), **binding}
    save_tensors(path, {"none": torch.zeros(0)}, written)


def _made_by(kind: str) -> dict[str, str]:
    package = CURVATURES.package(kind)
    return {"kind": kind, "package": package} if package else {"kind": kind}


def delete_strays(path: Path) -> None:
    """Delete files of sections beside `path` that do not belong to the curvature at `path`."""
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
    """The curvature at `path` with `damping`, and its metadata.

    Raises HeadwaterError if its kind comes from a package that is not installed.
    """
    metadata = read_metadata(path)
    name = metadata["kind"]
    kind = kind_of(name, metadata.get("package", ""))
    tensors: dict[str, Tensor] = {}
    for file in curvature_files(path):
        tensors |= load_tensors(file, device)
    return kind.load(name, layers_of(metadata), tensors, damping), metadata
