"""Scores of each method, their metrics, and the Parquet file of the results."""

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
from headwater.evaluate.measures import Bench, MetricResult, metric_of
from headwater.evaluate.methods import Method


@dataclass(frozen=True)
class MethodScores:
    """A method's score of every example for every query."""

    scores: NDArray[np.float64]
    """[N, Q]"""
    cpu_seconds: float
    """CPU seconds of scoring, including fitting."""


@dataclass(frozen=True)
class MethodResult:
    """Measurements of one method."""

    method: Method
    cpu_seconds: float
    found: Mapping[str, MetricResult] = field(default_factory=dict[str, MetricResult])
    """Column name -> result."""


def score(context: EvaluationContext, method: Method) -> MethodScores:
    """The method's scores, cached in the context's `work` folder under its name."""
    path = context.work / "scores" / f"{_file_name(method)}.safetensors"
    metadata = read_metadata(context.run.paths.curvature)
    binding = json.dumps(
        context.run.manifest.binding()
        | {"curvature": metadata.get("settings", ""), "seed": str(context.seed)}
        | {"damping": context.run.manifest.damping, "method": method.settings, "checkpoints": str(context.checkpoints)}
        | {"queries": [[query.prompt, query.completion, *query.stories] for query in context.queries]},
        sort_keys=True,
    )
    if not path.exists() or read_metadata(path).get("binding") != binding:
        fitting = 0.0 if method.fit is None else curvatures.fit_seconds(context, method.fit)
        start = time.process_time()
        scores = method.score(context)
        seconds = fitting + time.process_time() - start
        save_tensors(path, {"scores": torch.from_numpy(scores)}, {"binding": binding, "cpu_seconds": f"{seconds:.3f}"})
    return MethodScores(load_tensors(path)["scores"].numpy(), float(read_metadata(path)["cpu_seconds"]))


def measure_method(bench: Bench, method: Method) -> MethodResult:
    """Compute all metrics of the method's scores."""
    scored = score(bench.context, method)
    found: dict[str, MetricResult] = {}
    for metric in bench.metrics:
        found |= metric_of(metric).measure(bench, scored.scores)
    return MethodResult(method, scored.cpu_seconds, found)


def write_parquet(
    context: EvaluationContext, results: Sequence[MethodResult], path: Path, *, facts: Mapping[str, float | None]
) -> None:
    """Write one row per method, column and query, with the query's number, the method's mean and its interval.

    The `facts` are written to the file's metadata.
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        for name, found in result.found.items():
            interval = None if found.value is None else found.value.interval
            rows += [
                {
                    "method": result.method.name,
                    "metric": name,
                    "query": context.queries[q].id,
                    "stories": len(context.queries[q].stories),
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


def _file_name(method: Method) -> str:
    return "".join(letter if letter.isalnum() or letter in "-.=," else "_" for letter in method.name)
