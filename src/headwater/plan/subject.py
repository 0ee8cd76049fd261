"""What a plan is made for: a run, or a model and a corpus of which only a sample is tokenised."""

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
"""Of a corpus that is not tokenised yet, at most so many records are."""
CATALOGUE_BYTES = 60
"""About what a catalogue takes for an example."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a corpus that is not tokenised yet was sampled, and what tokenising all of it costs."""

    records: int
    """Good records in the whole corpus."""
    sampled: int
    """Records that were tokenised."""
    seconds: float
    """To read and tokenise everything."""
    disk: int
    """Bytes of the tokenised corpus, or of its catalogue."""
    memory: int
    """Bytes that the process held at most while reading."""
    again: float | None = None
    """Seconds to read and tokenise one example anew in every pass, where texts are streamed."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with the corpus that is to be swept."""

    name: str
    """The run's directory as it was given, or RUN where there is none yet."""
    lm: LanguageModel
    layers: Sequence[TrackedLayer]
    fit: FitOptions
    corpus: Corpus
    """The examples at hand: all, or a sample."""
    examples: int
    """N of the whole corpus."""
    fitted_on: int
    """Examples that the curvature is fitted on."""
    reading: Reading | None = None
    """None where the corpus is tokenised already."""

    @cached_property
    def layout(self) -> Layout:
        """Of a sweep over the whole corpus."""
        return self._layout(self.examples)

    @cached_property
    def fit_layout(self) -> Layout:
        """Of a sweep over the examples that the curvature is fitted on."""
        return self._layout(self.fitted_on)

    @property
    def tokens(self) -> int:
        """Real tokens of the whole corpus."""
        return int(self.layout.lengths.sum())

    def at_hand(self, count: int) -> list[int]:
        """For `count` examples spread over the whole corpus: which of those at hand stands for each."""
        return evenly_spaced(count, len(self.corpus)).tolist()

    def _layout(self, count: int) -> Layout:
        places = self.at_hand(count)
        sweep = Sweep(stage="plan", lm=self.lm, layers=self.layers, sequences=self.corpus.sequences(places))
        return Layout(lengths_of(self.corpus)[places], sweep.shards(), sweep.token_budget)


def subject_of_run(run: Run, name: str, fit: FitOptions) -> Subject:
    """A run; where it is fitted and `fit` names no layers or number of examples, those it was fitted with.

    Raises HeadwaterError for layers that the model has not, or no example to fit on.
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
    """A model and a corpus that no run was made of: all records are read, a sample of them is tokenised in `folder`.

    Raises CorpusError as a fit would, and HeadwaterError for layers that the model has not.
    """
    layers = choose_layers(lm.model, fit.layers)
    path = folder / "corpus" / "examples.arrow"
    max_tokens = min(options.max_tokens or lm.max_positions, lm.max_positions)
    with Peak() as peak:
        start = time.perf_counter()
        records, total = spread_records(
            read_records(source, options.read, render=renderer(lm.tokenizer, options.read)), SAMPLED_RECORDS, report
        )
        with suppress(CorpusError):  # the first writing takes longer, however much there is to write
            write_corpus(
                folder / "first.arrow", records[:20], lm.tokenizer, max_tokens=max_tokens, long_texts=options.long_texts
            )
        middle = time.perf_counter()
        counts = write_corpus(path, records, lm.tokenizer, max_tokens=max_tokens, long_texts=options.long_texts)
        end = time.perf_counter()
    share = total / len(records)
    examples = round(counts.examples * share)
    seconds = middle - start + (end - middle) * share
    disk, again = round(path.stat().st_size * share), None
    if streams(source, options.read.stream):
        disk, again = CATALOGUE_BYTES * examples, seconds / examples
    reading = Reading(records=total, sampled=len(records), seconds=seconds, disk=disk, memory=peak.bytes, again=again)
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
    """At most `most` of the records, evenly spread, and how many there are in all; keeps no more in memory."""
    kept: list[Record] = []
    stride, total = 1, 0
    for record in records:
        if total % stride == 0:
            if len(kept) == most:
                del kept[1::2]
                stride *= 2
            if total % stride == 0:
                kept.append(record)
        total += 1
        if total % ROWS_PER_BATCH == 0:
            report(Step(stage="reading", done=total, total=total, tokens=0))
    return kept, total


def copy_examples(corpus: Corpus, positions: Sequence[int], path: Path) -> Corpus:
    """A corpus of its own, at `path`, of some examples of another, in the order given."""
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
