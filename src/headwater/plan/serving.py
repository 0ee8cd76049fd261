"""Probes the index, the scan and questions on a fitted miniature."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from headwater.attribution.ask import ask_index
from headwater.attribution.context import AttributionContext
from headwater.attribution.index.build import COARSE_BYTES, IndexWork, bring_up_to_date
from headwater.attribution.index.columns import field_types
from headwater.attribution.index.rescore import SCORED_TOGETHER
from headwater.attribution.index.search import (
    MEMORY_SHARE,
    LoadedSketches,
    SketchQuery,
    load_sketches,
    make_sketch_query,
    search,
)
from headwater.attribution.index.sketch import Sketch
from headwater.attribution.index.table import (
    create_table,
    open_table,
    table_rows,
    table_schema,
)
from headwater.attribution.options import AskOptions
from headwater.attribution.preconditioned import PreconditionedQueries, precondition, question_gradients
from headwater.attribution.question import Question, make_question
from headwater.attribution.scan import Scan, scan_corpus
from headwater.base.byte_sizes import size_of
from headwater.base.memory_probe import Peak
from headwater.curvature.base import Curvature
from headwater.curvature.truncated import TruncatedCurvature
from headwater.errors import HeadwaterError
from headwater.plan.layout import Layout, evenly_spaced
from headwater.plan.miniature import Miniature
from headwater.plan.timing import Clock, SweepCost, seconds_of
from headwater.sweep.execution import Execution

TABLE_ROWS, TABLE_BYTES = 2000, 1 << 26
"""Maximum rows and bytes of sketches of the probed table."""
QUESTIONS = 5
COMPLETION_TOKENS = 24
SEARCHED_BYTES = 1 << 27
"""Maximum bytes of the sketches on which a search is timed."""


@dataclass(frozen=True, kw_only=True)
class IndexProbe:
    """Measurements of indexing the miniature."""

    sweep: SweepCost
    mini: Layout
    words: float
    """Seconds per example of the full-text index."""
    memory: int
    row_bytes: float
    """Bytes per example in the table, including the full-text index."""

    def seconds(self, layout: Layout, per_example: float) -> float:
        """Seconds of an index over `layout`. Finishing a shard writes its rows. The corpus is read twice more, for its
        columns and its texts."""
        rows = self.sweep.per_shard * len(self.mini.shards) / self.mini.examples + self.words + 2 * per_example
        return replace(self.sweep, per_shard=0.0).seconds(layout) + rows * layout.examples


def probe_index(mini: Miniature, curvature: Curvature | TruncatedCurvature, sketch: Sketch) -> IndexProbe:
    """Index the miniature, and write a table with up to 2,000 texts of the corpus."""
    clock = Clock()
    url = str(mini.folder / "index")
    work = IndexWork(
        lm=mini.subject.lm,
        corpus=mini.corpus,
        curvature=curvature,
        sketch=sketch,
        url=url,
        binding="{}",
        execution=Execution(report=clock),
    )
    with Peak() as peak:
        start = time.perf_counter()
        columns = seconds_of(lambda: field_types(mini.corpus, range(len(mini.corpus))))
        bring_up_to_date(work)
        end = clock.begun["full-text index"]
        cost = mini.cost_of_sweep(clock, "index", start + columns, end=end)
        words, row_bytes = _probe_table(mini, sketch)
    return IndexProbe(sweep=cost, mini=mini.layout, words=words, memory=peak.bytes, row_bytes=row_bytes)


def _probe_table(mini: Miniature, sketch: Sketch) -> tuple[float, float]:
    """(seconds, bytes) per example of a table of real texts with random codes as sketches."""
    corpus = mini.subject.corpus
    count = max(1, min(len(corpus), mini.subject.examples, TABLE_ROWS, TABLE_BYTES // sketch.bytes))
    examples = list(corpus.read(evenly_spaced(count, len(corpus)).tolist()))
    types = field_types(corpus, evenly_spaced(count, len(corpus)).tolist())
    coarse = min(COARSE_BYTES, sketch.bytes)
    folder = mini.folder / "table"
    table = create_table(str(folder), table_schema(types, coarse, sketch.bytes - coarse, binding="{}"))
    codes = np.random.default_rng(0).integers(0, 256, (count, sketch.bytes), dtype=np.uint8)
    numbers = np.random.default_rng(1).random((count, 3), dtype=np.float32)
    table.append(table_rows(table.lance.schema, np.arange(count), examples, codes=codes, numbers=numbers))
    seconds = seconds_of(table.tidy)
    return seconds / count, size_of(folder) / count


@dataclass(frozen=True, kw_only=True)
class ScanProbe:
    """Measurements of scanning the miniature."""

    sweep: SweepCost
    mini: Layout
    once: float
    """Seconds for the queries' gradients."""
    memory: int
    row_bytes: float
    """Bytes per example in the Parquet file."""

    def seconds(self, layout: Layout) -> float:
        rows = self.sweep.per_shard * len(self.mini.shards) / self.mini.examples
        return self.once + replace(self.sweep, per_shard=0.0).seconds(layout) + rows * layout.examples


def probe_scan(mini: Miniature, curvature: Curvature, queries: int) -> ScanProbe:
    """Scan the miniature for a number of queries, which are continuations of its own texts."""
    questions = questions_from(mini, queries)
    clock = Clock()
    output = mini.folder / "scores.parquet"
    with Peak() as peak:
        start = time.perf_counter()
        gradients = question_gradients(mini.subject.lm, curvature.layers, questions, curvature=curvature)
        once = time.perf_counter() - start
        scan = Scan(
            corpus=mini.corpus,
            query_ids=[question.id for question in questions],
            preconditioned=PreconditionedQueries(gradients),
            tokens=False,
            binding="probe",
        )
        start = time.perf_counter()
        scan_corpus(scan, replace(mini.sweep, stage="scan"), output, report=clock)
        cost = mini.cost_of_sweep(clock, "scan", start, end=time.perf_counter())
    return ScanProbe(sweep=cost, mini=mini.layout, once=once, memory=peak.bytes, row_bytes=_scores_bytes(mini, scan))


