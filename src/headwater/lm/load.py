"""Loading a causal language model and its tokenizer, frozen and fingerprinted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from headwater.errors import ModelError, first_line
from headwater.lm.head import Head, head_of
from headwater.lm.kernels import use_fused_gelu, use_sdpa

Dtype = Literal["fp32", "bf16"]
"""What a model runs in. Whatever is summed over tokens or examples is in float32 all the same."""


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal LM: `body` maps tokens to the final hidden states, `head` maps those to logits."""

    name: str
    """Hub name or path it was loaded from."""
    model: Any
    tokenizer: Any
    head: Head
    trust_remote_code: bool = False
    """Whether it was loaded with code of its own."""

    @property
    def body(self) -> Any:
        return self.model.base_model

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def max_positions(self) -> int:
        """Longest text in tokens that the model can read."""
        return max_positions(self.model.config)

    @property
    def dtype(self) -> Dtype:
        """Of the weights."""
        return "bf16" if self.model.dtype == torch.bfloat16 else "fp32"

    @cached_property
    def precise(self) -> LanguageModel:
        """The same model in float32 or better: itself, or else loaded anew. Fewer bits do not take a small step, and
        carry no tangents."""
        if torch.promote_types(self.model.dtype, torch.float32) == self.model.dtype:
            return self
        return load_model(self.name, device=str(self.device), trust_remote_code=self.trust_remote_code)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every weight's name, type, shape and bytes."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the tokenizer's whole definition."""
        definition = self.tokenizer.backend_tokenizer.to_str()
        special = json.dumps(self.tokenizer.special_tokens_map, sort_keys=True, default=str)
        return hashlib.sha256((definition + special).encode()).hexdigest()[:16]


def max_positions(config: Any) -> int:
    """Longest text in tokens that a model of this configuration can read."""
    for field in ("max_position_embeddings", "n_positions"):
        if isinstance(limit := getattr(config, field, None), int):
            return limit
    return 2048


def load_model(
    name: str,
    *,
    device: str | None = None,
    trust_remote_code: bool = False,
    dtype: Dtype = "fp32",
) -> LanguageModel:
    """Load a model and tokenizer from a hub name or a path, from safetensors only, with weights frozen.

    A hub name may end in @revision. `name` may be a LoRA adapter (peft), which is laid over the model that it names.
    GPT-Neo gets fused attention.
    `device` defaults to the GPU where there is one. Raises ModelError where the model
    cannot be loaded, has no fast tokenizer, or computes its logits in a way the fused head does not follow.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = str(name)
    if name.startswith((".", "/", "~")) and not Path(name).expanduser().exists():
        raise ModelError(f"No model at {name}: the path does not exist.")
    source, revision = str(Path(name).expanduser()), "main"
    if not Path(source).exists():
        source, _, revision = name.partition("@")
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            _tokenizer_source(source), revision=revision or "main", trust_remote_code=trust_remote_code
        )
        model = AutoModelForCausalLM.from_pretrained(
            source,
            revision=revision or "main",
            dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"Cannot load the model {name!r}: {first_line(error)}. Give a folder written by save_pretrained "
            "(config.json, model.safetensors, tokenizer.json) or the name of a public model on the hub."
        ) from error
    lm = wrap_model(model.to(torch.device(device)), tokenizer, name)  # pyright: ignore[reportArgumentType]
    return replace(lm, trust_remote_code=trust_remote_code)


def _tokenizer_source(source: str) -> str:
    """Where the tokenizer is: with the model, or, for an adapter that has none beside it, with what it adapts.

    Raises ModelError where `source` is an adapter and peft is not installed.
    """
    folder = Path(source)
    if not (folder / "adapter_config.json").exists():
        return source
    if find_spec("peft") is None:
        raise ModelError(f"{source} is an adapter, which needs peft. Install it with: pip install 'headwater[peft]'")
    if (folder / "tokenizer.json").exists():
        return source
    return str(json.loads((folder / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"])


def wrap_model(model: Any, tokenizer: Any, name: str = "model") -> LanguageModel:
    """A LanguageModel from a model and tokenizer already in memory. Freezes the model and puts it in eval mode."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"The tokenizer of {name} is not a fast one, so its tokens cannot be located in the text. "
            "Save a tokenizer.json with it."
        )
    model.requires_grad_(False)
    model.eval()
    use_sdpa(model)
    use_fused_gelu(model)
    wrapped = LanguageModel(name, model, tokenizer, head_of(model))
    _check_head(wrapped)
    return wrapped


@torch.no_grad()
def _check_head(lm: LanguageModel) -> None:
    """Refuse models that do something between hidden states and logits that the fused head would miss."""
    probe = torch.arange(4, device=lm.device)[None]
    expected: Tensor = lm.model(probe, use_cache=False).logits.float()
    found = lm.head.logits(lm.body(probe, use_cache=False).last_hidden_state).float()
    tolerance = 1e-4 if lm.head.weight.dtype == torch.float32 else 5e-2
    if not torch.allclose(found, expected, rtol=tolerance, atol=tolerance * float(expected.abs().max())):
        raise ModelError(
            f"{type(lm.model).__name__} changes its logits after the output layer (a soft cap, for example), which "
            "Headwater's fused head does not compute yet."
        )
