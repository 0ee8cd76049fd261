"""`python -m benchmarks.agreement`: do Headwater and kronfluence rank the same stories, on the same work?

Same model, stories, queries, tracked layers and damping (0.1 × mean Λ, which kronfluence calls `None`). What is left to
differ is which labels each samples for its Fisher. On a CPU kronfluence is installed beside the `bench` extra with
`pip install --no-deps kronfluence==1.0.1 einconv`: its dependency torchvision has no CPU build.
"""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from benchmarks.shapes import DATA, texts
from headwater.corpus.batches import TokenSequence
from headwater.curvature.damping import Damping
from headwater.influence.fit import Workbench, fit_curvature
from headwater.influence.question import preconditioned
from headwater.influence.scores import Scores
from headwater.lm.capture import Labels
from headwater.lm.layers import choose_layers
from headwater.lm.load import load_model
from headwater.sweep.sweep import Sweep, fold

MODEL = DATA / "gptneo-1m"


class SummedLoss(Task):
    """Causal language modelling with the loss summed over target tokens."""

    def __init__(self, modules: list[str]) -> None:
        super().__init__()
        self.modules = modules

    def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> torch.Tensor:
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].flatten(0, 1)
        labels = batch["labels"][:, 1:].flatten()
        if sample:
            drawn = torch.multinomial(logits.detach().softmax(-1), 1).flatten()
            labels = torch.where(labels == -100, labels, drawn)
        return cross_entropy(logits, labels, ignore_index=-100, reduction="sum")

    def compute_measurement(self, batch: Any, model: Any) -> torch.Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self.modules

    def get_attention_mask(self, batch: Any) -> torch.Tensor:
        return batch["attention_mask"]


class Padded(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __init__(self, sequences: Sequence[TokenSequence]) -> None:
        self.sequences, self.width = sequences, max(len(s.input_ids) for s in sequences)

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        s = self.sequences[index]
        ids = torch.zeros(self.width, dtype=torch.long)
        mask = torch.zeros(self.width, dtype=torch.long)
        labels = torch.full((self.width,), -100)
        ids[: len(s.input_ids)] = torch.from_numpy(s.input_ids)
        mask[: len(s.input_ids)] = 1
        targets = torch.from_numpy(s.targets)
        labels[: len(s.input_ids)][targets] = ids[: len(s.input_ids)][targets]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def ours(stories: Sequence[TokenSequence], queries: Sequence[TokenSequence], seed: int, folder: Path) -> np.ndarray:
    """[Q, N]"""
    lm = load_model(str(MODEL))
    layers = choose_layers(lm.model)
    fit = Sweep("fit", lm, layers, stories, Labels("sampled", seed))
    curvature = fit_curvature("ekfac", fit, Workbench(folder / f"ours{seed}", "agreement"))
    assert curvature.damping == Damping(0.1)
    R = preconditioned(lm, curvature, queries)
    return fold(Sweep("scan", lm, layers, stories), lambda: Scores(R)).values.numpy().T


def kronfluence(stories: Sequence[TokenSequence], queries: Sequence[TokenSequence], folder: Path) -> np.ndarray:
    """[Q, N]"""
    torch.manual_seed(0)
    lm = load_model(str(MODEL))
    task = SummedLoss([layer.name for layer in choose_layers(lm.model)])
    model = prepare_model(AutoModelForCausalLM.from_pretrained(MODEL), task)
    analyzer = Analyzer("agreement", model, task, cpu=True, output_dir=str(folder), disable_tqdm=True)
    train, query = Padded(stories), Padded(queries)
    analyzer.fit_all_factors("ekfac", train, per_device_batch_size=16, factor_args=FactorArguments("ekfac"))
    analyzer.compute_pairwise_scores(
        "scores", "ekfac", query, train, per_device_query_batch_size=8, per_device_train_batch_size=16,
        score_args=ScoreArguments(damping_factor=None),
    )  # fmt: skip
    scores = analyzer.load_pairwise_scores("scores")
    assert scores is not None
    return scores["all_modules"].numpy()


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(one)), np.argsort(np.argsort(other)))[0, 1])


def overlap(one: np.ndarray, other: np.ndarray, k: int = 20) -> int:
    return len(set(np.argsort(-one)[:k]) & set(np.argsort(-other)[:k]))


def report(name: str, one: np.ndarray, other: np.ndarray) -> None:
    correlations = [spearman(a, b) for a, b in zip(one, other, strict=True)]
    overlaps = [overlap(a, b) for a, b in zip(one, other, strict=True)]
    print(
        f"{name}: per-query Spearman min {min(correlations):.4f}, median {np.median(correlations):.4f}; "
        f"top-20 overlap {min(overlaps)} to {max(overlaps)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stories", type=int, default=256)
    parser.add_argument("--queries", type=int, default=8)
    given = parser.parse_args()
    _, everything, _ = texts(given.stories + given.queries)
    stories, queries = everything[: given.stories], everything[given.stories :]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        first = ours(stories, queries, 0, folder)
        middle = time.perf_counter()
        other_labels = ours(stories, queries, 1, folder)
        later = time.perf_counter()
        theirs = kronfluence(stories, queries, folder)
        end = time.perf_counter()
    print(
        f"{date.today()}, torch {torch.__version__}, {torch.get_num_threads()} threads: {len(queries)} queries × "
        f"{len(stories)} stories. Headwater {middle - start:.1f} s, kronfluence {end - later:.1f} s (not a race: "
        "one round each)."
    )
    report("Headwater and kronfluence", first, theirs)
    report("Headwater and itself, other sampled labels", first, other_labels)
    scale = float((first * theirs).sum() / (theirs**2).sum())
    print(f"Scale of Headwater's scores over kronfluence's: {scale:.4f}")


if __name__ == "__main__":
    main()
