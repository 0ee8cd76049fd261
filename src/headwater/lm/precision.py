"""How precisely a GPU multiplies float32 numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from headwater.lm.load import LanguageModel


@contextmanager
def fast_products(lm: LanguageModel) -> Iterator[None]:
    """Meanwhile a GPU rounds the factors of float32 products to 11 bits (TF32) where the model runs in 8 (bfloat16).

    The sums stay in float32. Activations and output gradients lose nothing by it, since they have no more bits. A
    model in float32 keeps its own: it was asked for.
    """
    before = torch.get_float32_matmul_precision()
    if lm.device.type == "cuda" and lm.model.dtype != torch.float32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
