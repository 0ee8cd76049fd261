"""The tables of the race: seconds, ratios, tokens a second, memory, disk, distance from the floor, and agreement."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers

from benchmarks.page import processor, put_between
from headwater.base.version import __version__

PAGE = Path("docs/benchmarks.md")
BEGIN, END = "<!-- peers: written by make bench-peers -->", "<!-- peers: end -->"
PARTS = {"fit": "fit", "scan8": "train", "scan64": "train", "tokens8": "train", "store": "train", "question": "train"}
WORDS = {
    "fit": "fit",
    "scan8": "8 queries",
    "scan64": "64 queries",
    "tokens8": "8 queries by token",
    "store": "build the index",
    "question": "one question, index loaded",
}
PEERS = ("kronfluence", "bergson", "dattri-llm")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One stage of one contestant in one round; without numbers where it did not finish."""

    contestant: str
    stage: str
    round: int
    seconds: float | None
    cpu: float | None
    peak: int | None
    disk: int | None


Heats = Mapping[str, tuple[Path, list[Timing]]]
"""shape -> (its folder, its timings)"""


def write_report(heats: Heats, write: bool) -> None:
    """Print the tables, and put them between their marks in docs/benchmarks.md where `write` is set."""
    text = report(heats)
    print(text)
    if write:
        put_between(PAGE, BEGIN, END, text)


def report(heats: Heats) -> str:
    parts = [
        f"{date.today()}, {processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, Headwater {__version__}, kronfluence 1.0.1, bergson 2.5.1, "
        "dattri-llm 0.1.0."
    ]
    for shape, (folder, timings) in heats.items():
        if timings:
            parts += [f"**{shape}**: {_described(folder, timings)}", _table(folder, timings), _agreement(folder)]
    return "\n\n".join(part for part in parts if part)


def _described(folder: Path, timings: list[Timing]) -> str:
    config = json.loads((folder / "model" / "config.json").read_text())
    counts = {part: (len(lengths), int(lengths.sum())) for part, lengths in _lengths(folder).items()}
    origin = (folder / "origin.txt").read_text()
    counted = Counter((t.contestant, t.stage) for t in timings)
    least, most = min(counted.values()), max(counted.values())
    rounds = f"{most} round{'s' if most > 1 else ''}" if least == most else f"{least} to {most} rounds"
    layers = config.get("num_hidden_layers") or config["num_layers"]
    return (
        f"{config['model_type']}, width {config['hidden_size']}, {layers} layers, vocabulary "
        f"{config['vocab_size']:,}. Fit on {counts['fit'][0]} texts of {origin} ({counts['fit'][1]:,} tokens), "
        f"scores of {counts['train'][0]} ({counts['train'][1]:,} tokens). Medians of {rounds}."
    )


def _table(folder: Path, timings: list[Timing]) -> str:
    lines = [
        "| stage | program | seconds | × Headwater | tokens/s | × our floor | × stock floor | peak MB | disk MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    tokens = {part: int(lengths.sum()) for part, lengths in _lengths(folder).items()}
    for stage, part in PARTS.items():
        ours = _median(timings, "headwater", stage)
        floors = [_median(timings, "floor", f"{kind}{'fit' if part == 'fit' else 'scan8'}") for kind in ("", "stock-")]
        for contestant in ("headwater", *PEERS):
            seconds = _median(timings, contestant, stage)
            if seconds is None or ours is None:
                continue
            numbers = [t for t in timings if t.contestant == contestant and t.stage == stage]
            peak, disk = max(t.peak or 0 for t in numbers), max(t.disk or 0 for t in numbers)
            name = f"**{contestant}**" if contestant == "headwater" else contestant
            ratio = "–" if contestant == "headwater" else f"**{seconds / ours:.2f}×**"
            above = [
                f"{seconds / floor:.2f}×" if floor and stage not in ("store", "question") else "–" for floor in floors
            ]
            rate = "–" if stage == "question" else f"{tokens[part] / seconds:,.0f}"
            lines.append(
                f"| {WORDS[stage]} | {name} | {seconds:.3g} | {ratio} | {rate} | {above[0]} | {above[1]} | "
                f"{peak / 1e6:,.0f} | {disk / 1e6:,.1f} |"
            )
    return "\n".join(lines)


def _median(timings: list[Timing], contestant: str, stage: str) -> float | None:
    found = [t.seconds for t in timings if t.contestant == contestant and t.stage == stage and t.seconds is not None]
    return median(found) if found else None


def _lengths(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "stories.npz") as saved:
        return {part: saved[f"{part}.lengths"] for part in ("fit", "train")}


def _agreement(folder: Path) -> str:
    """One row per peer: how closely its scores of stories and tokens agree with Headwater's."""
    ours = _scores(folder, "headwater", "scan8")
    if ours is None:
        return ""
    lines = [
        "| scores of 8 queries | Spearman: lowest, highest | scale of Headwater's / peer's | Pearson by token |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *filter(None, (_compared(folder, peer, ours) for peer in PEERS))])


def _compared(folder: Path, peer: str, ours: np.ndarray) -> str:
    theirs = _scores(folder, peer, "scan8")
    if theirs is None:
        return ""
    ranks = [_pearson(a.argsort().argsort(), b.argsort().argsort()) for a, b in zip(ours, theirs, strict=True)]
    scale = float((ours * theirs).sum() / (theirs**2).sum())
    by_token = "–"
    tokens, others = _scores(folder, "headwater", "tokens8"), _scores(folder, peer, "tokens8")
    if tokens is not None and others is not None:
        width = min(tokens.shape[2], others.shape[2])
        by_token = f"{_pearson(tokens[..., :width].ravel(), others[..., :width].ravel()):.4f}"
    return f"| {peer} | {min(ranks):.4f}, {max(ranks):.4f} | {scale:.3f} | {by_token} |"


def _scores(folder: Path, contestant: str, stage: str) -> np.ndarray | None:
    path = folder / contestant / f"{stage}.npy"
    return np.load(path) if path.exists() else None


def _pearson(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])
