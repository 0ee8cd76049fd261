"""dattri-llm: EK-FAC from factored gradients, scored live or from stores of captured gradients.

It is used as its README has it: an `AttributionTask` holds the model and a loss, an `EKFACAttributor` streams gradients
under hooks, fits, and scores. Its index is a store of gradients projected on both sides (LoGra), with an EK-FAC of its
own: a fit in full dimension cannot be applied to projected gradients, so `store` fits another, as the library does by
itself, from the gradients it stores (thus with true labels, not sampled ones).
"""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from dattri_llm import AttributionArguments, AttributionTask, EKFACAttributor, GradientStorageManager, HookManagerConfig
from dattri_llm.gradient.streaming import rebatch_blocks
from numpy.typing import NDArray
from torch.nn.functional import nll_loss, pad

from benchmarks.peers.job import DAMPING, Job, Stage, drawn, main, padded
from headwater.corpus.batches import TokenSequence

NAME = "dattri-llm"
RANK = 64
"""Directions kept on either side of a layer: 64 × 64 numbers a layer and story, if it is that wide."""
ROWS = 4096
"""Stories that a warm question multiplies at once."""

Batch = dict[str, torch.Tensor]


def _log_probabilities(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """[B · T, V] of the next token, and the next token: −100 where there is no loss."""
    # The library gives its loader no collate function: stories come padded to the longest of all, and are cut here to
    # the longest of the batch. Padding is on the right, where causal attention does not look: no mask is needed.
    width = int((batch["labels"] != -100).any(0).nonzero().max()) + 1
    logits = model(input_ids=batch["input_ids"][:, :width], use_cache=False).logits
    # Labels are moved to the logits that predict them, rather than logits cut, which would copy them.
    labels = pad(batch["labels"][:, 1:width], (0, 1), value=-100)
    return logits.flatten(0, 1).log_softmax(-1), labels.flatten()


def _loss(model: Any, batch: Batch) -> torch.Tensor:
    return nll_loss(*_log_probabilities(model, batch), ignore_index=-100, reduction="sum")


def _sampled_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The library takes labels as the loss has them; so this is where they are sampled."""
    log_p, labels = _log_probabilities(model, batch)
    sampled = torch.where(labels == -100, labels, drawn(log_p.detach().exp()))
    return nll_loss(log_p, sampled, ignore_index=-100, reduction="sum")


def _data(sequences: list[TokenSequence]) -> list[Batch]:
    ids, _, labels = padded(sequences)
    return [{"input_ids": i, "labels": t} for i, t in zip(ids, labels, strict=True)]


def _attributor(job: Job, loss: Callable[[Any, Batch], torch.Tensor], queries: int = 1) -> Any:
    model = job.stock_model()
    for name in job.linears():  # only what is trainable is captured; all else stays frozen
        model.get_submodule(name).requires_grad_(True)
    arguments = AttributionArguments(
        output_dir=str(job.own / "scores"),
        use_cpu=True,
        per_device_train_batch_size=job.batch,
        per_device_eval_batch_size=queries,  # one block, kept preconditioned: one pass over the stories serves them all
    )
    return EKFACAttributor(arguments, task=AttributionTask(loss, model))


def _hooks(job: Job, **capture: Any) -> Any:
    # The invasive hook captures the same factors, and spares the backward pass the batch's own weight gradient.
    return HookManagerConfig(hook_types=dict.fromkeys(job.linears(), "invasive_linear_io"), **capture)


def _damped(fitted: str) -> dict[str, Any]:
    """λ is relative to a layer's mean corrected eigenvalue."""
    return {"damping": DAMPING, "relative_damping": True, "fisher_dir": fitted}


def _fit(job: Job) -> Callable[[], None]:
    attributor, stories = _attributor(job, _sampled_loss), _data(job.sequences("fit"))

    def fit() -> None:
        # Factors wait in memory (and on disk beyond half of it) between the two sweeps of the fit, so that the model
        # runs once a story, not twice; the covariances are taken while they are captured.
        with GradientStorageManager(str(job.own / "factors"), residency="tiered") as store:
            attributor.collect_gradients(attributor.generate_train_rep(stories, hook_config=_hooks(job)), store)
            attributor.fit(store, str(job.own / "ekfac"))

    return fit


def _scan(count: int, granularity: str = "instance") -> Stage:
    def prepare(job: Job) -> Callable[[], NDArray[Any]]:
        attributor, sequences = _attributor(job, _loss, count), job.sequences("train")
        stories, queries = _data(sequences), _data(job.queries(count))

        def scan() -> NDArray[Any]:
            found = attributor.attribute(
                stories,
                queries,
                hook_config=_hooks(job),
                attribution_granularity=granularity,
                **_damped(str(job.own / "ekfac")),
            )
            scores = found.scores.T.numpy()
            if found.row_token_ids is None:
                return scores
            # A row is a token; every batch has as many rows a story as its longest story has tokens.
            token = np.array(found.row_token_ids)
            by_token = np.zeros((count, len(sequences), token.max() + 1), np.float32)
            by_token[:, np.cumsum(token == 0) - 1, token] = scores
            return by_token

        return scan

    return prepare


def _orthonormal(feature: torch.Tensor, _: int, *, proj_dim: int, proj_seed: int, device: Any) -> Any:
    """A projector in the form the library asks for; its own come with another package, dattri."""
    normal = torch.randn(feature.shape[-1], proj_dim, generator=torch.Generator().manual_seed(proj_seed), device=device)
    directions = torch.linalg.qr(normal).Q
    return lambda x: x @ directions


def _projected(job: Job) -> Any:
    projection = {"__default__": {"style": "logra", "proj_dim": RANK}}
    return _hooks(job, projection_kwargs=projection, projector=_orthonormal, capture_style="materialized")


def _store(job: Job) -> Callable[[], None]:
    attributor, stories = _attributor(job, _loss), _data(job.sequences("train"))
    folder = job.own / "store"

    def store() -> None:
        shutil.rmtree(folder, ignore_errors=True)  # it would append
        index = GradientStorageManager(str(folder))
        attributor.collect_gradients(attributor.generate_train_rep(stories, hook_config=_projected(job)), index)
        attributor.fit(index, str(job.own / "projected"))

    return store


def _question(job: Job) -> Callable[[], NDArray[Any]]:
    attributor, (first, second) = _attributor(job, _loss), _data(job.queries(2))
    resident = GradientStorageManager("resident", residency="memory")
    stored = rebatch_blocks(attributor.load_train_rep(str(job.own / "store")), ROWS)
    attributor.cache_representations(((0, block, ids) for _, block, ids in stored), resident, transform=lambda b: b)
    index = attributor.load_train_rep(resident)
    with GradientStorageManager("query", residency="memory") as query:
        attributor.collect_gradients(attributor.generate_test_rep([first], hook_config=_projected(job)), query)
        attributor.attribute_from_cache(resident, query, **_damped(str(job.own / "projected")))

    def ask(asked: Batch) -> NDArray[Any]:
        # What `attribute_from_cache` runs, without writing the scores to disk; the damped fit is still loaded.
        with attributor.generate_test_rep([asked], hook_config=_projected(job)) as gradients:
            return attributor.score_sources(index, gradients)[0].T.numpy()

    ask(first)
    return lambda: ask(second)


STAGES: dict[str, Stage] = {
    "fit": _fit,
    "scan8": _scan(8),
    "scan64": _scan(64),
    "tokens8": _scan(8, "token"),
    "store": _store,
    "question": _question,
}


if __name__ == "__main__":
    main(NAME, STAGES)
