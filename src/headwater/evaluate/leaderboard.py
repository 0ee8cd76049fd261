"""Every method's scores held against what is measured of it, and the table of what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from headwater.evaluate import curvatures
from headwater.evaluate.methods import Method
from headwater.evaluate.metrics import Drawn, correlations, lds, mean, trace
from headwater.evaluate.removal import Removals, completed, loss_increase, removals_to_flip
from headwater.evaluate.scene import EvalScene
from headwater.evaluate.tail_patch import tail_patch
from headwater.evaluate.truth import Truth
from headwater.files import load_tensors, read_metadata, replacing, save_tensors

Metric = Literal["lds", "trace", "qld", "tail-patch", "brittleness"]
METRICS: tuple[Metric, ...] = ("lds", "trace", "qld", "tail-patch", "brittleness")


@dataclass(frozen=True)
class Scored:
    """A method's scores of every example on every query."""

    scores: NDArray[np.float64]
    """[N, Q]"""
    cpu_seconds: float
    """That fitting what it needs and scoring took."""


@dataclass(frozen=True)
class Found:
    """One number about a method."""

    value: Drawn | None
    """None where there is nothing to measure it on."""
    by_query: Mapping[int, float | None]
    """Query's position -> its own number."""


@dataclass(frozen=True)
class Result:
    """How one method did."""

    method: Method
    cpu_seconds: float
    found: Mapping[str, Found] = field(default_factory=dict[str, Found])
    """Name of a column -> what was found."""


@dataclass(frozen=True)
class Bench:
    """What methods are measured on."""

    scene: EvalScene
    metrics: Sequence[Metric]
    truth: Truth | None
    """For the linear datamodeling score."""
    removals: Removals | None
    """For what retraining without the top examples says."""


def score(scene: EvalScene, method: Method) -> Scored:
    """The method's scores, kept in `work` under its name and read from there the next time."""
    path = scene.work / "scores" / f"{_file_name(method)}.safetensors"
    metadata = read_metadata(scene.run.curvature_path)
    binding = json.dumps(
        scene.run.manifest.binding() | {"curvature": metadata.get("settings", ""), "seed": str(scene.seed)}
        | {"damping": scene.run.manifest.damping, "method": method.settings, "checkpoints": str(scene.checkpoints)}
        | {"queries": [[query.prompt, query.completion, *query.stories] for query in scene.queries]}, sort_keys=True,
    )  # fmt: skip
    if not path.exists() or read_metadata(path).get("binding") != binding:
        fitting = 0.0 if method.fit is None else curvatures.cost(scene, method.fit)
        start = time.process_time()
        scores = method.score(scene)
        spent = fitting + time.process_time() - start
        save_tensors(path, {"scores": torch.from_numpy(scores)}, {"binding": binding, "cpu_seconds": f"{spent:.3f}"})
    return Scored(load_tensors(path)["scores"].numpy(), float(read_metadata(path)["cpu_seconds"]))


def judge(bench: Bench, method: Method) -> Result:
    """What is measured of the method's scores."""
    scored = score(bench.scene, method)
    ways: dict[Metric, Callable[[Bench, NDArray[Any]], dict[str, Found]]] = {
        "lds": _lds, "trace": _trace, "qld": _qld, "tail-patch": _tail_patch, "brittleness": _brittleness
    }  # fmt: skip
    found: dict[str, Found] = {}
    for metric in bench.metrics:
        found |= ways[metric](bench, scored.scores)
    return Result(method, scored.cpu_seconds, found)


def _lds(bench: Bench, scores: NDArray[Any]) -> dict[str, Found]:
    assert bench.truth is not None, "the truth is measured before methods are judged by it"
    members, losses = bench.truth.members, bench.truth.losses
    each = correlations(scores, members, losses)[0].tolist()
    return {"LDS": Found(lds(scores, members, losses, bench.scene.seed), dict(enumerate(each)))}


