"""`python -m benchmarks.directions`: what sketches of some directions alone find, and what they cost.

Recall is measured on the trained model and real stories (the tiny world's where there are none) through `Run.ask`,
against an exact scan. Cost is measured on a wider model of random weights. The tables go to docs/scaling.md.
"""

from __future__ import annotations

import json
import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.index_recall import recall_of
from benchmarks.index_runs import Corpora
from benchmarks.page import processor, put_between
from benchmarks.texts import texts
from headwater.curvature.narrow import along
from headwater.index.build import Sketches
from headwater.index.sketch import sketch_of_width
from headwater.influence.question import question_gradients
from headwater.influence.scores import Scores
from headwater.lm.load import wrap_model
from headwater.run import CorpusOptions, Run
from headwater.sweep.sweep import Sweep, fold

PAGE = Path("docs/scaling.md")
BEGIN, END = "<!-- directions: written by python -m benchmarks.directions -->", "<!-- directions: end -->"
FEWER = (8, 16, 32, 64)
WIDER = (32, 64, 128, 256)
ASKED, K, ROUNDS = 16, 10, 3


def recall(work: Path) -> list[str]:
    corpora = Corpora(work)
    run, questions = corpora.stories() or corpora.world()
    questions = questions[:ASKED]
    curvature = run.curvature()
    weights = question_gradients(run.lm, curvature.layers, questions, curvature)
    sweep = Sweep("scores", run.lm, curvature.layers, run.corpus.sequences())
    exact = fold(sweep, lambda: Scores(weights)).values.numpy()
    lines = [
        f"{len(run.corpus):,} stories, {len(questions)} questions, the exact top {K} at both ends, D = "
        f"{curvature.dimensions:,}; layers of 64 and 256:",
        "",
        "| directions | numbers sketched | share of I(z, z) | recall | worst question | scored exactly: mean, most |",
        "|---|---|---|---|---|---|",
    ]
    for count in (*FEWER, 0):
        run.build_index(directions=count, bytes=8192)
        recalls, scored = [], []
        for q, question in enumerate(questions):
            answer = run.ask(question, k=K, fold=False)
            shown = [[run.corpus.position[e.id] for e in end] for end in (answer.proponents, answer.opponents)]
            recalls.append(recall_of(shown, exact[:, q]))
            scored.append(answer.examples_scored)
        seen = along(curvature, count)
        lines.append(
            f"| {count or 'all'} | {seen.dimensions:,} | {seen.share:.2f} | {np.mean(recalls):.3f} | "
            f"{min(recalls):.2f} | {np.mean(scored):.0f}, {max(scored)} |"
        )
    return lines


def cost(work: Path) -> list[str]:
    tokenizer, _, _ = texts(10)
    torch.manual_seed(0)
    width, layers = 768, 2
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=width, n_layer=layers, n_head=12, n_positions=256)
    )
    path = work / "wide.jsonl"
    _, sequences, _ = texts(128)
    path.write_text("\n".join(json.dumps({"text": tokenizer.decode(s.input_ids)}) for s in sequences))
    run = Run.create(work / "wide", wrap_model(model, tokenizer), path, CorpusOptions(max_tokens=128))
    run.fit()
    curvature = run.curvature()
    seconds: dict[int, list[float]] = {count: [] for count in (*WIDER, 0)}
    for _ in range(ROUNDS):
        for count, taken in seconds.items():
            seen = along(curvature, count)
            sketch = sketch_of_width(seen.dimensions, 8192)
            sweep = Sweep("index", run.lm, curvature.layers, run.corpus.sequences())
            start = time.perf_counter()
            fold(sweep, lambda seen=seen, sketch=sketch: Sketches(seen, sketch))
            taken.append(time.perf_counter() - start)
    whole = float(np.median(seconds[0]))
    lines = [
        f"{layers} layers of {width} and {4 * width}, random weights, {len(run.corpus)} texts of at most 128 tokens, "
        f"sketches of 8,192 bytes, median of {ROUNDS}:",
        "",
        "| directions | numbers sketched | seconds | of all directions |",
        "|---|---|---|---|",
    ]
    for count, taken in seconds.items():
        middle = float(np.median(taken))
        lines.append(
            f"| {count or 'all'} | {along(curvature, count).dimensions:,} | {middle:.1f} | {middle / whole:.2f} |"
        )
    return lines


def main() -> None:
    with TemporaryDirectory() as folder:
        lines = [f"{date.today()}, {processor()}, 2 cores.", ""]
        for part in (cost, recall):
            lines += [*part(Path(folder)), ""]
            print("\n".join(lines), flush=True)
    put_between(PAGE, BEGIN, END, "\n".join(lines).rstrip())


if __name__ == "__main__":
    main()
