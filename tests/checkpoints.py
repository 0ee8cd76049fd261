"""Checkpoints of a training, in the files that transformers' Trainer writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from headwater.training.adam import TRAINER_FILE
from headwater.training.checkpoints import STATE_FILE
from tests.models import plain_model, tiny_tokenizer

STEPS = (10, 30)
LOG = [(10, 0.5), (20, 0.25), (30, 0.0)]
"""(step, learning rate): from step 10 on it falls in a straight line to zero."""


def trained_a_little(model: Any, seed: int, beta: float = 0.9) -> torch.optim.Optimizer:
    """Three steps of Adam along random gradients, its parameters grouped by transformers' Trainer."""
    decayed = set(Trainer.get_decay_parameter_names(None, model))  # pyright: ignore[reportArgumentType]
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if (n in decayed) == wanted], "weight_decay": 0.1 * wanted}
        for wanted in (True, False)
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.03, betas=(0.8, beta), eps=1e-3)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(3):
        for _, parameter in named:
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()
    return optimizer


def write_checkpoint(folder: Path, step: int) -> None:
    """One checkpoint as Trainer lays it out."""
    model = plain_model("gpt_neo", torch.float32).requires_grad_(True)
    optimizer = trained_a_little(model, seed=step)
    path = folder / f"checkpoint-{step}"
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    torch.save(optimizer.state_dict(), path / TRAINER_FILE)
    log = [{"step": at, "learning_rate": rate, "loss": 1.0} for at, rate in LOG if at <= step] + [{"step": step}]
    (path / STATE_FILE).write_text(json.dumps({"global_step": step, "log_history": log}))
