"""`python -m benchmarks.stages`: what fit and scan cost, in units of one bare forward–backward over the same text.

Each stage runs in a process of its own, alternating with the floor, so that both see the same machine. The floor is
one forward and one backward pass with frozen weights, through our own fused head and attention, over the very batches
of the stage.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from statistics import median

import torch
import transformers

from benchmarks.shapes import SHAPES, build, texts
from headwater.corpus.batches import Batch, TokenSequence, make_batches
from headwater.curvature.covariances import Covariances
from headwater.curvature.eigen import Eigenvalues, eigendecompose
from headwater.influence.scores import QueryGradients, Scores, TokenScores, of_rank
from headwater.lm.capture import Labels
from headwater.lm.head import head_pass
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import Sweep, fold

STAGES = (
    "covariances",
    "eigendecomposition",
    "eigenvalues",
    "scan of 8 queries",
    "scan of 8 queries of rank 32",
    "per-token scan of 8 queries",
)
QUERIES = 8


@dataclass(frozen=True)
class Measured:
    shape: str
    stage: str
    seconds: float
    floor_seconds: float
    tokens: int
    peak_mb: float


def bare_pass(lm: LanguageModel, batch: Batch) -> None:
    """Forward and backward with frozen weights; the gradient flows down to the embeddings, nothing is caught."""
    ids = torch.from_numpy(batch.input_ids)
    embedded = lm.model.get_input_embeddings()(ids).requires_grad_()
    hidden = lm.body(inputs_embeds=embedded, use_cache=False).last_hidden_state
    predicts = torch.from_numpy(batch.targets[:, 1:])
    head = head_pass(hidden.detach()[:, :-1][predicts], lm.head, ids[:, 1:][predicts])
    seed = torch.zeros_like(hidden)
    seed[:, :-1][predicts] = head.gradient
    torch.autograd.grad(hidden, embedded, seed)


def floor(lm: LanguageModel, sweep: Sweep) -> None:
    for shard in sweep.shards():
        for batch in make_batches(sweep.sequences[shard.start : shard.stop], sweep.token_budget):
            bare_pass(lm, batch)


def stage_work(stage: str, lm: LanguageModel, sequences: Sequence[TokenSequence]) -> tuple[Sweep, Callable[[], object]]:
    """The sweep of a stage and the work that is timed; everything it needs is prepared here."""
    layers = choose_layers(lm.model)
    sweep = Sweep(stage, lm, layers, sequences, Labels("sampled"))
    if stage == "covariances":
        return sweep, lambda: fold(sweep, lambda: Covariances(layers))
    if stage == "eigenvalues":
        torch.manual_seed(0)
        bases = {
            x.name: (
                torch.linalg.qr(torch.randn(x.inputs, x.inputs))[0],
                torch.linalg.qr(torch.randn(x.outputs, x.outputs))[0],
            )
            for x in layers
        }
        return sweep, lambda: fold(sweep, lambda: Eigenvalues(layers, bases))
    if stage == "eigendecomposition":
        found = fold(sweep, lambda: Covariances(layers))
        matrices = [found.input_covariance(x) for x in layers] + [found.output_covariance(x) for x in layers]
        return sweep, lambda: [eigendecompose(matrix) for matrix in matrices]
    scan = Sweep(stage, lm, layers, sequences, Labels())
    queries = fold(Sweep("", lm, layers, sequences[:QUERIES]), lambda: QueryGradients(layers)).by_layer()
    if stage.endswith("rank 32"):
        low = of_rank(queries, 32)
        return scan, lambda: fold(scan, lambda: Scores(low))
    if stage.startswith("per-token"):
        return scan, lambda: fold(scan, lambda: TokenScores(queries))
    return scan, lambda: fold(scan, lambda: Scores(queries))


def measure(shape: str, stage: str, count: int, rounds: int) -> Measured:
    tokenizer, sequences, _ = texts(count)
    lm = build(SHAPES[shape], tokenizer)
    sweep, work = stage_work(stage, lm, sequences)
    times: list[float] = []
    floors: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        if stage != "eigendecomposition":
            floor(lm, sweep)
        middle = time.perf_counter()
        work()
        floors.append(middle - start)
        times.append(time.perf_counter() - middle)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tokens = sum(len(s.input_ids) for s in sequences)
    return Measured(shape, stage, median(times), median(floors), tokens, peak)


def table(rows: list[Measured]) -> str:
    lines = ["| model | stage | seconds | tokens/s | ratio to floor | peak MB |", "|---|---|---|---|---|---|"]
    for r in rows:
        ratio = "(timed apart)" if r.stage == "eigendecomposition" else f"{r.seconds / r.floor_seconds:.2f}×"
        rate = "–" if r.stage == "eigendecomposition" else f"{r.tokens / r.seconds:,.0f}"
        lines.append(f"| {r.shape} | {r.stage} | {r.seconds:.2f} | {rate} | {ratio} | {r.peak_mb:,.0f} |")
    for shape in dict.fromkeys(r.shape for r in rows):
        sweeps = [r for r in rows if r.shape == shape and r.stage in ("covariances", "eigenvalues")]
        if len(sweeps) == 2:
            ratio = sum(r.seconds / r.floor_seconds for r in sweeps)
            seconds = sum(r.seconds for r in sweeps)
            peak = max(r.peak_mb for r in sweeps)
            rate = sweeps[0].tokens / seconds
            lines.append(
                f"| {shape} | **fit: both sweeps** | {seconds:.2f} | {rate:,.0f} | **{ratio:.2f}×** | {peak:,.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, nargs=2, default=(256, 64), help="stories for each shape")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--stage", choices=STAGES)
    given = parser.parse_args()
    if given.shape and given.stage:
        count = given.stories[list(SHAPES).index(given.shape)]
        print(json.dumps(asdict(measure(given.shape, given.stage, count, given.rounds))))
        return
    rows: list[Measured] = []
    for shape in [given.shape] if given.shape else SHAPES:
        for stage in [given.stage] if given.stage else STAGES:
            command = [
                sys.executable, "-m", "benchmarks.stages", "--shape", shape, "--stage", stage,
                "--rounds", str(given.rounds), "--stories", *map(str, given.stories),
            ]  # fmt: skip
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append(Measured(**json.loads(output.splitlines()[-1])))
            print(
                f"{shape}, {stage}: {rows[-1].seconds:.2f} s, floor {rows[-1].floor_seconds:.2f} s",
                file=sys.stderr,
            )
    _, _, origin = texts(1)
    print(
        f"\n{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}; {given.stories[0]} and {given.stories[1]} stories of {origin}, "
        f"at most 256 tokens; median of {given.rounds} rounds, each alternating with its floor.\n"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