def _scores_bytes(mini: Miniature, scan: Scan) -> float:
    """Bytes per row of a file of scores, measured on ids and random numbers of one shard."""
    count = min(mini.subject.layout.shard_examples, len(mini.subject.corpus))
    numbers = np.random.default_rng(0).standard_normal((count, len(scan.query_ids))).astype(np.float32)
    columns: dict[str, Any] = {"id": mini.subject.corpus.ids[:count]}
    columns |= {query: numbers[:, q] for q, query in enumerate(scan.query_ids)}
    path = mini.folder / "numbers.parquet"
    pq.write_table(pa.table(columns, schema=scan.schema), path)
    return path.stat().st_size / count


@dataclass(frozen=True)
class QuestionProbe:
    """Measurements of questions on the miniature."""

    fixed: float
    """Seconds of a question without the search."""
    per_example: float
    """Seconds per searched example."""
    memory: int
    """Peak bytes of the process without sketches."""


def probe_question(mini: Miniature, curvature: Curvature, sketch: Sketch, *, directions: int = 0) -> QuestionProbe:
    """Answer a few questions from the miniature's index. The first only warms up.

    The number of scored candidates depends on how much the top examples stand out. The top ten of the whole corpus are
    as rare as the top few of the miniature, so `k` is scaled down.
    """
    context = AttributionContext(mini.subject.lm, mini.corpus, curvature)
    share = min(1.0, len(mini.corpus) / mini.subject.examples)
    options = AskOptions(k=max(1, round(AskOptions().k * share)))
    table = open_table(str(mini.folder / "index"))
    assert table is not None
    loaded = load_sketches(table, mini.corpus, sketch, memory=_memory(), directions=directions)
    with Peak() as peak:
        timed = [_time_question(context, one, options, loaded=loaded) for one in questions_from(mini, QUESTIONS + 1)]
    one, queries = questions_from(mini, 1), list[SketchQuery]()

    def make_query() -> None:
        gradients = precondition(context, one, options).dense()
        queries.append(make_sketch_query(curvature, gradients, directions))

    query_seconds = seconds_of(make_query)
    few, many = (_tiled(loaded, count) for count in (len(loaded), _search_size(mini, sketch)))
    short, long = (median(_search_seconds(part, queries[0]) for _ in range(3)) for part in (few, many))
    per_example = max(0.0, long - short) / max(1, len(many) - len(few))
    unscored = query_seconds + short
    seconds = [
        unscored + max(0.0, total - unscored) * _candidate_growth(scored, len(loaded), share)
        for total, scored in timed[1:]
    ]
    return QuestionProbe(
        fixed=max(0.0, median(seconds) - short),
        per_example=per_example if per_example else long / len(many),
        memory=peak.bytes,
    )


def _time_question(
    context: AttributionContext, question: Question, options: AskOptions, *, loaded: LoadedSketches
) -> tuple[float, int]:
    """(seconds of a question, number of examples scored exactly)."""
    start = time.perf_counter()
    answer = ask_index(context, question, options, loaded=loaded)
    return time.perf_counter() - start, answer.examples_scored


def _candidate_growth(scored: int, count: int, share: float) -> float:
    """Candidates of the whole corpus divided by the `scored` candidates of a miniature of `count` examples.

    If one wave of candidates was enough, it is also enough for the corpus. Otherwise the candidates grow with the
    corpus, up to the maximum of an answer.
    """
    if scored <= SCORED_TOGETHER < count:
        return 1.0
    return max(1.0, min(scored / share, AskOptions().candidates) / scored)


def _search_size(mini: Miniature, sketch: Sketch) -> int:
    return max(2 * len(mini.corpus), min(mini.subject.examples, SEARCHED_BYTES // sketch.bytes))


def _search_seconds(loaded: LoadedSketches, sketch_query: SketchQuery) -> float:
    return seconds_of(lambda: search(loaded, sketch_query, "influence", among=None))


def _tiled(loaded: LoadedSketches, count: int) -> LoadedSketches:
    """`count` sketches, made by repeating the given ones."""
    places = np.arange(count) % len(loaded)
    assert loaded.coarse is not None
    assert loaded.fine is not None
    return replace(
        loaded,
        scales=loaded.scales[places],
        self_influence=loaded.self_influence[places],
        coarse=loaded.coarse[places],
        fine=loaded.fine[places],
    )


def questions_from(mini: Miniature, count: int) -> list[Question]:
    """Questions from the miniature's texts, each about the tokens after the first half of a text.

    Raises HeadwaterError if no text can be split into a prompt and a completion.
    """
    found: list[Question] = []
    for place in evenly_spaced(4 * count, len(mini.corpus)).tolist():
        pieces = mini.corpus[place].pieces
        half = len(pieces) // 2
        prompt, completion = "".join(pieces[:half]), "".join(pieces[half : half + COMPLETION_TOKENS])
        try:
            found.append(make_question(mini.subject.lm, prompt, completion, id=f"q{len(found)}"))
        except HeadwaterError:
            continue
        if len(found) == count:
            return found
    if not found:
        raise HeadwaterError("No text of the corpus can be split into a prompt and a completion to probe a question.")
    return [replace(found[k % len(found)], id=f"q{k}") for k in range(count)]


def _memory() -> int:
    return int(psutil.virtual_memory().available * MEMORY_SHARE)
