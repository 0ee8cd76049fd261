"""Every method's scores held against what is measured of it, and the table of what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from headwater.base.files import load_tensors, read_metadata, replacing, save_tensors
from headwater.evaluate import curvatures
from headwater.evaluate.context import EvaluationContext
from headwater.evaluate.measures import Bench, Found, metric_of
from headwater.evaluate.methods import Method
from headwater.evaluate.metrics import Drawn


@dataclass(frozen=True)
class Scored:
    """A method's scores of every example on every query."""

    scores: NDArray[np.float64]
    """[N, Q]"""
    cpu_seconds: float
    """That fitting what it needs and scoring took."""


@dataclass(frozen=True)
class MethodResult:
    """How one method did."""

    method: Method
    cpu_seconds: float
    found: Mapping[str, Found] = field(default_factory=dict[str, Found])
    """Name of a column -> what was found."""


def score(scene: EvaluationContext, method: Method) -> Scored:
    """The method's scores, kept in `work` under its name and read from there the next time."""
    path = scene.work / "scores" / f"{_file_name(method)}.safetensors"
    metadata = read_metadata(scene.run.curvature_path)
    binding = json.dumps(
        scene.run.manifest.binding()
        | {"curvature": metadata.get("settings", ""), "seed": str(scene.seed)}
        | {"damping": scene.run.manifest.damping, "method": method.settings, "checkpoints": str(scene.checkpoints)}
        | {"queries": [[query.prompt, query.completion, *query.stories] for query in scene.queries]},
        sort_keys=True,
    )
    if not path.exists() or read_metadata(path).get("binding") != binding:
        fitting = 0.0 if method.fit is None else curvatures.cost(scene, method.fit)
        start = time.process_time()
        scores = method.score(scene)
        spent = fitting + time.process_time() - start
        save_tensors(path, {"scores": torch.from_numpy(scores)}, {"binding": binding, "cpu_seconds": f"{spent:.3f}"})
    return Scored(load_tensors(path)["scores"].numpy(), float(read_metadata(path)["cpu_seconds"]))


def judge(bench: Bench, method: Method) -> MethodResult:
    """What is measured of the method's scores."""
    scored = score(bench.scene, method)
    found: dict[str, Found] = {}
    for metric in bench.metrics:
        found |= metric_of(metric).measure(bench, scored.scores)
    return MethodResult(method, scored.cpu_seconds, found)


def columns(results: Sequence[MethodResult]) -> list[str]:
    """The columns that have a value for some method, in their order."""
    names = dict.fromkeys(name for result in results for name in result.found)
    return [name for name in names if any(_value(result, name) is not None for result in results)]


def table(results: Sequence[MethodResult], unit: float | None, against: MethodResult | None = None) -> list[list[str]]:
    """A header and one row a method, as a person reads them.

    `unit` are the CPU seconds of one training; `against` the result that the others' LDS is compared with.
    """
    names = columns(results)
    compared = against is not None and "LDS" in names
    spent = "CPU s" if unit is None else "cost, trainings"
    rows = [["method", *names, *([f"LDS minus {against.method.name}'s"] if against and compared else []), spent]]
    for result in results:
        cells = [_cell(name, _value(result, name)) for name in names]
        if against is not None and compared:
            one, other = _value(result, "LDS"), _value(against, "LDS")
            assert one is not None and other is not None  # noqa: PT018
            cells.append("–" if result is against else said(one.less(other), sign=True))
        cost = f"{result.cpu_seconds:.1f}" if unit is None else f"{result.cpu_seconds / unit:.2f}"
        rows.append([result.method.name, *cells, cost])
    return rows


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown."""
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_parquet(
    scene: EvaluationContext, results: Sequence[MethodResult], path: Path, *, facts: Mapping[str, float | None]
) -> None:
    """One row a method, column and query: its own number, and the method's with its bounds.

    The `facts` go into the file's metadata.
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        for name, found in result.found.items():
            interval = None if found.value is None else found.value.interval
            rows += [
                {
                    "method": result.method.name,
                    "metric": name,
                    "query": scene.queries[q].id,
                    "stories": len(scene.queries[q].stories),
                    "of_query": number,
                    "value": None if interval is None else interval.value,
                    "low": None if interval is None else interval.low,
                    "high": None if interval is None else interval.high,
                    "cpu_seconds": result.cpu_seconds,
                }
                for q, number in found.by_query.items()
            ]
    schema = pa.schema(
        [(name, pa.string()) for name in ("method", "metric", "query")]
        + [("stories", pa.int32())]
        + [(name, pa.float64()) for name in ("of_query", "value", "low", "high", "cpu_seconds")]
    )
    schema = schema.with_metadata({"headwater": json.dumps(dict(facts))})
    with replacing(path) as part:
        pq.write_table(pa.Table.from_pylist(rows, schema), part)


def said(drawn: Drawn, sign: bool = False) -> str:
    """A number with its bounds."""
    form = "+.3f" if sign else ".3f"
    interval = drawn.interval
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]".replace("-", "−")


def _cell(name: str, drawn: Drawn | None) -> str:
    """What a table shows; of a share of a few queries, not the bounds."""
    if drawn is None:
        return "–"
    return f"{drawn.value:.2f}" if name.startswith("recall") else said(drawn)


def _value(result: MethodResult, name: str) -> Drawn | None:
    return result.found[name].value if name in result.found else None


def _file_name(method: Method) -> str:
    return "".join(letter if letter.isalnum() or letter in "-.=," else "_" for letter in method.name)
