"""One job for everybody: a stock model on disk, tokenised stories and queries; and how a contestant's stage is timed.

A contestant is a module with a table of stages, run as `python -m benchmarks.peers.NAME STAGE FOLDER --batch B`, each
stage in a process of its own. What a stage prepares (imports, the model, the data) is not timed; what it returns is.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, GPTNeoConfig, LlamaConfig

from benchmarks.texts import DATA, texts
from headwater import configure_process
from headwater.corpus.batches import TokenSequence, all_targets

LONGEST = 256
DAMPING = 0.1
"""λ over the mean eigenvalue of a layer, for everybody."""
PROMPT, COMPLETION = 40, 20
"""Tokens of a query: the beginning of a story that is not among those scored."""


def _neo(hidden: int, layers: int, heads: int, vocabulary: int) -> GPTNeoConfig:
    return GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        window_size=256,
        attention_types=[[["global", "local"], layers // 2]],
        max_position_embeddings=512,
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
    )


SHAPES: dict[str, Callable[[], Any]] = {
    "trained": lambda: None,
    "tinystories-1m": lambda: _neo(64, 8, 16, 50_257),
    "wide-4k": lambda: _neo(768, 4, 12, 4_096),
    "wide-50k": lambda: _neo(768, 4, 12, 50_257),
    "llama": lambda: LlamaConfig(
        vocab_size=32_000,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    ),
}
"""Random weights from one seed, but for `trained`: a GPT-Neo of the first shape and V = 2,048, trained on stories."""


@dataclass(frozen=True)
class Job:
    """What is raced on: `folder` holds `model/` and the stories; a contestant keeps what it makes in `own`."""

    folder: Path
    contestant: str
    batch: int
    """Examples in a batch (Headwater: thousands of tokens)."""

    @property
    def own(self) -> Path:
        path = self.folder / self.contestant
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def model(self) -> Path:
        """A folder that `from_pretrained` reads."""
        return self.folder / "model"

    def stock_model(self) -> Any:
        """The model as transformers gives it, float32, in eval mode, frozen."""
        model = AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
        return model.eval().requires_grad_(False)

    def linears(self) -> list[str]:
        """Names of the tracked layers: every MLP linear."""
        return json.loads((self.folder / "layers.json").read_text())

    def sequences(self, part: str) -> list[TokenSequence]:
        """`fit` (the curvature's examples), `train` (those scored), `queries` (loss on the completion only)."""
        with np.load(self.folder / "stories.npz") as saved:
            pieces = np.split(saved[part], np.cumsum(saved[f"{part}.lengths"])[:-1])
        found = [all_targets(piece, f"{part}{k:05d}") for k, piece in enumerate(pieces)]
        if part == "queries":
            after = np.arange(PROMPT + COMPLETION) >= PROMPT
            found = [TokenSequence(s.id, s.input_ids, after[: len(s.input_ids)]) for s in found]
        return found

    def queries(self, count: int) -> list[TokenSequence]:
        return self.sequences("queries")[:count]


Stage = Callable[[Job], Callable[[], NDArray[Any] | None]]
"""Prepares a stage; what it returns is timed, and may return scores to be compared: [Q, N], or [Q, N, T] by token,
zero beyond a story's end."""


def prepare(folder: Path, shape: str, fit: int, train: int, queries: int = 64) -> None:
    """Write the model and the stories of a job to `folder`; queries are the beginnings of the last stories."""
    from headwater.lm.layers import choose_layers
    from headwater.lm.load import load_model

    tokenizer, stories, origin = texts(max(fit, train) + queries)
    folder.mkdir(parents=True, exist_ok=True)
    if (config := SHAPES[shape]()) is None:
        model = AutoModelForCausalLM.from_pretrained(DATA / "gptneo-1m")
    else:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    asked = [s.input_ids[: PROMPT + COMPLETION] for s in stories[-queries:]]
    parts = {
        "fit": [s.input_ids[:LONGEST] for s in stories[:fit]],
        "train": [s.input_ids[:LONGEST] for s in stories[:train]],
        "queries": asked,
    }
    arrays = {name: np.concatenate(part) for name, part in parts.items()}
    lengths = {f"{name}.lengths": np.array([len(ids) for ids in part]) for name, part in parts.items()}
    np.savez(folder / "stories.npz", allow_pickle=False, **arrays, **lengths)
    told = tokenizer.batch_decode(parts["train"], skip_special_tokens=True)
    lines = [json.dumps({"id": f"train{k:05d}", "text": text}) for k, text in enumerate(told)]
    (folder / "train.jsonl").write_text("\n".join(lines))
    layers = [layer.name for layer in choose_layers(load_model(str(folder / "model")).model)]
    (folder / "layers.json").write_text(json.dumps(layers))
    (folder / "origin.txt").write_text(origin)


def padded(sequences: list[TokenSequence]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(input_ids, attention_mask, labels), each [N, T]; labels are −100 where nothing is predicted."""
    width = max(len(s.input_ids) for s in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, s in enumerate(sequences):
        tokens = torch.from_numpy(s.input_ids)
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        labels[row, : len(tokens)] = torch.where(torch.from_numpy(s.targets), tokens, -100)
    return ids, mask, labels


def drawn(chances: torch.Tensor) -> torch.Tensor:
    """[n] a token for each row of `chances` [n, V], by inverting its distribution function.

    `multinomial`, which draws a number for every token of the vocabulary, takes five times as long.
    """
    upto = chances.cumsum(-1)
    point = torch.rand(len(upto), 1) * upto[:, -1:]
    return torch.searchsorted(upto, point).clamp_(max=upto.shape[1] - 1).flatten()


def disk_bytes(folder: Path) -> int:
    """Of all files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main(name: str, stages: Mapping[str, Stage]) -> None:
    """Run one stage, keep its scores as `<stage>.npy` and print what it took as JSON."""
    configure_process()  # after torch: for its memory only; the race sets how threads wait
    parser = argparse.ArgumentParser(description=f"One stage of {name}.")
    parser.add_argument("stage", choices=sorted(stages))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    given = parser.parse_args()
    job = Job(given.folder, name, given.batch)
    work = stages[given.stage](job)
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    scores = work()
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    if scores is not None:
        np.save(job.own / f"{given.stage}.npy", scores)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = after.ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "disk": disk_bytes(job.own)}))
