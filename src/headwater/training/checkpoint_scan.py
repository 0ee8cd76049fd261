"""Scores the whole corpus at every checkpoint of a training and streams them to one Parquet file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from headwater.attribution.exact_scores import ExactScoring
from headwater.attribution.preconditioned import PreconditionedQueries
from headwater.attribution.question import Question
from headwater.attribution.scan import Scan, bound_to, check_query_ids, scan_corpus, undamaged
from headwater.base.files import replacing
from headwater.base.lock import exclusive
from headwater.base.progress import Step
from headwater.curvature.base import EigenCurvature
from headwater.curvature.damping import Damping
from headwater.curvature.refit import Refit
from headwater.curvature.store import load_curvature
from headwater.errors import HeadwaterError
from headwater.lm.load import LanguageModel
from headwater.training.checkpoint_methods import METHODS, CheckpointTerm, TrainingHistory, check_checkpoints
from headwater.training.checkpoints import Checkpoint, read_checkpoints
from headwater.training.options import CheckpointScanOptions


@dataclass(frozen=True)
class _Scan:
    """A scan of checkpoints: the file has one row per example with `id`, one column per question, and one column
    `<question>@<step>` per question and checkpoint."""

    scoring: ExactScoring
    history: TrainingHistory
    options: CheckpointScanOptions

    @property
    def query_ids(self) -> list[str]:
        return [question.id for question in self.history.questions]

    def columns(self, query: str) -> list[str]:
        """The columns with the contribution of each checkpoint to a question."""
        return [f"{query}@{checkpoint.step}" for checkpoint in self.history.checkpoints]

    def schema(self, binding: str) -> Any:
        parts = [column for query in self.query_ids for column in self.columns(query)]
        check_query_ids([*self.query_ids, *parts])
        fields = [pa.field(name, pa.float32()) for name in (*self.query_ids, *parts)]
        return pa.schema([pa.field("id", pa.string()), *fields], {"headwater": binding})

    @property
    def binding(self) -> str:
        """Everything that the scores depend on, as JSON."""
        checkpoints = self.history.checkpoints
        steps = [checkpoint.step for checkpoint in checkpoints]
        models = list(zip(steps, check_checkpoints(self.history, self.options.method), strict=True))
        rates = [(checkpoint.rate, checkpoint.rate_sum) for checkpoint in checkpoints]
        settings: dict[str, Any] = {"method": self.options.method, "rank": self.options.query_rank}
        settings |= {"checkpoints": models, "rates": rates}
        return json.dumps({**self.scoring.binding_of(self.history.questions), **settings}, sort_keys=True)


def history(
    scoring: ExactScoring, questions: Sequence[Question], checkpoints: str | Path, *, refit: Refit, folder: Path
) -> TrainingHistory:
    """The training of a run's model, read from `checkpoints`. Their fitted curvatures are stored in `folder`."""
    context = scoring.context
    return TrainingHistory(
        lm=context.lm,
        layers=context.curvature.layers,
        sequences=context.corpus.sequences(),
        questions=questions,
        checkpoints=read_checkpoints(checkpoints),
        refit=partial(refit_at, refit, folder=folder, damping=context.curvature.damping),
    )


def scan_checkpoints(
    scoring: ExactScoring, history: TrainingHistory, output: Path, *, options: CheckpointScanOptions
) -> Path:
    """Write each checkpoint's contribution to the influence of every example on every question, and the sums.

    Memory use does not grow with the corpus. Finished checkpoints and shards are stored in `<output>.checkpoints/`, so
    that an interrupted scan resumes there. If `output` already contains this scan, nothing is done. Raises
    HeadwaterError if a checkpoint lacks what the method needs, or if two columns would have the same name.
    """
    if options.damping is not None and options.method != "ekfac":
        raise HeadwaterError(f"--damping: {options.method} is not damped. Omit the option, or choose --method ekfac.")
    scan = _Scan(scoring, history, options)
    binding = scan.binding
    schema = scan.schema(binding)
    total = len(scoring.context.corpus)
    if bound_to(output, binding):
        scoring.context.execution.report(Step(stage="scan", done=total, total=total, tokens=0))
        return output
    folder = output.with_name(output.name + ".checkpoints")
    with exclusive(folder):
        factors = _scan_each(scan, folder, binding)
        with replacing(output) as part, pq.ParquetWriter(part, schema, write_page_checksum=True) as writer:
            for table in _summed_tables(scan, folder, factors, schema=schema):
                writer.write_table(table)
    shutil.rmtree(folder)
    return output


def refit_at(
    refit: Refit, checkpoint: Checkpoint, lm: LanguageModel, *, folder: Path, damping: Damping
) -> EigenCurvature:
    """EK-FAC of the model at a checkpoint, fitted with the settings of the run's curvature and stored in `folder`."""

    def report(step: Step) -> None:
        refit.execution.report(replace(step, stage=f"{step.stage} {checkpoint.step:,}"))

    reporting = replace(refit, execution=replace(refit.execution, report=report))
    path = reporting.fit(lm, folder / f"step-{checkpoint.step}")
    curvature = load_curvature(path, damping, str(lm.device))[0]
    assert isinstance(curvature, EigenCurvature)
    return curvature


def _scan_each(scan: _Scan, folder: Path, binding: str) -> list[float]:
    """Write ⟨R_q, ∇L(z)⟩ of each checkpoint to its own file. Returns the factor of each checkpoint."""
    factors: dict[int, float] = {}
    context = scan.scoring.context

    def visit(term: CheckpointTerm) -> None:
        step = term.checkpoint.step
        factors[step] = term.factor
        path = _part(folder, step)
        if path.exists() and not undamaged(path):
            path.unlink()
        one = Scan(
            corpus=context.corpus,
            query_ids=scan.query_ids,
            preconditioned=PreconditionedQueries(term.preconditioned).of_rank(scan.options.query_rank),
            tokens=False,
            binding=f"step {step} of {binding}",
        )
        sweep = context.execution.sweep(
            f"step {step:,}", term.lm, scan.history.layers, sequences=context.corpus.sequences()
        )
        scan_corpus(one, sweep, path, report=context.execution.report)

    METHODS[scan.options.method](scan.history, visit)
    return [factors[checkpoint.step] for checkpoint in scan.history.checkpoints]


def _part(folder: Path, step: int) -> Path:
    return folder / f"{step}.parquet"


def _summed_tables(scan: _Scan, folder: Path, factors: Sequence[float], *, schema: Any) -> Iterator[Any]:
    """One table per shard, with the contributions of the checkpoints and their sums."""
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
