"""kronfluence: EK-FAC factors on disk, and from them exact pairwise scores, by story or by token. It has no index.

Used as its manual has it: a `Task` says what the losses are, an `Analyzer` fits factors and computes pairwise scores.
All queries of a stage are held at once, so that one pass over the stories serves them.
"""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from kronfluence.utils.constants import HEURISTIC_DAMPING_SCALE
from kronfluence.utils.dataset import DataLoaderKwargs
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import TensorDataset

from benchmarks.peers.job import DAMPING, Job, Stage, drawn, main, padded

NAME = "kronfluence"
FACTORS = "ekfac"
assert DAMPING == HEURISTIC_DAMPING_SCALE, "what a damping factor of None stands for"

PAD_BY_BATCH = DataLoaderKwargs(collate_fn=padded)
"""Each batch is as wide as its longest story, not as the longest of all."""


class SummedLoss(Task):
    """Causal language modelling with the loss summed over target tokens; a batch is what `padded` returns."""

    def __init__(self, modules: list[str]) -> None:
        super().__init__()
        self.modules = modules

    def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> torch.Tensor:
        ids, _, labels = batch
        # Padding is on the right, where causal attention does not look: without a mask, attention may be fused.
        logits = model(ids, use_cache=False).logits.flatten(0, 1)
        # Labels are moved to the logits that predict them, rather than logits cut, which would copy them.
        labels = pad(labels[:, 1:], (0, 1), value=-100).flatten()
        if sample:
            labels = torch.where(labels == -100, labels, drawn(logits.detach().softmax(-1)))
        return cross_entropy(logits, labels, ignore_index=-100, reduction="sum")

    def compute_measurement(self, batch: Any, model: Any) -> torch.Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self.modules

    def get_attention_mask(self, batch: Any) -> torch.Tensor:
        """Keeps padding out of the covariances."""
        return batch[1]


def _analyzer(job: Job) -> Analyzer:
    torch.manual_seed(0)
    torch.compiler.reset()  # the analyzer calls it, too, and the first time imports much
    task = SummedLoss(job.linears())
    model = prepare_model(job.stock_model(), task)
    return Analyzer(NAME, model, task, cpu=True, disable_tqdm=True, output_dir=str(job.own))


def _fit(job: Job) -> Callable[[], None]:
    analyzer = _analyzer(job)
    stories: Any = job.sequences("fit")
    # Half the time of the default, float64, and scores differ by less than 0.1 %; Headwater decomposes in float32, too.
    arguments = FactorArguments(FACTORS, eigendecomposition_dtype=torch.float32)

    def fit() -> None:
        analyzer.fit_all_factors(
            FACTORS,
            stories,
            job.batch,
            dataloader_kwargs=PAD_BY_BATCH,
            factor_args=arguments,
            overwrite_output_dir=True,
        )

    return fit


def _pairwise(
    job: Job, analyzer: Analyzer, queries: Any, stories: Any, loader: DataLoaderKwargs, by_token: bool = False
) -> NDArray[Any]:
    """[Q, N], or [Q, N, T] by token: the whole path, from factors on disk."""
    analyzer.compute_pairwise_scores(
        "scores",
        FACTORS,
        queries,
        stories,
        per_device_query_batch_size=len(queries),  # one pass over the stories for all of them
        per_device_train_batch_size=job.batch,
        dataloader_kwargs=loader,
        score_args=ScoreArguments(damping_factor=None, compute_per_token_scores=by_token),
        overwrite_output_dir=True,
    )
    scores = analyzer.load_pairwise_scores("scores")
    assert scores is not None
    return scores["all_modules"].numpy()


def _scan(count: int) -> Stage:
    def prepare(job: Job) -> Callable[[], NDArray[Any]]:
        analyzer, queries, stories = _analyzer(job), job.queries(count), job.sequences("train")
        return lambda: _pairwise(job, analyzer, queries, stories, PAD_BY_BATCH)

    return prepare


def _tokens8(job: Job) -> Callable[[], NDArray[Any]]:
    # Scores of all batches are put together, and must be of one width: stories are padded to the longest of all.
    analyzer = _analyzer(job)
    queries, stories = (TensorDataset(*padded(s)) for s in (job.queries(8), job.sequences("train")))
    return lambda: _pairwise(job, analyzer, queries, stories, DataLoaderKwargs(), by_token=True)


def _question(job: Job) -> Callable[[], NDArray[Any]]:
    analyzer, stories = _analyzer(job), job.sequences("train")
    first, second = job.queries(2)
    _pairwise(job, analyzer, [first], stories, PAD_BY_BATCH)
    return lambda: _pairwise(job, analyzer, [second], stories, PAD_BY_BATCH)


STAGES: dict[str, Stage] = {
    "fit": _fit,
    "scan8": _scan(8),
    "scan64": _scan(64),
    "tokens8": _tokens8,
    "question": _question,
}

if __name__ == "__main__":
    main(NAME, STAGES)
