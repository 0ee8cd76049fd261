"""Models in memory: a model of transformers with its tokenizer, as a LanguageModel."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from headwater.errors import ModelError
from headwater.lm.load import LanguageModel, wrap_model
from headwater.lm.loading_report import check_finite
from headwater.lm.model_files import find_tokenizer
from headwater.lm.options import Loading
from headwater.lm.pretrained import read_tokenizer

KEPT = ("gradient_checkpointing", "tokenizer", "trust_remote_code")
"""Options of loading that mean something for a model that is loaded already."""


def model_in_memory(given: Any, loading: Loading = Loading()) -> LanguageModel:
    """A LanguageModel of `(model, tokenizer)`, or of a model whose tokenizer `loading.tokenizer` names.

    Without that name, the tokenizer is read from where the model was loaded. The model may be one of peft, of
    torch.compile or of DistributedDataParallel. It is frozen, set to eval mode and gets Headwater's kernels. Raises
    ModelError if it is no causal language model, has no tokenizer, or runs in float16.
    """
    model, tokenizer = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    model = _bare(model)
    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"{type(given).__name__} is not a model. Give the name or path of one, a model of transformers, or "
            "(model, tokenizer)."
        )
    for field in fields(Loading):
        if field.name not in KEPT and getattr(loading, field.name) != field.default:
            raise ModelError(f"{field.name} is for models that Headwater loads. Load the model that way yourself.")
    if model.dtype == torch.float16:
        raise ModelError(
            "The model is in float16, in which gradients overflow. Give model.float() or model.to(torch.bfloat16)."
        )
    name = f"{type(model).__name__} in memory"
    check_finite(model, name)
    return wrap_model(
        model, _tokenizer(model, tokenizer, loading), name, loading=_as_it_runs(model, loading), in_memory=True
    )


def _bare(model: Any) -> Any:
    """The model of transformers in what torch.compile, DistributedDataParallel and peft put around it."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = model._orig_mod
        elif isinstance(model, torch.nn.parallel.DistributedDataParallel):
            model = model.module
        elif hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
            if any(each.is_prompt_learning for each in model.peft_config.values()):
                raise ModelError("Headwater reads LoRA adapters and no learned prompts. Give a model with LoRA.")
            model = model.get_base_model()
        else:
            return model


def _tokenizer(model: Any, tokenizer: Any, loading: Loading) -> Any:
    if tokenizer is not None:
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise ModelError(f"{type(tokenizer).__name__} is not a tokenizer of transformers. Give (model, tokenizer).")
        return tokenizer
    source = loading.tokenizer or str(getattr(model.config, "name_or_path", "") or "")
    if not source:
        raise ModelError("The model comes without a tokenizer. Give both: model=(model, tokenizer).")
    try:
        return read_tokenizer(find_tokenizer(source), trust_remote_code=loading.trust_remote_code)
    except ModelError as error:
        if loading.tokenizer is not None:
            raise
        raise ModelError(
            f"The model comes without a tokenizer, and {source}, where it was loaded from, has none that can be read. "
            "Give both: model=(model, tokenizer)."
        ) from error


def _as_it_runs(model: Any, loading: Loading) -> Loading:
    dtype = "bf16" if model.dtype == torch.bfloat16 else "fp32"
    return Loading(dtype=dtype, gradient_checkpointing=loading.gradient_checkpointing)
