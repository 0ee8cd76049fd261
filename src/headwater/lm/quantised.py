"""Models whose linears have 8-bit or 4-bit weights (bitsandbytes): loading, running and dequantising them.

A quantised weight is frozen, so gradients flow through the linear as usual. NF4 (Dettmers et al. 2023) rounds only
weights. int8 (Dettmers et al. 2022) also rounds activations, and gradients ignore that rounding.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from headwater.errors import ModelError

# bitsandbytes logs missing kernels, and every layer whose input it casts.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def quantisation(dtype: str) -> BitsAndBytesConfig:
    """The configuration for transformers to quantise while loading. Raises ModelError if a package is missing."""
    for package in ("bitsandbytes", "accelerate"):
        if find_spec(package) is None:
            raise ModelError(f"--dtype {dtype} needs {package}. Install it with: pip install 'headwater[large]'")
    if dtype == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def is_quantised(model: Any) -> bool:
    """Whether a model was loaded with fewer than 16 bits per weight."""
    return getattr(model, "hf_quantizer", None) is not None


def keep_differentiable(model: Any) -> None:
    """Keep 4-bit weights in the layout that they were loaded in.

    On some CPUs, the first pass without a gradient makes bitsandbytes convert them, with rounded scales, for a kernel
    that has no backward pass.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def dequantised(model: Any) -> Any:
    """The model with plain float32 linears, whose weights are the dequantised ones. `model` itself is changed.

    Raises ModelError if transformers cannot undo the quantisation.
    """
    loud = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # hides messages about types
    try:
        return model.dequantize(dtype=torch.float32).float()
    except NotImplementedError as error:
        method = model.config.quantization_config.quant_method
        raise ModelError(
            f"This needs the weights in float32, and a model quantised by {method} cannot be dequantised. Use the "
            "original model."
        ) from error
    finally:
        transformers_logging.set_verbosity(loud)
