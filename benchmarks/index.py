"""`python -m benchmarks.index`: recall, speed and build cost of the index.

Each stage runs in its own process. Runs and models are stored in `--work`, so that a stage can be repeated.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.index_recall import K, recall_stage
from benchmarks.index_runs import WIDTHS, WORLD, Corpora, seconds, whitened_queries
from headwater import configure_process
from headwater.attribution.index.build import COARSE_BYTES
from headwater.attribution.index.recall import in_memory
from headwater.attribution.index.search import LoadedSketches, SketchQuery, search
from headwater.attribution.index.sketch import sketch_of_width
from headwater.attribution.question import Question
from headwater.attribution.scores import WhitenedGradients
from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep, fold

SIZES = (20_000, 100_000, 300_000, 1_000_000)


# -- speed


def warm_stage(work: Path) -> None:
    """Print the time of a question with a loaded index, and from a cold start."""
    run, questions = Corpora(work).world()
    run.build_index(bytes=WIDTHS[0])
    run.ask(questions[0])
    times = [seconds(lambda q=question: run.ask(q)) for question in questions]
    whitened = whitened_queries(run, questions)
    settings = run.index.settings
    assert settings is not None
    loaded = run.index.loaded(run.corpus, settings.curvature)
    searched = [seconds(lambda row=row: search(loaded, SketchQuery(row), "influence", among=None)) for row in whitened]
    cold = median(_cold_question(run, questions[0]) for _ in range(3))
    late = np.quantile(times, 0.9)
    print(
        f"N = {len(run.corpus):,}, {settings.sketch.bytes:,} bytes: a warm question takes {median(times):.2f} s "
        f"(median of {len(times)}; 90 % within {late:.2f} s), including {1000 * median(searched):.0f} ms of search; "
        f"sketches take {loaded.memory / 1e6:.0f} MB. From a cold start, as a command: {cold:.1f} s."
    )


def _cold_question(run: Run, question: Question) -> float:
    command = [sys.executable, "-m", "headwater", "ask", str(run.path), question.prompt, question.completion, "--json"]
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def growth_stage(_: Path) -> None:
    """Time of the search alone, on synthetic sketches of the tiny world's width."""
    print("| sketches | search, median of 9 | coarse pass alone | sketches in memory |")
    print("|---|---|---|---|")
    sketch = sketch_of_width(148_416, WIDTHS[0])
    rng = np.random.default_rng(0)
    coarse, fine = (
        rng.integers(0, 256, (SIZES[-1], width), np.uint8) for width in (COARSE_BYTES, sketch.bytes - COARSE_BYTES)
    )
    row = rng.standard_normal(sketch.dimensions).astype(np.float32)
    for size in SIZES:
        ones, numbers = np.ones(size, np.float32), np.arange(size)
        loaded = LoadedSketches(
            sketch=sketch,
            table=None,  # pyright: ignore[reportArgumentType]
            row_ids=numbers,
            scales=ones,
            self_influence=ones,
            coarse=coarse[:size],
            fine=fine[:size],
            positions=numbers,
        )
        narrow = replace(loaded, sketch=sketch_of_width(sketch.dimensions, COARSE_BYTES), fine=fine[:size, :0])
        whole, first = (
            median(seconds(lambda x=x: search(x, SketchQuery(row), "influence", among=None)) for _ in range(9))
            for x in (loaded, narrow)
        )
        memory = loaded.memory / 1e9
        print(f"| {size:,} | {1000 * whole:,.0f} ms | {1000 * first:,.0f} ms | {memory:.2f} GB |", flush=True)


# -- building


def build_stage(work: Path) -> None:
    """Time of the index and of an exact scan, alternately on the same stories."""
    print("| corpus | bytes | index, s | scan of 8 queries, s | index / scan | bytes on disk per example, with text |")
    print("|---|---|---|---|---|---|")
    corpora = Corpora(work)
    for name, found, limit in (("real stories", corpora.stories(), 256), ("tiny world", corpora.world(), 2048)):
        if found is None:
            continue
        run, questions = _limited(work, name, found[0], limit), found[1][:8]
        for width in WIDTHS[:1] + WIDTHS[2:3]:
            _build_row(run, questions, width, name)


def _limited(work: Path, name: str, run: Run, limit: int) -> Run:
    """A run on the first examples of another run, with the same model."""
    options = CorpusOptions(ReadOptions(limit=limit))
    limited = Run.create(work / f"first-{limit}-{name[:4]}", run.lm, run.manifest.corpus.source, options=options)
    limited.fit(fit_examples=512)
    return limited


def _build_row(run: Run, questions: list[Question], width: int, name: str) -> None:
    ratios: list[float] = []
    times: list[tuple[float, float]] = []
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(4):
            output = Path(folder) / f"{turn}.parquet"
            named = [replace(question, id=f"q{k}") for k, question in enumerate(questions)]
            scan = seconds(lambda output=output, named=named: run.scan(named, output))
            index = seconds(lambda turn=turn: run.build_index(bytes=width, seed=turn + 1))
            if turn:  # the first turn warms up
                times.append((index, scan))
                ratios.append(index / scan)
        # Once more into an empty folder, without earlier versions on disk.
        run.build_index(bytes=width, store=str(Path(folder) / "index"))
        size = sum(file.stat().st_size for file in (Path(folder) / "index").rglob("*") if file.is_file())
        run.build_index(bytes=width, store=str(run.path / "index"))
    index, scan = (median(column) for column in zip(*times, strict=True))
    print(
        f"| {name}, N = {len(run.corpus):,} | {width:,} | {index:.1f} | {scan:.1f} | **{median(ratios):.2f}×** | "
        f"{size / len(run.corpus):,.0f} |",
        flush=True,
    )


