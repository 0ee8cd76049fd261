"""The subject of a plan: a run, or a model with a corpus of which only a sample is tokenised."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from headwater.base.files import read_metadata
from headwater.base.memory_probe import Peak
from headwater.base.progress import Report, Step, silent
from headwater.corpus.chat import renderer
from headwater.corpus.corpus import Corpus
from headwater.corpus.options import CorpusOptions
from headwater.corpus.read import Record, read_records
from headwater.corpus.sources import streams
from headwater.corpus.store import ROWS_PER_BATCH, SCHEMA, CorpusCounts, write_corpus
from headwater.curvature.options import FitOptions
from headwater.errors import CorpusError, HeadwaterError
from headwater.lm.layers import TrackedLayer, choose_layers
from headwater.lm.load import LanguageModel
from headwater.plan.layout import Layout, evenly_spaced, lengths_of
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep

SAMPLED_RECORDS = 2000
"""Maximum number of records that a plan tokenises of a corpus that is not tokenised yet."""
CATALOGUE_BYTES = 60
"""Approximate bytes per example of a catalogue of streamed texts."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The sample of a corpus that is not tokenised yet, and the estimated cost of tokenising all of it."""

    records: int
    """Valid records in the whole corpus."""
    sampled: int
    """Records that were tokenised."""
    seconds: float
    """Seconds to read and tokenise everything."""
    disk: int
    """Bytes of the tokenised corpus, or of its catalogue."""
    memory: int
    """Peak bytes of the process while reading."""
    per_pass: float | None = None
    """Seconds to read and tokenise one example in each pass, if texts are streamed."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with the corpus of a plan."""

    name: str
    """The run's directory as given, or RUN if there is none yet."""
    lm: LanguageModel
    layers: Sequence[TrackedLayer]
    fit: FitOptions
    corpus: Corpus
    """The available examples: all, or a sample."""
    examples: int
    """N, the size of the whole corpus."""
    fitted_on: int
    """Number of examples that the curvature is fitted on."""
    reading: Reading | None = None
    """None if the corpus is already tokenised."""

    @cached_property
    def layout(self) -> Layout:
        """Layout of a sweep over the whole corpus."""
        return self._layout(self.examples)

    @cached_property
    def fit_layout(self) -> Layout:
        """Layout of a sweep over the examples that the curvature is fitted on."""
        return self._layout(self.fitted_on)

    @property
    def tokens(self) -> int:
        """Tokens of the whole corpus without padding."""
        return int(self.layout.lengths.sum())

    def stand_ins(self, count: int) -> list[int]:
        """Positions of available examples that represent `count` examples spread over the whole corpus."""
        return evenly_spaced(count, len(self.corpus)).tolist()

    def _layout(self, count: int) -> Layout:
        places = self.stand_ins(count)
        sweep = Sweep(stage="plan", lm=self.lm, layers=self.layers, sequences=self.corpus.sequences(places))
        return Layout(lengths_of(self.corpus)[places], sweep.shards(), sweep.token_budget)


def subject_of_run(run: Run, name: str, fit: FitOptions) -> Subject:
    """The subject of a run. Settings that `fit` leaves open are those of the run's curvature, if it is fitted.

    Raises HeadwaterError if the model lacks the layers, or if there is no example to fit on.
    """
    if run.paths.curvature.exists():
        fit = _as_fitted(fit, read_metadata(run.paths.curvature))
    layers = choose_layers(run.lm.model, fit.layers)
    fitted_on = _fitted_on(fit, run.corpus.counts.examples)
    return Subject(
        name=name, lm=run.lm, layers=layers, fit=fit, corpus=run.corpus, examples=len(run.corpus), fitted_on=fitted_on
    )


