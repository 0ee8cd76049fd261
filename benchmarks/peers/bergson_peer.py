"""bergson 2.5.1 (EleutherAI), used through the functions and classes its command line is made of, in this process.

Its commands load the model and the data afresh at every step and hand gradients on by files; what is raced here is the
work alone: `fit_factored_hessians` for EK-FAC, and its collectors with a `Scorer` that keeps all queries resident.
What it stores is its own kind of index: gradients projected to 16 × 16 a layer (as its TrackStar does, and its README
shows) and the autocorrelation of those, which preconditions a question asked through `Attributor`. EK-FAC is no choice
there: bergson refuses it together with projections.
"""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from bergson import Attributor, Builder, CollectorComputer, IndexConfig, InMemoryCollector, PreprocessConfig, Scorer
from bergson.collector.collector import fwd_bwd_factory
from bergson.config import HessianConfig
from bergson.data import allocate_batches
from bergson.gradients import GradientProcessor
from bergson.hessians.hessian_approximations import fit_factored_hessians
from bergson.score.score_writer import InMemorySequenceScoreWriter, InMemoryTokenScoreWriter
from datasets import Dataset

from benchmarks.peers.job import LONGEST, Job, Stage, main, padded
from headwater.corpus.batches import TokenSequence

PROJECTION = 16
"""Rows and columns that a layer's gradient is projected to: the default of bergson's `trackstar`."""

logging.disable(logging.INFO)  # it logs to stdout, where the seconds are printed


def settings(job: Job, name: str, **more: Any) -> IndexConfig:
    """`job.batch` examples a batch, summed losses and biases; what is made lies in `partial_run_path`."""
    cfg = IndexConfig(
        run_path=str(job.own / name),
        max_batch_size=job.batch,
        token_batch_size=job.batch * LONGEST,
        loss_reduction="sum",
        include_bias=True,
        **more,
    )
    cfg.partial_run_path.mkdir(exist_ok=True)
    return cfg


def stock(job: Job) -> Any:
    """The model, with gradients through it, of which only those of the first norm's weight are kept."""
    model = job.stock_model()
    # bergson's commands ask for the embedding's instead, which where it is the head too costs a product with the
    # logits' gradients in every pass.
    next(p for p in model.parameters() if p.ndim == 1).requires_grad_(True)
    return model


def dataset(sequences: list[TokenSequence]) -> Dataset:
    return Dataset.from_dict(
        {
            "input_ids": [s.input_ids for s in sequences],
            "labels": [np.where(s.targets, s.input_ids, -100) for s in sequences],
            "length": [len(s.input_ids) for s in sequences],
        }
    )


def batches(cfg: IndexConfig, data: Dataset) -> list[list[int]]:
    """Its own: examples of like length together."""
    return allocate_batches(data["length"][:], cfg.token_batch_size, max_batch_size=cfg.max_batch_size)


def layers(job: Job, model: Any) -> list[str]:
    """Hooks go on the base model, and so do names."""
    return [name.removeprefix(f"{model.base_model_prefix}.") for name in job.linears()]


def collect(job: Job, model: Any, data: Dataset, cfg: IndexConfig, **more: Any) -> InMemoryCollector:
    """One pass. The collector in memory: the one that writes to disk keeps a copy of the data set beside the scores."""
    more.setdefault("processor", GradientProcessor(include_bias=True))
    collector = InMemoryCollector(
        model=model.base_model, data=data, cfg=cfg, target_modules=set(layers(job, model)), **more
    )
    computer = CollectorComputer(model, data, collector=collector, batches=batches(cfg, data), cfg=cfg)
    computer.run_with_collector_hooks()
    return collector


def fit(job: Job):
    model, data, cfg = stock(job), dataset(job.sequences("fit")), settings(job, "ekfac")
    # Covariances with labels sampled from the model, the means of Λ over examples; all in float32 by default, but for
    # the eigendecompositions, which are always done in float64.
    hessian = HessianConfig("kfac", ev_correction=True)

    def work() -> None:
        torch.manual_seed(0)
        fit_factored_hessians(
            model,
            data,
            cfg,
            hessian,
            target_modules=set(layers(job, model)),
            attention_cfgs={},
            batches=batches(cfg, data),
            path=str(cfg.partial_run_path),
            do_eigendecomposition=True,
        )

    return work


def scan(count: int, by_token: bool = False) -> Stage:
    def stage(job: Job):
        model, data, asked = stock(job), dataset(job.sequences("train")), dataset(job.queries(count))
        cfg = settings(job, "scan", attribute_tokens=by_token)
        query_cfg = settings(job, "scan")
        # Query gradients are preconditioned as they are collected, so that they are held once. The default inversion
        # is 1 / (Λ + 0.1 mean Λ).
        ekfac = PreprocessConfig(hessian_path=str(settings(job, "ekfac").partial_run_path), ev_correction=True)

        def work() -> np.ndarray:
            queries = collect(job, model, asked, query_cfg, preprocess_cfg=ekfac).gradients
            if by_token:
                # As views of one matrix they would be copied in every batch.
                queries = {name: gradients.contiguous() for name, gradients in queries.items()}
                writer = InMemoryTokenScoreWriter(data, count)
            else:
                writer = InMemorySequenceScoreWriter(len(data), count)
            # All queries in one pass, layer by layer as the backward pass reaches them.
            scorer = Scorer(queries, list(queries), writer, model.device, torch.float32, attribute_tokens=by_token)
            collect(job, model, data, cfg, scorer=scorer)
            if not by_token:
                return writer.scores.T.numpy()
            scores = np.zeros((count, len(data), max(data["length"])), dtype=np.float32)
            for row, by_position in enumerate(writer.scores):  # every token's but the last's, which is 0
                scores[:, row, : len(by_position)] = by_position.T
            return scores

        return work

    return stage


def store(job: Job):
    model, data, cfg = stock(job), dataset(job.sequences("train")), settings(job, "store", projection_dim=PROJECTION)
    sizes = dict.fromkeys(layers(job, model), PROJECTION**2)

    def work() -> None:
        # Gradients and their autocorrelation from one pass; its commands make two.
        processor = GradientProcessor(include_bias=True, projection_dim=PROJECTION)
        builder = Builder(data, sizes, torch.float32, PreprocessConfig(), path=cfg.partial_run_path)
        collect(job, model, data, cfg, processor=processor, builder=builder, skip_hessians=False)
        processor.save(cfg.partial_run_path)

    return work


def question(job: Job):
    model, cfg = stock(job), settings(job, "store", projection_dim=PROJECTION)
    # The store in memory, and the autocorrelation inverted, by default, at 0.1 of its own mean eigenvalue.
    attributor = Attributor(cfg.partial_run_path, hessian_path=cfg.partial_run_path)
    backward, modules = fwd_bwd_factory(cfg), set(layers(job, model))
    first, second = (padded([query]) for query in job.queries(2))

    def ask(query: tuple[torch.Tensor, ...]) -> np.ndarray:
        ids, _, labels = query
        with attributor.trace(model.base_model, None, modules=modules) as found:
            backward(model, ids, labels, {})
        scores = np.empty((1, attributor.N), dtype=np.float32)
        scores[0, found.indices[0]] = found.scores[0]
        return scores

    ask(first)
    return lambda: ask(second)


STAGES: dict[str, Stage] = {
    "fit": fit,
    "scan8": scan(8),
    "scan64": scan(64),
    "tokens8": scan(8, by_token=True),
    "store": store,
    "question": question,
}

if __name__ == "__main__":
    main("bergson", STAGES)
