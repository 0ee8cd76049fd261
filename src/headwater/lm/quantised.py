"""Models whose linears are kept in 8 or 4 bits (bitsandbytes): loading, running and undoing it.

Gradients flow through a quantised linear as through any, since its weight is frozen. NF4 (Dettmers et al. 2023) rounds
weights alone; int8 (Dettmers et al. 2022) also rounds activations, which gradients pass by as if it were not there.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from headwater.errors import ModelError

# It speaks of kernels that it did not find, and of every layer whose input it casts.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def quantisation(dtype: str) -> BitsAndBytesConfig:
    """How transformers is to quantise while it loads. Raises ModelError where what that takes is not installed."""
    for package in ("bitsandbytes", "accelerate"):
        if find_spec(package) is None:
            raise ModelError(f"--dtype {dtype} needs {package}. Install it with: pip install 'headwater[large]'")
    if dtype == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def is_quantised(model: Any) -> bool:
    """Whether a model was loaded with fewer than 16 bits a weight."""
    return getattr(model, "hf_quantizer", None) is not None


def keep_differentiable(model: Any) -> None:
    """Keep 4-bit weights as they were loaded.

    On some processors bitsandbytes lays them out anew when it first runs without a gradient, scales rounded, for a
    kernel that has no way back.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def dequantised(model: Any) -> Any:
    """A quantised model with plain linears of the weights that it computes with, in float32. `model` is used up.

    Raises ModelError where transformers cannot undo the quantisation.
    """
    loud = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it says in which types it does that
    try:
        return model.dequantize(dtype=torch.float32).float()
    except NotImplementedError as error:
        method = model.config.quantization_config.quant_method
        raise ModelError(
            f"This takes the weights themselves, and those of a model quantised by {method} cannot be brought back to "
            "float32. Use the model that it was made from."
        ) from error
    finally:
        transformers_logging.set_verbosity(loud)