def memory_stage(work: Path) -> None:
    """Peak memory of `headwater index` in separate processes."""
    print("| examples | peak MB of `headwater index` |")
    print("|---|---|")
    run, _ = Corpora(work).world()
    for limit in (2048, 8192, WORLD):
        limited = _limited(work, "tiny", run, limit)
        code = (
            "import resource, sys; from headwater.runs.run import Run; Run.open(sys.argv[1]).build_index(seed=9); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        command = [sys.executable, "-c", code, str(limited.path)]
        peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
        print(f"| {limit:,} | {peak:,.0f} |", flush=True)


# -- LanceDB's own search


def lance_stage(work: Path) -> None:
    """Headwater's search compared with LanceDB's on bits of the same width, exhaustive and approximate."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import IvfFlat

    run, questions = Corpora(work).world()
    curvature = run.curvature()
    limit, bits = 5000, 8192
    sequences = run.corpus.sequences(range(limit))
    rows = fold(
        Sweep(stage="", lm=run.lm, layers=curvature.layers, sequences=sequences), lambda: WhitenedGradients(curvature)
    ).values.numpy()
    queries = whitened_queries(run, questions)
    truth = [set(np.argsort(-(rows @ row))[:K].tolist()) for row in queries]
    rng = np.random.default_rng(0)
    place, sign = rng.integers(0, bits, rows.shape[1]), rng.choice([-1.0, 1.0], rows.shape[1])

    def packed(matrix: NDArray[Any]) -> NDArray[np.uint8]:
        folded = np.stack([np.bincount(place, row * sign, bits) for row in matrix])
        return np.packbits(folded > 0, axis=1)

    print("| search of 5,000 sketches of 1,024 bytes | ms per question | exact top 10 in the best 100 |")
    print("|---|---|---|")
    sketch = sketch_of_width(rows.shape[1], 1024)
    codes = sketch.encode(rows)
    loaded = in_memory(sketch, codes.scales, np.square(np.linalg.norm(rows, axis=1)), codes=codes.codes)

    def ours(row: NDArray[Any]) -> list[int]:
        found = search(loaded, SketchQuery(row), "influence", among=None)
        return found.positions[np.argsort(-found.estimates)[:100]].tolist()

    _lance_row("Headwater, exhaustive, in memory", ours, queries, truth)
    with tempfile.TemporaryDirectory() as folder:
        flat = pa.array(packed(rows).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, bits // 8)
        table: Any = lancedb.connect(folder).create_table(
            "bits", pa.table({"key": np.arange(limit), "vector": vectors})
        )

        def lances(row: NDArray[Any], probes: int | None = None) -> list[int]:
            query = table.search(packed(row[None])[0], vector_column_name="vector").distance_type("hamming").limit(100)
            query = query if probes is None else query.nprobes(probes)
            return query.select(["key", "_distance"]).to_arrow().column("key").to_pylist()

        _lance_row("LanceDB, Hamming distance, exhaustive", lances, queries, truth)
        table.create_index("vector", config=IvfFlat(distance_type="hamming", num_partitions=64))
        for probes in (8, 32):
            name = f"LanceDB, IVF_FLAT, {probes} of 64 lists probed"
            _lance_row(name, lambda row, probes=probes: lances(row, probes), queries, truth)


def _lance_row(name: str, find: Callable[[Any], list[int]], queries: NDArray[Any], truth: list[set[int]]) -> None:
    find(queries[0])  # warm-up
    times: list[float] = []
    recalls: list[float] = []
    for row, right in zip(queries, truth, strict=True):
        start = time.perf_counter()
        found = find(row)
        times.append(time.perf_counter() - start)
        recalls.append(len(right & set(found)) / K)
    print(f"| {name} | {1000 * median(times):.1f} | {np.mean(recalls):.3f} |", flush=True)


STAGES: dict[str, Callable[[Path], None]] = {
    "recall": recall_stage,
    "warm": warm_stage,
    "growth": growth_stage,
    "build": build_stage,
    "memory": memory_stage,
    "lance": lance_stage,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder of runs and models; default: a temporary folder")
    parser.add_argument("--stage", choices=STAGES)
    given = parser.parse_args()
    if given.stage and given.work:
        STAGES[given.stage](given.work)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"({given.stage}: peak {peak:,.0f} MB)", file=sys.stderr)
        return
    print(f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    with tempfile.TemporaryDirectory() as folder:
        work = given.work or Path(folder)
        for stage in [given.stage] if given.stage else STAGES:
            print(f"## {stage}\n", flush=True)
            command = [sys.executable, "-m", "benchmarks.index", "--work", str(work), "--stage", stage]
            subprocess.run(command, check=True, env=os.environ)
            print(flush=True)


if __name__ == "__main__":
    configure_process()
    main()
