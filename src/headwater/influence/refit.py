"""A curvature beside the run's own: fitted once into a folder, and kept there for as long as it is of use."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from headwater.curvature.kinds import CurvatureKind
from headwater.curvature.store import save_curvature
from headwater.files import read_metadata
from headwater.influence.fit import Workbench, fit_curvature
from headwater.sweep.progress import Report, silent
from headwater.sweep.sweep import Sweep


def fit_kept(
    kind: CurvatureKind, sweep: Sweep, folder: Path, binding: Mapping[str, str], report: Report = silent,
    block_width: int | None = None,
) -> Path:  # fmt: skip
    """The file of the curvature in `folder`, fitted where there is none of this `binding`.

    Its metadata says the CPU seconds that it took. Interrupted, fitting goes on where it stopped.
    """
    path = folder / "curvature.safetensors"
    if not path.exists() or not binding.items() <= read_metadata(path).items():
        start = time.process_time()
        bench = Workbench(folder, json.dumps(dict(binding), sort_keys=True), report)
        curvature = fit_curvature(kind, sweep, bench, block_width)
        save_curvature(path, curvature, {**binding, "cpu_seconds": f"{time.process_time() - start:.2f}"})
        bench.clear()
    return path