def _trace(bench: Bench, scores: NDArray[Any]) -> dict[str, Found]:
    """MRR over all queries, and recall@10 by how many examples state them."""
    stating, seed = bench.scene.stating, bench.scene.seed
    known = [q for q in range(stating.shape[1]) if stating[:, q].any()]
    traced = {q: trace(scores[:, q], stating[:, q], seed=seed) for q in known}
    ranks = {q: one.reciprocal_rank for q, one in traced.items()}
    found = {"MRR": Found(mean(list(ranks.values()), seed) if ranks else None, ranks)}
    for times in sorted({int(stating[:, q].sum()) for q in known}):
        shares = {q: traced[q].recall for q in known if int(stating[:, q].sum()) == times}
        found[f"recall@10, {times}×"] = Found(mean(list(shares.values()), seed), shares)
    return found


def _qld(bench: Bench, scores: NDArray[Any]) -> dict[str, Found]:
    assert bench.removals is not None, "removals are chosen before methods are judged by them"
    rises = loss_increase(bench.removals, scores)
    return {"QLD, nats": Found(mean(rises, bench.scene.seed), dict(zip(bench.removals.queries, rises, strict=True)))}


def _tail_patch(bench: Bench, scores: NDArray[Any]) -> dict[str, Found]:
    changes = tail_patch(bench.scene, scores)
    return {"tail patch, nats": Found(mean(changes, bench.scene.seed), dict(enumerate(changes)))}


def _brittleness(bench: Bench, scores: NDArray[Any]) -> dict[str, Found]:
    """The share of known completions that taking out a hundredth flips, and the fewest removals that flip each."""
    assert bench.removals is not None, "removals are chosen before methods are judged by them"
    removals = replace(bench.removals, queries=completed(bench.removals))
    fewest = removals_to_flip(removals, scores) if removals.queries else []
    flipped = [float(count is not None and count <= removals.count) for count in fewest]
    each = dict(zip(removals.queries, [None if count is None else float(count) for count in fewest], strict=True))
    return {
        "flipped by 1 %": Found(mean(flipped, bench.scene.seed) if flipped else None,
                                dict(zip(removals.queries, flipped, strict=True))),
        "removals to flip": Found(None, each),
    }  # fmt: skip


def columns(results: Sequence[Result]) -> list[str]:
    """The columns that have a value for some method, in their order."""
    names = dict.fromkeys(name for result in results for name in result.found)
    return [name for name in names if any(_value(result, name) is not None for result in results)]


def table(results: Sequence[Result], unit: float | None, against: Result | None = None) -> list[list[str]]:
    """A header and one row a method, as a person reads them.

    `unit` are the CPU seconds of one training; `against` the result that the others' LDS is compared with.
    """
    names = columns(results)
    compared = against is not None and "LDS" in names
    spent = "CPU s" if unit is None else "trainings"
    rows = [["method", *names, *([f"LDS less {against.method.name}'s"] if against and compared else []), spent]]
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


def write_parquet(scene: EvalScene, results: Sequence[Result], path: Path, facts: Mapping[str, float | None]) -> None:
    """One row a method, column and query: its own number, and the method's with its bounds.

    The `facts` go into the file's metadata.
    """
    rows: list[dict[str, Any]] = []
    for result in results:
        for name, found in result.found.items():
            interval = None if found.value is None else found.value.interval
            rows += [
                {
                    "method": result.method.name, "metric": name, "query": scene.queries[q].id,
                    "stories": len(scene.queries[q].stories), "of_query": number,
                    "value": None if interval is None else interval.value,
                    "low": None if interval is None else interval.low,
                    "high": None if interval is None else interval.high,
                    "cpu_seconds": result.cpu_seconds,
                }
                for q, number in found.by_query.items()
            ]  # fmt: skip
    schema = pa.schema(
        [(name, pa.string()) for name in ("method", "metric", "query")] + [("stories", pa.int32())]
        + [(name, pa.float64()) for name in ("of_query", "value", "low", "high", "cpu_seconds")]
    )  # fmt: skip
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


def _value(result: Result, name: str) -> Drawn | None:
    return result.found[name].value if name in result.found else None


def _file_name(method: Method) -> str:
    return "".join(letter if letter.isalnum() or letter in "-.=," else "_" for letter in method.name)
