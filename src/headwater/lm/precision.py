"""The precision of float32 products on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from headwater.lm.load import LanguageModel


@contextmanager
def fast_products(lm: LanguageModel) -> Iterator[None]:
    """During a `with`, let a GPU use TF32 products if the model runs in bfloat16.

    TF32 rounds the factors of float32 products to 11 bits. Activations and output gradients in bfloat16 have 8 bits, so
    they lose nothing. Sums stay in float32. A model in float32 keeps full products.
    """
    before = torch.get_float32_matmul_precision()
    if lm.device.type == "cuda" and lm.model.dtype != torch.float32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
