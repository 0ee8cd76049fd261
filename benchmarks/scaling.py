"""`python -m benchmarks.scaling`: time of a fit and an index by examples, length, width and workers.

Each point is a new run of a random GPT-2-like model over real stories (the tiny world's if there are none). Times are
compared with a count of multiplications, to validate the count for models that do not fit on this machine. The table
is written to docs/scaling.md, and the plots to docs/pictures/scaling.svg.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.page import processor, put_between
from benchmarks.texts import texts
from headwater import configure_process
from headwater.corpus.options import CorpusOptions
from headwater.plan.paper import Shapes, shapes_of
from headwater.runs.run import Run
from headwater.sweep.options import Workers
from headwater.sweep.ray_engine import RayEngine

PAGE, PICTURE = Path("docs/scaling.md"), Path("docs/pictures/scaling.svg")
BEGIN, END = "<!-- scaling: written by python -m benchmarks.scaling -->", "<!-- scaling: end -->"
LAYERS = 2


@dataclass(frozen=True, kw_only=True)
class ScalingRun:
    """One run: its size and measured times."""

    examples: int = 128
    tokens: int = 128
    """Tokens per example."""
    width: int = 256
    workers: int = 0
    """Ray workers with one thread each; 0 is this process with two threads."""
    fit: float = 0.0
    """Seconds of the fit."""
    index: float = 0.0
    """Seconds of the index."""


SERIES: dict[str, Sequence[ScalingRun]] = {
    "examples": [ScalingRun(examples=n) for n in (64, 128, 256, 512)],
    "tokens an example": [ScalingRun(tokens=t) for t in (32, 64, 128, 256)],
    "width": [ScalingRun(width=h) for h in (128, 256, 384, 512, 768)],
    "workers": [ScalingRun(examples=512 * w, workers=w) for w in (1, 2)],
}


def multiplications(point: ScalingRun, shapes: Shapes) -> tuple[float, float]:
    """(fit, index), counted as in `headwater estimate` without decompositions. One process runs the model once."""
    count = point.examples * point.tokens
    model, rotation = shapes.model(point.tokens), shapes.rotation(point.tokens)
    passes = 2 if point.workers else 1
    return count * (passes * model + shapes.covariances(None) + rotation), count * (model + rotation)


def configured(point: ScalingRun, vocabulary: int) -> GPT2Config:
    return GPT2Config(
        vocab_size=vocabulary, n_embd=point.width, n_layer=LAYERS, n_head=point.width // 32, n_positions=256
    )


def shapes(point: ScalingRun, vocabulary: int) -> Shapes:
    with TemporaryDirectory() as folder:
        configured(point, vocabulary).save_pretrained(folder)
        return shapes_of(folder)


def timed_run(point: ScalingRun, folder: Path, tokenizer: Any, lines: Sequence[str]) -> ScalingRun:
    """The same run with measured times."""
    torch.manual_seed(0)
    GPT2LMHeadModel(configured(point, len(tokenizer))).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    records = [json.dumps({"id": str(k), "text": line}) for k, line in enumerate(lines[: point.examples])]
    (folder / "corpus.jsonl").write_text("\n".join(records), encoding="utf-8")
    options = CorpusOptions(max_tokens=point.tokens)
    run = Run.create(folder / "run", str(folder / "model"), folder / "corpus.jsonl", options=options)
    assert run.corpus.counts.tokens == point.examples * point.tokens
    with ExitStack() as stack:
        if point.workers:
            run = run.using(engine=stack.enter_context(RayEngine(Workers(point.workers))))
            list(run.execution.engine.map(abs, range(4 * point.workers)))  # wait until all have started
        start = time.perf_counter()
        run.fit()
        middle = time.perf_counter()
        run.build_index()
        return replace(point, fit=middle - start, index=time.perf_counter() - middle)


def long_lines(count: int) -> tuple[Any, list[str]]:
    """A tokenizer, and texts of more than 256 tokens, joined from neighbouring stories."""
    tokenizer, sequences, _ = texts(900)
    stories = [tokenizer.decode(sequence.input_ids) for sequence in sequences]
    lines = [" ".join(stories[(k + j) % len(stories)] for j in range(8)) for k in range(count)]
    return tokenizer, lines


def table(found: dict[str, list[ScalingRun]], vocabulary: int) -> str:
    lines = [
        f"{date.today()}, {processor()}, 2 cores. {LAYERS} layers, V = {vocabulary:,}, every MLP linear tracked.",
        "",
        "| examples | tokens each | width | workers | fit, s | fit, 10⁹ mult./s | index, s | index, 10⁹ mult./s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for point in dict.fromkeys(point for points in found.values() for point in points):
        fit, index = multiplications(point, shapes(point, vocabulary))
        lines.append(
            f"| {point.examples} | {point.tokens} | {point.width} | {point.workers or '–'} | {point.fit:.1f} | "
            f"{fit / point.fit / 1e9:.0f} | {point.index:.1f} | {index / point.index / 1e9:.0f} |"
        )
    return "\n".join(lines)


def plot(found: dict[str, list[ScalingRun]]) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(12, 3), layout="constrained")
    for (name, points), axis in zip(found.items(), axes, strict=True):
        at = [{"examples": p.examples, "width": p.width, "workers": p.workers}.get(name, p.tokens) for p in points]
        for what, colour in (("fit", "#1F5F99"), ("index", "#8A4B08")):
            axis.plot(at, [getattr(p, what) for p in points], "o-", color=colour, label=what)
        axis.set(xlabel=name if name != "workers" else "workers, 512 examples each", ylim=(0, None), xticks=at)
        axis.set_xticks(at, [str(x) for x in at])
    axes[0].set_ylabel("seconds")
    axes[0].legend(frameon=False)
    figure.savefig(PICTURE)


def points(tokenizer: Any, lines: Sequence[str]) -> Iterator[tuple[str, list[ScalingRun]]]:
    known: dict[ScalingRun, ScalingRun] = {}
    for name, series in SERIES.items():
        for point in series:
            if point not in known:
                with TemporaryDirectory() as folder:
                    known[point] = timed_run(point, Path(folder), tokenizer, lines)
                print(known[point], flush=True)
        yield name, [known[point] for point in series]


def main() -> None:
    tokenizer, lines = long_lines(1024)
    with TemporaryDirectory() as folder:
        timed_run(ScalingRun(examples=16), Path(folder), tokenizer, lines)  # warm-up: loads and compiles
    found = dict(points(tokenizer, lines))
    text = table(found, len(tokenizer))
    print(text)
    plot(found)
    put_between(PAGE, BEGIN, END, text)


if __name__ == "__main__":
    configure_process()
    main()
