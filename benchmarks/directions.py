"""`python -m benchmarks.directions`: recall and cost of sketches that use only some eigenvectors of each layer.

Recall is measured against an exact scan, with the two stages of an answer, on a trained model and real stories (the
tiny world's if there are none). Cost is measured on a wider model with random weights. The tables are written to
docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.index_recall import two_stages
from benchmarks.index_runs import Corpora
from benchmarks.page import processor, put_between
from benchmarks.texts import texts
from headwater import configure_process
from headwater.attribution.index.build import Sketches
from headwater.attribution.index.recall import Found
from headwater.attribution.index.search import make_sketch_query, search
from headwater.attribution.index.sketch import sketch_of_width
from headwater.attribution.preconditioned import question_gradients
from headwater.attribution.scores import Scores
from headwater.corpus.options import CorpusOptions
from headwater.curvature.truncated import truncate
from headwater.lm.load import wrap_model
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep, fold

PAGE = Path("docs/scaling.md")
BEGIN, END = "<!-- directions: written by python -m benchmarks.directions -->", "<!-- directions: end -->"
FEWER = (8, 16, 32, 64)
WIDER = (32, 64, 128, 256)
K, ROUNDS = 10, 3


def sketch_recall(work: Path) -> list[str]:
    """The table of recall by number of directions."""
    corpora = Corpora(work)
    run, questions = corpora.stories() or corpora.world()
    curvature = run.curvature()
    weights = question_gradients(run.lm, curvature.layers, questions, curvature=curvature)
    sweep = Sweep(stage="scores", lm=run.lm, layers=curvature.layers, sequences=run.corpus.sequences())
    exact = fold(sweep, lambda: Scores(weights)).values.numpy()
    lines = [
        f"Recall of the exact top {K} proponents and opponents. {len(run.corpus):,} stories, {len(questions)} "
        f"questions, sketches of 8,192 bytes, D = {curvature.dimensions:,} in layers of 64 and 256.",
        "",
        "| directions | numbers sketched | share of I(z, z) | recall | lowest | scored exactly | in the best 100 |",
        "|---|---|---|---|---|---|---|",
    ]
    for count in (*FEWER, 0):
        run.build_index(directions=count, bytes=8192)
        loaded = run.index.loaded(run.corpus, run.index.settings.curvature if run.index.settings else {})
        found: list[Found] = []
        first: list[float] = []
        for q in range(len(questions)):
            one = {name: w[q : q + 1] for name, w in weights.items()}
            sketch_query = make_sketch_query(curvature, one, count)
            found.append(two_stages(loaded, sketch_query, exact[:, q], "influence"))
            estimates = search(loaded, sketch_query, "influence", among=None).estimates
            order = np.argsort(estimates)
            first.append(_among(exact[:, q], order[-100:], order[:100]))
        truncated = truncate(curvature, count)
        lines.append(
            f"| {count or 'all'} | {truncated.dimensions:,} | {truncated.share:.2f} | "
            f"{np.mean([r.recall for r in found]):.3f} | {min(r.recall for r in found):.2f} | "
            f"{np.mean([r.scored for r in found]):.0f} | {np.mean(first):.3f} |"
        )
    return [
        *lines,
        "",
        f"Last column: share of the exact top {K} among the 100 with the highest (lowest) estimates.",
    ]


def _among(exact: NDArray[Any], highest: NDArray[Any], lowest: NDArray[Any]) -> float:
    order = np.argsort(exact)
    return (len({*order[-K:]} & {*highest}) + len({*order[:K]} & {*lowest})) / (2 * K)


def sketch_cost(work: Path) -> list[str]:
    """The table of time by number of directions."""
    tokenizer, _, _ = texts(10)
    torch.manual_seed(0)
    width, layers = 768, 2
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=width, n_layer=layers, n_head=12, n_positions=256)
    )
    path = work / "wide.jsonl"
    _, sequences, _ = texts(128)
    path.write_text("\n".join(json.dumps({"text": tokenizer.decode(s.input_ids)}) for s in sequences))
    run = Run.create(work / "wide", wrap_model(model, tokenizer), path, options=CorpusOptions(max_tokens=128))
    run.fit()
    curvature = run.curvature()
    seconds: dict[int, list[float]] = {count: [] for count in (*WIDER, 0)}
    for _ in range(ROUNDS):
        for count, times in seconds.items():
            truncated = truncate(curvature, count)
            sketch = sketch_of_width(truncated.dimensions, 8192)
            sweep = Sweep(stage="index", lm=run.lm, layers=curvature.layers, sequences=run.corpus.sequences())
            start = time.perf_counter()
            fold(sweep, lambda truncated=truncated, sketch=sketch: Sketches(truncated, sketch))
            times.append(time.perf_counter() - start)
    whole = float(np.median(seconds[0]))
    lines = [
        f"Time. {layers} layers of {width} and {4 * width}, random weights, {len(run.corpus)} texts of at most 128 "
        f"tokens, sketches of 8,192 bytes, medians of {ROUNDS}.",
        "",
        "| directions | numbers sketched | seconds | share of the time for all |",
        "|---|---|---|---|",
    ]
    for count, times in seconds.items():
        middle = float(np.median(times))
        lines.append(
            f"| {count or 'all'} | {truncate(curvature, count).dimensions:,} | {middle:.1f} | {middle / whole:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["cost", "recall"], help="print only this part, without writing the page")
    only = parser.parse_args().only
    with TemporaryDirectory() as folder:
        lines = [f"{date.today()}, {processor()}, 2 cores.", ""]
        for name, part in (("cost", sketch_cost), ("recall", sketch_recall)):
            lines += [*part(Path(folder)), ""] if only in (None, name) else []
        print("\n".join(lines), flush=True)
    if only is None:
        put_between(PAGE, BEGIN, END, "\n".join(lines).rstrip())


if __name__ == "__main__":
    configure_process()
    main()
