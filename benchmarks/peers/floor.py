"""What no contestant can go below: one bare forward and backward pass with frozen weights over the same stories.

`ours` with Headwater's fused head and attention, `stock` with the model as transformers runs it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from benchmarks.peers.job import Job, Stage, main, padded
from headwater.corpus.batches import Batch, make_batches
from headwater.lm.head import head_pass
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, load_model
from headwater.sweep.sweep import Sweep


def ours(part: str) -> Stage:
    """Over Headwater's own batches."""

    def prepare(job: Job) -> Callable[[], None]:
        lm = load_model(str(job.model))
        stories = job.sequences(part)
        batches = list(
            make_batches(
                stories, Sweep(stage="", lm=lm, layers=choose_layers(lm.model), sequences=stories).token_budget
            )
        )
        _pass(lm, batches[-1])

        def work() -> None:
            for batch in batches:
                _pass(lm, batch)

        return work

    return prepare


def stock(part: str) -> Stage:
    """Over batches of `job.batch` stories in their order, padded to the longest of each."""

    def prepare(job: Job) -> Callable[[], None]:
        model, stories = job.stock_model(), job.sequences(part)

        def work() -> None:
            for start in range(0, len(stories), job.batch):
                ids, _, labels = padded(stories[start : start + job.batch])
                embedded = model.get_input_embeddings()(ids).requires_grad_()
                logits = model(inputs_embeds=embedded, use_cache=False).logits[:, :-1].flatten(0, 1)
                loss = cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
                torch.autograd.grad(loss, embedded)

        return work

    return prepare


def _pass(lm: LanguageModel, batch: Batch) -> None:
    """The gradient flows down to the embeddings; nothing is caught."""
    ids = torch.from_numpy(batch.input_ids)
    embedded = lm.model.get_input_embeddings()(ids).requires_grad_()
    hidden = lm.body(inputs_embeds=embedded, use_cache=False).last_hidden_state
    predicts = torch.from_numpy(batch.targets[:, 1:])
    head = head_pass(hidden.detach()[:, :-1][predicts], lm.head, ids[:, 1:][predicts])
    seed = torch.zeros_like(hidden)
    seed[:, :-1][predicts] = head.gradient
    torch.autograd.grad(hidden, embedded, seed)


STAGES = {"fit": ours("fit"), "scan8": ours("train"), "stock-fit": stock("fit"), "stock-scan8": stock("train")}

if __name__ == "__main__":
    main("floor", STAGES)
