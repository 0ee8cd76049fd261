"""`python -m benchmarks.sketches`: which sketch of a whitened gradient preserves the ranking best at a given size?

All sketches are compared on one real corpus with the exact influence of every story on every question. Nothing is
fitted to the questions. Queries stay in float, except for "signs of both". The scale of 4 bytes per example, which most
sketches need, is not counted.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.texts import DATA
from headwater import configure_process
from headwater.attribution.index.kernels import BLOCK, look_up
from headwater.attribution.index.planes import Planes, hadamard, planes_of_width
from headwater.attribution.index.sketch import Sketch
from headwater.attribution.scores import Rows
from headwater.corpus.batches import Batch, TokenSequence, all_targets
from headwater.corpus.tokenize import tokenize
from headwater.curvature.base import Curvature
from headwater.curvature.fit import fit_curvature
from headwater.curvature.workbench import Workbench
from headwater.gradients.factored import FactoredGradient
from headwater.lm.capture import Labels
from headwater.lm.layers import choose_layers
from headwater.lm.load import load_model
from headwater.sweep.sweep import Sweep, each_shard, fold

MODEL, STORIES = DATA / "gptneo-1m", DATA / "tinystories" / "stories.jsonl"
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "sketches.svg"
QUERIES, PROMPT, COMPLETION = 40, 20, 8
"""Questions: the first 20 tokens of a held-out story are the prompt, and the next 8 the completion."""
TOP, CUTS = 10, (26, 100, 256)
CHUNK = 64

Numbers = NDArray[np.float32]
Encoder = Callable[[Numbers], Numbers]
"""Maps rows [n, D] to rows [n, K]."""
Code = Callable[[Numbers, Numbers], Numbers]
"""Encodes and decodes projected rows [n, K] with norms [n, 1]."""


@dataclass(frozen=True)
class Whitened:
    """Whitened gradients. Their dot products are influences."""

    examples: Numbers
    """[N, D], memory-mapped."""
    queries: Numbers
    """[Q, D]"""
    shapes: list[tuple[int, int]]
    """(O, I) of every layer."""

    @property
    def dimensions(self) -> int:
        """D"""
        return self.examples.shape[1]

    @cached_property
    def gram(self) -> NDArray[np.float64]:
        """[N, N] influences between examples."""
        return self.estimate(lambda rows: rows, self.examples).astype(np.float64)

    def chunks(self) -> Iterator[Numbers]:
        """The examples, 64 at a time."""
        return (self.examples[start : start + CHUNK] for start in range(0, len(self.examples), CHUNK))

    def estimate(self, encode: Encoder, queries: Numbers) -> Numbers:
        """[N, Q] dot products of the encoded examples with `queries` [Q, K]."""
        return np.concatenate([encode(part) @ queries.T for part in self.chunks()])

    def layers(self, rows: Numbers) -> list[Numbers]:
        """The gradients [n, O, I] of every layer in rows [n, D]."""
        ends = np.cumsum([outputs * inputs for outputs, inputs in self.shapes])[:-1]
        parts = np.split(rows, ends, axis=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]


class WhitenedRows(Rows):
    """Reducer: whitened gradients [N, D]."""

    def __init__(self, curvature: Curvature) -> None:
        super().__init__()
        self.curvature = curvature

    def update(self, batch: Batch, gradients: Mapping[str, FactoredGradient]) -> None:
        self.add(batch, self.curvature.whiten(gradients))


def read_texts(tokenizer: Any, rows: int | None) -> tuple[list[TokenSequence], list[TokenSequence]]:
    """(training stories, questions from held-out stories)."""
    lines = [json.loads(line) for line in STORIES.read_text(encoding="utf-8").split("\n") if line]
    held_out: list[str] = json.loads((MODEL / "heldout_ids.json").read_text(encoding="utf-8"))
    tokenized = tokenize(tokenizer, [line["text"] for line in lines])
    ids = {line["id"]: found.input_ids[:512] for line, found in zip(lines, tokenized, strict=True)}
    targets = np.arange(PROMPT + COMPLETION) >= PROMPT
    queries = [TokenSequence(id, np.array(ids[id][: PROMPT + COMPLETION]), targets) for id in held_out[:QUERIES]]
    return [all_targets(ids[id], id) for id in ids if id not in held_out][:rows], queries


def compute(folder: Path, rows: int | None) -> None:
    """Fit EK-FAC on the stories and store all whitened gradients in `folder`."""
    lm = load_model(str(MODEL), device="cpu")
    layers = choose_layers(lm.model)
    stories, queries = read_texts(lm.tokenizer, rows)
    with tempfile.TemporaryDirectory() as name:
        fit = Sweep(stage="fit", lm=lm, layers=layers, sequences=stories, labels=Labels("sampled"))
        curvature = fit_curvature("ekfac", fit, Workbench(Path(name), "sketches"))
    shape = (len(stories), sum(layer.parameters for layer in layers))
    examples = np.lib.format.open_memmap(folder / "examples.npy", "w+", np.float32, shape)
    for shard, found in each_shard(
        Sweep(stage="", lm=lm, layers=layers, sequences=stories), lambda: WhitenedRows(curvature), lambda _: False
    ):
        examples[shard.start : shard.stop] = found.values.numpy()
    examples.flush()
    found = fold(Sweep(stage="", lm=lm, layers=layers, sequences=queries), lambda: WhitenedRows(curvature))
    np.save(folder / "queries.npy", found.values.numpy())
    np.save(folder / "shapes.npy", np.array([(layer.outputs, layer.inputs) for layer in layers]))


def load(folder: Path, rows: int | None) -> Whitened:
    """The whitened gradients in `folder`, computed first if they are missing."""
    if not (folder / "shapes.npy").exists():
        compute(folder, rows)
    shapes: list[tuple[int, int]] = [(int(outputs), int(inputs)) for outputs, inputs in np.load(folder / "shapes.npy")]
    return Whitened(np.load(folder / "examples.npy", mmap_mode="r"), np.load(folder / "queries.npy"), shapes)


def norms(rows: Numbers) -> Numbers:
    """[n, 1] norms of rows."""
    return np.linalg.norm(rows, axis=1, keepdims=True)


def count_sketch(dimensions: int, size: int) -> Encoder:
    """Sums of D coordinates with random signs in K places, as in the first step of Headwater's sketch."""
    sketch = Planes(dimensions, size // BLOCK, 1)
    return lambda rows: sketch.fold(rows).reshape(len(rows), -1)


def rotation(dimensions: int) -> Encoder:
    """D coordinates distributed over blocks of 128, with a signed Hadamard rotation of each block."""
    sketch = Planes(dimensions, -(-dimensions // BLOCK), 1)
    return lambda rows: (
        np.ascontiguousarray(sketch.fold(rows) * sketch.signs[0]).reshape(-1, BLOCK) @ hadamard()
    ).reshape(len(rows), -1)


def rotated_count_sketch(dimensions: int, size: int) -> Encoder:
    """A count-sketch of rotated coordinates, so that no coordinate dominates its sum."""
    rotate = rotation(dimensions)
    add_up = count_sketch(-(-dimensions // BLOCK) * BLOCK, size)
    return lambda rows: add_up(rotate(rows))


def coded(data: Whitened, project: Encoder, code: Code) -> Numbers:
    """Dot products of coded examples with projected queries."""
    return data.estimate(lambda rows: code(project(rows), norms(rows)), project(data.queries))


def whole(values: Numbers, _: Numbers) -> Numbers:
    """The values in float32."""
    return values


def float16(values: Numbers, _: Numbers | None = None) -> Numbers:
    """Rounded to float16."""
    return values.astype(np.float16).astype(np.float32)


def signs(values: Numbers, norms: Numbers) -> Numbers:
    """One bit per coordinate."""
    return norms * np.sign(values)


def two_bits(values: Numbers, norms: Numbers) -> Numbers:
    """Two bits per coordinate: the optimal four levels for normal coordinates (Max 1960)."""
    deviation = np.sqrt(np.square(values).mean(axis=1, keepdims=True))
    return norms * np.sign(values) * np.where(np.abs(values) > 0.9816 * deviation, 1.510, 0.4528)


def signs_of_both(data: Whitened, project: Encoder) -> Numbers:
    """The share of equal signs gives the angle (Charikar 2002), and the angle and norm give the dot product."""
    queries = np.sign(project(data.queries))
    agreement = data.estimate(lambda rows: np.sign(project(rows)), queries) / queries.shape[1]
    return np.sin(agreement * (math.pi / 2)) * norms(data.examples)


def kronecker(data: Whitened, size: int) -> Encoder:
    """Each layer's gradient, projected randomly on both sides (LoGra, Choe et al. 2024)."""
    random = np.random.default_rng(0)
    pairs = [[random.standard_normal((side, size), np.float32) for side in shape] for shape in data.shapes]

    def project(rows: Numbers) -> Numbers:
        layers = zip(data.layers(rows), pairs, strict=True)
        return np.concatenate(
            [(left.T @ (G @ right)).reshape(len(rows), -1) for G, (left, right) in layers], 1, dtype=np.float32
        )

    return project


def low_rank(data: Whitened, rank: int) -> Numbers:
    """The leading singular vectors of each layer's gradient, in float16."""

    def keep(gradient: Numbers) -> Numbers:
        outputs, inputs = gradient.shape[1:]
        tall = torch.tensor(gradient if outputs >= inputs else gradient.transpose(0, 2, 1))
        right = torch.linalg.eigh(tall.mT @ tall)[1][..., -rank:]
        kept = (tall @ right).half().float() @ right.half().float().mT
        return (kept if outputs >= inputs else kept.mT).flatten(1).numpy()

    return data.estimate(lambda rows: np.concatenate([keep(G) for G in data.layers(rows)], axis=1), data.queries)


def components(data: Whitened, exact: Numbers, size: int, fitted_on_others: bool) -> Numbers:
    """Principal components in float16, computed from the dot products of all examples.

    With `fitted_on_others`, each half of the stories is projected on the components of the other half, to test the
    components on examples that they were not fitted to.
    """
    halves = np.arange(len(exact)) % 2
    splits = [(halves == 0, halves == 1), (halves == 1, halves == 0)] if fitted_on_others else [(halves >= 0,) * 2]
    estimated = np.empty_like(exact)
    for fitted, others in splits:
        values, vectors = np.linalg.eigh(data.gram[fitted][:, fitted])
        to_components = vectors[:, -size:] / np.sqrt(values[-size:])
        coordinates = float16((data.gram[others][:, fitted] @ to_components).astype(np.float32))
        estimated[others] = coordinates @ (exact[fitted].T @ to_components).astype(np.float32).T
    return estimated


def largest(data: Whitened, count: int, rotate: Encoder) -> Numbers:
    """The positions and signs of the `count` largest coordinates of each block of 128.

    Their decoded size is the mean share of the norm for the block and rank, over the first 256 stories.
    """

    def find(rows: Numbers) -> tuple[NDArray[np.int64], Numbers, Numbers]:
        blocks = rotate(rows).reshape(len(rows), -1, BLOCK)
        places = np.argsort(-np.abs(blocks), axis=2)[..., :count]
        return places, np.take_along_axis(blocks, places, 2), norms(rows)[..., None]

    found = [find(part) for part in islice(data.chunks(), 4)]
    lengths = np.concatenate([np.abs(values) / norm for _, values, norm in found]).mean(axis=0)

    def encode(rows: Numbers) -> Numbers:
        places, values, norm = find(rows)
        decoded = np.zeros((len(rows), len(lengths), BLOCK), np.float32)
        np.put_along_axis(decoded, places, np.sign(values) * lengths * norm, 2)
        return decoded.reshape(len(rows), -1)

    return data.estimate(encode, rotate(data.queries))


def rabitq(data: Whitened, project: Encoder) -> Numbers:
    """RaBitQ of FAISS (Gao and Long 2024) on rotated coordinates, which it requires, with queries in float."""
    import faiss

    kept = np.concatenate([project(part) for part in data.chunks()])
    index: Any = faiss.IndexRaBitQ(kept.shape[1], faiss.METRIC_INNER_PRODUCT)
    index.qb = 0
    index.train(np.zeros_like(kept[:1]))  # centred at 0, because subtracting the mean adds noise
    index.add(kept)
    found, places = index.search(project(data.queries), len(kept))
    estimated = np.empty((len(kept), len(data.queries)), np.float32)
    np.put_along_axis(estimated, places.T, found.T, 0)
    return estimated


def ours(data: Whitened, sketch: Sketch) -> Numbers:
    """Headwater's sketch: planes of biorthogonal codes with table lookups."""
    parts = [sketch.encode(part) for part in data.chunks()]
    codes = np.concatenate([part.codes for part in parts])
    sums = np.zeros((len(data.queries), len(codes)), np.float32)
    for query, row in zip(data.queries, sums, strict=True):
        look_up(codes, np.arange(len(codes)), sketch.table(query), row)
    return sums.T * np.concatenate([part.scales for part in parts])[:, None]


@dataclass(frozen=True)
class Variant:
    """One sketch of whitened gradients."""

    family: str
    name: str
    bytes: int
    """Bytes per example."""
    estimate: Callable[[], Numbers]
    """[N, Q] influences estimated from the sketch."""


def variants(data: Whitened, exact: Numbers) -> list[Variant]:
    """All sketches that are compared."""
    D, blocks, layers = data.dimensions, -(-data.dimensions // BLOCK), len(data.shapes)
    found: list[Variant] = []

    def add(family: str, name: str, size: int, estimate: Callable[..., Numbers], *arguments: Any) -> None:
        found.append(Variant(family, name, size, partial(estimate, data, *arguments)))

    for sketch in (planes_of_width(D, 1 << k, 0) for k in range(9, 15)):
        add("ours", f"{sketch.blocks:,} blocks, planes: {sketch.planes}", sketch.bytes, ours, sketch)
    for k in (1024, 4096, 16384):
        add("floats", f"{k:,}", 4 * k, coded, count_sketch(D, k), whole)
    for k in (4096, 16384, 32768, 65536, 131072):
        add("signs", f"{k:,}", k // 8, coded, count_sketch(D, k), signs)
    for k in (16384, 65536):
        add("signs, rotated", f"{k:,}", k // 8, coded, rotated_count_sketch(D, k), signs)
        add("signs of both", f"{k:,}", k // 8, signs_of_both, count_sketch(D, k))
        if find_spec("faiss"):
            add("RaBitQ", f"{k:,} bits", k // 8, rabitq, rotated_count_sketch(D, k))
    for k in (32768, 65536):
        add("2 bits", f"{k:,}", k // 4, coded, rotated_count_sketch(D, k), two_bits)
    for k in (16, 32):
        add("Kronecker", f"{k} × {k} a layer", 2 * k * k * layers, coded, kronecker(data, k), float16)
    add("rank 8", "of each layer", sum(16 * (outputs + inputs) for outputs, inputs in data.shapes), low_rank, 8)
    for name, fitted in (("these", len(exact)), ("other", len(exact) // 2)):
        k = min(500, fitted)
        add(f"PCA, fitted on {name} stories", f"{k} numbers", 2 * k, components, exact, k, name == "other")
    for n in (1, 2, 4):
        add("largest", f"{n} of 128", n * blocks, largest, n, lambda rows: rows)
        add("largest, rotated", f"{n} of 128", n * blocks, largest, n, rotation(D))
    return found


@dataclass(frozen=True)
class VariantResult:
    """How well one variant preserves the ranking: means over queries and both ends."""

    variant: Variant
    recalls: list[float]
    """Share of the exact top 10 among the estimate's best, for each of CUTS."""
    spearman: float
    error: float
    """Standard error of the first recall over queries."""


def ranks(values: Numbers) -> NDArray[np.int64]:
    """[N, Q] rank of each example for each query, the smallest first."""
    return values.argsort(axis=0, kind="stable").argsort(axis=0)


def measure(variant: Variant, exact: Numbers) -> VariantResult:
    """Compare a variant's estimates with the exact influences [N, Q]."""
    estimated = variant.estimate()
    ends = [(ranks(sign * exact) < TOP, ranks(sign * estimated)) for sign in (-1, 1)]
    recalls = [sum((best & (places < cut)).sum(axis=0) for best, places in ends) / (2 * TOP) for cut in CUTS]
    pairs = zip(ranks(exact).T, ranks(estimated).T, strict=True)
    spearman = np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs])
    error = np.std(recalls[0]) / math.sqrt(exact.shape[1])
    return VariantResult(variant, [float(np.mean(recall)) for recall in recalls], float(spearman), float(error))


def table(rows: Sequence[VariantResult]) -> str:
    """A Markdown table, the smallest sketch first."""
    lines = [
        f"| bytes | sketch | {' | '.join(f'recall in {cut}' for cut in CUTS)} | Spearman |",
        "|---|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: (r.variant.bytes, -r.spearman)):
        bold = "**" if r.variant.family == "ours" else ""
        recalls = " | ".join(f"{recall:.3f}" for recall in r.recalls)
        name = f"{bold}{r.variant.family}: {r.variant.name}{bold}"
        lines.append(f"| {r.variant.bytes:,} | {name} | {recalls} | {r.spearman:.3f} |")
    return "\n".join(lines)


INK, OTHER = "#1B1E23", "#6B7280"
STYLES: dict[str, tuple[str, str, str, tuple[int, int], tuple[int, int]]] = {
    "floats": ("#009E73", "s", "-", (6, -5), (6, 0)),
    "Kronecker": (INK, "h", "-", (7, -7), (7, -7)),
    "rank 8": (INK, "*", "-", (6, 4), (6, 0)),
    "PCA, fitted on these stories": (OTHER, "p", "-", (1, 30), (1, 18)),
    "PCA, fitted on other stories": (OTHER, "d", "-", (7, -11), (10, -30)),
    "signs of both": ("#D55E00", "x", "--", (48, 0), (48, -10)),
    "signs": ("#D55E00", "^", "-", (6, 0), (6, 5)),
    "2 bits": ("#E69F00", "D", "-", (6, 0), (7, -2)),
    "largest": ("#56B4E9", "<", "-", (48, -23), (48, -38)),
    "largest, rotated": ("#56B4E9", ">", ":", (-8, 12), (48, -11)),
    "signs, rotated": ("#D55E00", "v", ":", (48, -5), (48, -14)),
    "RaBitQ": ("#CC79A7", "P", ":", (48, -17), (48, -26)),
    "ours": ("#1F5F99", "o", "-", (8, 0), (8, 0)),
}
"""Family -> colour (Headwater's, and the colour-blind safe palette of Okabe and Ito), marker, line style, and the
offset of its label in points from its last mark, in the left and in the right panel."""
TICKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def draw(rows: Sequence[VariantResult], path: Path, about: str) -> None:
    """Draw two panels over bytes per example: recall in the best 26, and Spearman correlation."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: Any = {"svg.hashsalt": "sketches", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(11, 5.2), layout="constrained")
        panels = figure.subplots(1, 2)
        draw_panel(panels[0], rows, 0, f"Share of the true top {TOP} in the sketch's best {CUTS[0]}")
        draw_panel(panels[1], rows, 1, "Spearman correlation with the exact influence")
        figure.supxlabel(f"bytes per example ({about})", fontsize=9)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw_panel(axes: Any, rows: Sequence[VariantResult], panel: int, title: str) -> None:
    """Draw one mark per variant and one line per family, with its name beside the last mark."""
    for family, (colour, marker, line, *places) in STYLES.items():
        chosen = [r for r in rows if r.variant.family == family]
        points = sorted((r.variant.bytes, r.spearman if panel else r.recalls[0]) for r in chosen)
        if points:
            ours, place = family == "ours", places[panel]
            width, size, weight = (3, 7, "bold") if ours else (1.3, 5, "normal")
            axes.plot(*zip(*points, strict=True), line, color=colour, marker=marker, lw=width, ms=size)
            axes.annotate(
                family.replace("fitted on ", "fitted\non "),
                points[-1],
                place,
                textcoords="offset points",
                ha="left" if place[0] > 0 else "right",
                va="center",
                color=colour,
                weight=weight,
                arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6} if math.hypot(*place) > 20 else None,
            )
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xscale("log", base=2)
    axes.set_xticks([1 << k for k in range(9, 18)], ["512", *(f"{1 << k} K" for k in range(8))], minor=False)
    axes.set_yscale("logit", nonpositive="clip")
    axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_yticks([], minor=True)
    axes.set(xlim=(400, 1 << 18), ylim=(0.25, 0.996))
    axes.grid(color="#E3E5E8", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="stories (default: all that the model was trained on)")
    parser.add_argument("--cache", type=Path, help="folder that stores the whitened gradients between runs")
    parser.add_argument("--picture", type=Path, default=PICTURE, help="where to write the plot, SVG or PNG")
    given = parser.parse_args()
    if not MODEL.exists() or not STORIES.exists():
        sys.exit(f"This benchmark needs a real model and real stories, which are missing: {MODEL}, {STORIES}.")
    with tempfile.TemporaryDirectory() as name:
        folder = (given.cache or Path(name)) / f"{given.rows or 'all'}"
        folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        data = load(folder, given.rows)
        exact = data.estimate(lambda rows: rows, data.queries)
        print(f"gradients: {time.perf_counter() - start:.0f} s", file=sys.stderr)
        rows: list[VariantResult] = []
        for variant in variants(data, exact):
            start = time.perf_counter()
            rows.append(measure(variant, exact))
            print(f"{variant.family}, {variant.name}: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    about = f"{len(exact):,} stories, {exact.shape[1]} queries, {data.dimensions:,} parameters tracked"
    print(
        f"{date.today()}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, numpy "
        f"{np.__version__}; N = {len(exact):,} TinyStories, D = {data.dimensions:,}, {exact.shape[1]} queries; "
        f"standard errors of the recall in {CUTS[0]} over queries at most {max(r.error for r in rows):.3f}.\n"
    )
    print(table(rows))
    if not find_spec("faiss"):
        print("\nRaBitQ was left out. Install it with: pip install faiss-cpu")
    draw(rows, given.picture, about)


if __name__ == "__main__":
    configure_process()
    main()