def subject_of_corpus(
    lm: LanguageModel,
    source: str | Path,
    options: CorpusOptions,
    *,
    fit: FitOptions,
    folder: Path,
    report: Report = silent,
) -> Subject:
    """The subject of a model and a corpus without a run. All records are read, and a sample is tokenised in `folder`.

    Raises CorpusError as a fit would, and HeadwaterError if the model lacks the layers.
    """
    layers = choose_layers(lm.model, fit.layers)
    path = folder / "corpus" / "examples.arrow"
    max_tokens = min(options.max_tokens or lm.max_positions, lm.max_positions)
    with Peak() as peak:
        start = time.perf_counter()
        records, total = spread_records(
            read_records(source, options.read, render=renderer(lm.tokenizer)), SAMPLED_RECORDS, report
        )
        with suppress(CorpusError):  # warm-up: the first write takes longer
            write_corpus(
                folder / "first.arrow", records[:20], lm.tokenizer, max_tokens=max_tokens, long_texts=options.long_texts
            )
        middle = time.perf_counter()
        counts = write_corpus(path, records, lm.tokenizer, max_tokens=max_tokens, long_texts=options.long_texts)
        end = time.perf_counter()
    share = total / len(records)
    examples = round(counts.examples * share)
    seconds = middle - start + (end - middle) * share
    disk, per_pass = round(path.stat().st_size * share), None
    if streams(source, options.read.stream):
        disk, per_pass = CATALOGUE_BYTES * examples, seconds / examples
    reading = Reading(
        records=total, sampled=len(records), seconds=seconds, disk=disk, memory=peak.bytes, per_pass=per_pass
    )
    return Subject(
        name="RUN",
        lm=lm,
        layers=layers,
        fit=fit,
        corpus=Corpus(path),
        examples=examples,
        fitted_on=_fitted_on(fit, examples),
        reading=reading,
    )


def spread_records(records: Iterable[Record], most: int, report: Report = silent) -> tuple[list[Record], int]:
    """(at most `most` evenly spaced records, total number), with at most `most` records in memory."""
    sample: list[Record] = []
    stride, total = 1, 0
    for record in records:
        if total % stride == 0:
            if len(sample) == most:
                del sample[1::2]
                stride *= 2
            if total % stride == 0:
                sample.append(record)
        total += 1
        if total % ROWS_PER_BATCH == 0:
            report(Step(stage="reading", done=total, total=total, tokens=0))
    return sample, total


def copy_examples(corpus: Corpus, positions: Sequence[int], path: Path) -> Corpus:
    """Write some examples of a corpus, in the given order, as a new corpus at `path`."""
    rows = [
        {
            "id": example.id,
            "text": example.text,
            "source": example.source,
            "metadata": json.dumps(example.metadata, ensure_ascii=False),
            "tokens": example.tokenized.input_ids,
            "ends": example.tokenized.ends,
        }
        for example in corpus.read(positions)
    ]
    tokens = sum(len(row["tokens"]) for row in rows)
    counts = CorpusCounts(
        records=len(rows), examples=len(rows), tokens=tokens, long=0, too_short=0, fingerprint="sample"
    )
    path.parent.mkdir(parents=True)
    schema = SCHEMA.with_metadata({"counts": json.dumps(asdict(counts))})
    with pa.ipc.new_file(str(path), schema) as writer:
        for start in range(0, len(rows), ROWS_PER_BATCH):
            writer.write_batch(pa.RecordBatch.from_pylist(rows[start : start + ROWS_PER_BATCH], schema=schema))
    return Corpus(path)


def _as_fitted(fit: FitOptions, metadata: dict[str, str]) -> FitOptions:
    settings = json.loads(metadata.get("settings", "{}"))
    layers = fit.layers or tuple(settings.get("layers") or ()) or None
    kind = settings.get("curvature", fit.curvature)
    examples = fit.fit_examples or settings.get("fit_examples")
    width = fit.block_width or settings.get("block_width")
    return replace(fit, layers=layers, curvature=kind, fit_examples=examples, block_width=width)


def _fitted_on(fit: FitOptions, total: int) -> int:
    wanted = total if fit.fit_examples is None else fit.fit_examples
    if wanted < 1:
        raise HeadwaterError(f"--fit-examples {wanted}: the curvature needs at least one example.")
    return min(wanted, total)
