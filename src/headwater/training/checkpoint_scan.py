"""Scores of the whole corpus at every checkpoint of a training, streamed to one Parquet file in constant memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.attribution.scan import Scan, bound_to, check_query_ids, scan_corpus, undamaged
from headwater.attribution.scores import of_rank
from headwater.base.files import replacing
from headwater.base.lock import exclusive
from headwater.base.progress import Report, Step, silent
from headwater.corpus.corpus import Corpus
from headwater.curvature.base import EigenCurvature
from headwater.curvature.damping import Damping
from headwater.curvature.refit import Refit
from headwater.curvature.store import load_curvature
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import LOCAL_ENGINE, Engine, Sweep
from headwater.training.checkpoints import Checkpoint
from headwater.training.lookback import METHODS, CheckpointMethod, TrainingHistory, View, examined


@dataclass(frozen=True, kw_only=True)
class CheckpointScan:
    """What is written: one row an example, `id`, one column a query, and `<query>@<step>` for every checkpoint."""

    corpus: Corpus
    history: TrainingHistory
    method: CheckpointMethod
    binding: Mapping[str, str]
    """Fingerprints and settings that the scores depend on, but for those of the checkpoints."""
    query_rank: int | None = None
    engine: Engine = LOCAL_ENGINE
    report: Report = silent

    @property
    def query_ids(self) -> list[str]:
        return [question.id for question in self.history.questions]

    def columns(self, query: str) -> list[str]:
        """The columns of a query that say what of it is due to each checkpoint."""
        return [f"{query}@{checkpoint.step}" for checkpoint in self.history.checkpoints]

    def schema(self, binding: str) -> Any:
        shares = [column for query in self.query_ids for column in self.columns(query)]
        check_query_ids([*self.query_ids, *shares])
        fields = [pa.field(name, pa.float32()) for name in (*self.query_ids, *shares)]
        return pa.schema([pa.field("id", pa.string()), *fields], {"headwater": binding})


def scan_checkpoints(scan: CheckpointScan, output: Path) -> None:
    """Write what every checkpoint adds to the influence of every example on every query, and the sums, to `output`.

    Finished checkpoints, and the finished shards of the one under way, wait beside it in `<output>.checkpoints/`; run
    again after an interruption, only what is missing is computed. Where `output` already holds this very scan, nothing
    is done. Raises HeadwaterError where a checkpoint lacks what the method needs, or two columns would share a name.
    """
    binding = _binding(scan)
    schema = scan.schema(binding)
    total = len(scan.corpus)
    if bound_to(output, binding):
        scan.report(Step(stage="scan", done=total, total=total, tokens=0))
        return
    folder = output.with_name(output.name + ".checkpoints")
    with exclusive(folder):
        factors = _scan_each(scan, folder, binding)
        with replacing(output) as whole, pq.ParquetWriter(whole, schema, write_page_checksum=True) as writer:
            for table in _added_up(scan, folder, factors, schema=schema):
                writer.write_table(table)
    shutil.rmtree(folder)


def refit_at(refit: Refit, folder: Path, damping: Damping, checkpoint: Checkpoint, lm: LanguageModel) -> EigenCurvature:
    """EK-FAC of the model at a checkpoint, fitted as the run's own curvature was, and kept in `folder`."""

    def report(step: Step) -> None:
        refit.report(replace(step, stage=f"{step.stage} {checkpoint.step:,}"))

    path = replace(refit, report=report).fit(lm, folder / f"step-{checkpoint.step}")
    found = load_curvature(path, damping, str(lm.device))[0]
    assert isinstance(found, EigenCurvature)
    return found


def _binding(scan: CheckpointScan) -> str:
    steps = [checkpoint.step for checkpoint in scan.history.checkpoints]
    seen = list(zip(steps, examined(scan.history, scan.method), strict=True))
    rates = [(checkpoint.rate, checkpoint.reach) for checkpoint in scan.history.checkpoints]
    return json.dumps(
        {**scan.binding, "method": scan.method, "checkpoints": seen, "rates": rates, "rank": scan.query_rank},
        sort_keys=True,
    )


def _scan_each(scan: CheckpointScan, folder: Path, binding: str) -> list[float]:
    """Write ⟨R_q, ∇L(z)⟩ of every checkpoint to a file of its own; returns their factors, in their order."""
    factors: dict[int, float] = {}

    def visit(view: View) -> None:
        step = view.checkpoint.step
        factors[step] = view.factor
        path = _part(folder, step)
        if path.exists() and not undamaged(path):
            path.unlink()
        weights = of_rank(view.weights, scan.query_rank)
        one = Scan(
            corpus=scan.corpus,
            query_ids=scan.query_ids,
            preconditioned=weights,
            tokens=False,
            binding=f"step {step} of {binding}",
        )
        sweep = Sweep(
            stage=f"step {step:,}",
            lm=view.lm,
            layers=scan.history.layers,
            sequences=scan.corpus.sequences(),
            engine=scan.engine,
        )
        scan_corpus(one, sweep, path, report=scan.report)

    METHODS[scan.method](scan.history, visit)
    return [factors[checkpoint.step] for checkpoint in scan.history.checkpoints]


def _part(folder: Path, step: int) -> Path:
    return folder / f"{step}.parquet"


def _added_up(scan: CheckpointScan, folder: Path, factors: Sequence[float], *, schema: Any) -> Iterator[Any]:
    """Tables of a shard each: the checkpoints' shares side by side, and their sums."""
    with ExitStack() as opened:
        paths = [_part(folder, checkpoint.step) for checkpoint in scan.history.checkpoints]
        files = [opened.enter_context(pq.ParquetFile(path)) for path in paths]
        for group in range(files[0].num_row_groups):
            parts = [file.read_row_group(group) for file in files]
            columns: dict[str, Any] = {"id": parts[0].column("id")}
            shares: dict[str, NDArray[np.float64]] = {}
            for query in scan.query_ids:
                found = [part.column(query).to_numpy().astype(np.float64) for part in parts]
                shares |= dict(zip(scan.columns(query), map(np.multiply, factors, found), strict=True))
                columns[query] = sum(shares[column] for column in scan.columns(query))
            columns |= shares
            yield pa.table({name: _column(values) for name, values in columns.items()}, schema=schema)


def _column(values: Any) -> Any:
    return pa.array(values, pa.float32()) if isinstance(values, np.ndarray) else values
