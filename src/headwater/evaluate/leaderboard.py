"""Every method's scores held against the ground truth, and the table of what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from headwater.evaluate.methods import Method, ScoreMatrix
from headwater.evaluate.metrics import Interval, Traced, correlations, lds, mean, trace
from headwater.evaluate.retrain import Truth
from headwater.evaluate.scene import EvalScene
from headwater.files import load_tensors, read_metadata, replacing, save_tensors, write_text


@dataclass(frozen=True)
class Scored:
    """A method's scores of every example on every query."""

    scores: ScoreMatrix
    seconds: float
    """That making them took."""


@dataclass(frozen=True)
class Result:
    """How one method did."""

    method: Method
    lds: Interval
    """Linear datamodeling score: 1 would foretell the order of all retrainings, 0 is chance."""
    mrr: Interval
    """Mean over facts of 1 / the rank of the first story that states it."""
    recall: dict[int, float]
    """How often a fact is stated -> the mean share of those stories among the first ten."""
    by_query: list[tuple[float, Traced]]
    """Of every query, the correlation over subsets, and how its fact was traced."""
    subsets: int
    seconds: float


def score(scene: EvalScene, method: Method) -> Scored:
    """The method's scores, kept in `work` under its name and read from there the next time."""
    path = scene.work / "scores" / f"{method.name}.safetensors"
    binding = json.dumps(
        scene.run.manifest.binding() | _curvature(scene) | {"settings": method.settings, "seed": str(scene.seed)}
        | {"queries": json.dumps([[fact.prompt, fact.completion] for fact in scene.facts])}, sort_keys=True,
    )  # fmt: skip
    if not path.exists() or read_metadata(path).get("binding") != binding:
        start = time.perf_counter()
        scores = method.score(scene)
        seconds = time.perf_counter() - start
        save_tensors(path, {"scores": torch.from_numpy(scores)}, {"binding": binding, "seconds": f"{seconds:.3f}"})
    return Scored(load_tensors(path)["scores"].numpy(), float(read_metadata(path)["seconds"]))


def judge(scene: EvalScene, method: Method, scored: Scored, truth: Truth) -> Result:
    """How well the scores foretell retraining, and find the stories that state each fact."""
    scores, stating = scored.scores, scene.stating()
    traced = [trace(scores[:, q], stating[:, q], seed=scene.seed) for q in range(len(scene.facts))]
    shares: dict[int, list[float]] = {}
    for fact, one in zip(scene.facts, traced, strict=True):
        shares.setdefault(fact.times, []).append(one.recall)
    each = correlations(scores, truth.members, truth.losses)[0].tolist()
    return Result(
        method=method,
        lds=lds(scores, truth.members, truth.losses, scene.seed),
        mrr=mean([one.reciprocal_rank for one in traced], scene.seed),
        recall={times: sum(found) / len(found) for times, found in sorted(shares.items())},
        by_query=list(zip(each, traced, strict=True)),
        subsets=len(truth.losses),
        seconds=scored.seconds,
    )


def header(results: Sequence[Result]) -> list[str]:
    """The names of the columns of `row`."""
    return ["method", "LDS [95 %]", "MRR [95 %]", *(f"recall@10, {n}×" for n in results[0].recall), "seconds"]


def row(result: Result) -> list[str]:
    """One method's numbers as a person reads them."""
    shares = [f"{share:.2f}" for share in result.recall.values()]
    return [result.method.name, _said(result.lds), _said(result.mrr), *shares, f"{result.seconds:.1f}"]


def write_results(scene: EvalScene, results: Sequence[Result]) -> tuple[Path, Path]:
    """`results.parquet`, one row a method and query, and `results.md`, one row a method; returns both paths."""
    table, page = scene.work / "results.parquet", scene.work / "results.md"
    rows: list[dict[str, Any]] = [
        {
            "method": result.method.name, "query": fact.id, "times": fact.times, "correlation": correlation,
            "reciprocal_rank": traced.reciprocal_rank, "recall_at_10": traced.recall, "subsets": result.subsets,
            "lds": result.lds.value, "lds_low": result.lds.low, "lds_high": result.lds.high,
            "mrr": result.mrr.value, "mrr_low": result.mrr.low, "mrr_high": result.mrr.high,
            "seconds": result.seconds,
        }
        for result in results
        for fact, (correlation, traced) in zip(scene.facts, result.by_query, strict=True)
    ]  # fmt: skip
    with replacing(table) as part:
        pq.write_table(pa.Table.from_pylist(rows), part)
    write_text(page, markdown(results))
    return table, page


def markdown(results: Sequence[Result]) -> str:
    """The table as Markdown."""
    names = header(results)
    lines = [names, ["---"] + ["---:"] * (len(names) - 1), *map(row, results)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _curvature(scene: EvalScene) -> dict[str, str]:
    """What the run's own curvature is, and how it is damped."""
    metadata = read_metadata(scene.run.curvature_path)
    return {"curvature": metadata.get("settings", ""), "damping": scene.run.curvature().damping.describe()}


def _said(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
