"""Loading a causal language model and its tokenizer. The model is frozen and has a fingerprint."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from headwater.corpus.tokenize import limit_tokens
from headwater.errors import ModelError
from headwater.lm.body import body_of
from headwater.lm.checkpointing import checkpoint_gradients, checkpoints_gradients
from headwater.lm.experts import split_experts
from headwater.lm.head import Head, head_of
from headwater.lm.kernels import use_fused_gelu, use_sdpa
from headwater.lm.options import Loading
from headwater.lm.placement import check_for_adapter, each_weight, is_offloaded
from headwater.lm.pretrained import locate, locate_tokenizer, read_model, read_tokenizer
from headwater.lm.quantised import dequantised, is_quantised, keep_differentiable, quantisation
from headwater.lm.routers import split_routers


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A frozen causal LM: `body` maps tokens to the final hidden states, `head` maps those to logits."""

    name: str
    """Hub name or path that it was loaded from."""
    model: Any
    tokenizer: Any
    head: Head
    loading: Loading = Loading()
    in_memory: bool = False
    """Whether the model was given as an object, so that no name loads it again."""

    @property
    def body(self) -> Any:
        return body_of(self.model)

    @property
    def device(self) -> torch.device:
        """The head's device, where token ids, hidden states and captured tensors are brought together."""
        return self.head.weight.device

    @property
    def max_positions(self) -> int:
        """The longest text, in tokens, that the model can read."""
        return max_positions(self.model.config)

    def hidden_states(self, input_ids: Tensor) -> Tensor:
        """[B, T, H] the final hidden states of token ids [B, T]."""
        return self.body(input_ids, use_cache=False).last_hidden_state.to(self.device)

    @cached_property
    def float32_model(self) -> LanguageModel:
        """The same model in float32 or better: itself, or loaded again, or dequantised.

        Low precision cannot represent small steps or forward-mode tangents. Raises ModelError if weights are offloaded,
        or if the quantisation cannot be undone.
        """
        if is_offloaded(self.model):
            raise ModelError(
                "This changes or differentiates the weights, and some of them are offloaded to memory or disk "
                "(--device-map). Use devices that the whole model fits on."
            )
        quantised = is_quantised(self.model)
        if not quantised and torch.promote_types(self.model.dtype, torch.float32) == self.model.dtype:
            return self
        loading = self.loading if quantised else replace(self.loading, dtype="fp32")
        if self.in_memory:
            copied = deepcopy(self.model)
            model = dequantised(copied) if quantised else copied.float()
            return wrap_model(model, self.tokenizer, self.name, loading=loading, in_memory=True)
        lm = load_model(self.name, loading, device=None if loading.device_map else str(self.device))
        if not quantised:
            return lm
        return wrap_model(dequantised(lm.model), self.tokenizer, self.name, loading=replace(loading, dtype="fp32"))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the name, type, shape and bytes of every weight, on whatever device."""
        digest = hashlib.sha256()
        for name, tensor in each_weight(self.model):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    @cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of the whole definition of the tokenizer."""
        definition = self.tokenizer.backend_tokenizer.to_str()
        special = json.dumps(self.tokenizer.special_tokens_map, sort_keys=True, default=str)
        return hashlib.sha256((definition + special).encode()).hexdigest()[:16]


def max_positions(config: Any) -> int:
    """The longest text, in tokens, that a model with this configuration can read.

    The configuration of a model that reads images too has one for texts inside.
    """
    config = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    for field in ("max_position_embeddings", "n_positions"):
        if isinstance(limit := getattr(config, field, None), int):
            return limit
    return 2048


def load_model(
    name: str, loading: Loading = Loading(), *, device: str | None = None, **changes: object
) -> LanguageModel:
    """Load a model and its tokenizer from a hub name or a path, and freeze it. No pickle is run.

    A hub name may end in @revision. `name` may be a GGUF file, also `owner/name/FILE.gguf` on the hub, or a LoRA
    adapter (peft), which is loaded with its base model. A model may be quantised already. GPT-Neo gets fused attention.
    `device` is by default the GPU, if there is one. `changes` are fields of Loading: `load_model(name, dtype="bf16")`.
    Raises ModelError if the model cannot be loaded, if its files lack a weight, if a weight is NaN or infinite, if it
    has no fast tokenizer, or if it computes its logits in a way that the fused head does not support.
    """
    loading = replace(loading, **changes)  # pyright: ignore[reportArgumentType]
    placed = _placed(loading, device)
    files = locate(str(name), loading)
    tokenizer = read_tokenizer(locate_tokenizer(files, loading), trust_remote_code=loading.trust_remote_code)
    model = read_model(files, loading, placed)
    if not (placed or is_quantised(model)):
        model = model.to(torch.device(device or _usual_device()))  # pyright: ignore[reportArgumentType]
    return wrap_model(model, tokenizer, str(name), loading=loading)


def _usual_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _placed(loading: Loading, device: str | None) -> dict[str, Any]:
    """Arguments of transformers for devices and quantisation. Empty if the model moves to one device after loading.

    Raises ModelError if a package is missing.
    """
    if loading.device_map is not None:
        if device is not None:
            raise ModelError(f"The device {device} and a device map both place the model. Give one of the two.")
        if find_spec("accelerate") is None:
            raise ModelError("--device-map needs accelerate. Install it with: pip install 'headwater[large]'")
    placed: dict[str, Any] = {} if loading.device_map is None else {"device_map": loading.device_map}
    if loading.dtype in ("int8", "nf4"):
        placed = {"device_map": device or _usual_device()} | placed
        placed["quantization_config"] = quantisation(loading.dtype)
    return placed


def wrap_model(
    model: Any, tokenizer: Any, name: str = "model", *, loading: Loading | None = None, in_memory: bool = False
) -> LanguageModel:
    """A LanguageModel from a model and tokenizer in memory. It freezes the model and puts it in eval mode.

    Raises ModelError as `load_model` does. It also raises if a model without blocks should use gradient checkpointing,
    and if the base model of an adapter is offloaded.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"The tokenizer of {name} is not a fast one, so its tokens cannot be located in the text. "
            "Save a fast tokenizer (tokenizer.json) with the model."
        )
    if getattr(model, "peft_config", None):
        check_for_adapter(model, name)
    model.requires_grad_(False)
    model.eval()
    use_sdpa(model)
    use_fused_gelu(model)
    keep_differentiable(model)
    split_experts(model)
    split_routers(model)
    if loading is None:
        loading = Loading(dtype="bf16" if model.dtype == torch.bfloat16 else "fp32")
    # Without checkpointing, a graph would keep the loaded weights of all offloaded blocks until the backward pass.
    if loading.gradient_checkpointing or is_offloaded(model):
        checkpoint_gradients(model)
        if not checkpoints_gradients(model):
            raise ModelError(f"{type(model).__name__} has no blocks that gradient checkpointing could run again.")
    _check_causal(model)
    limit_tokens(tokenizer, len(model.get_input_embeddings().weight))
    return LanguageModel(
        name=name, model=model, tokenizer=tokenizer, head=head_of(model), loading=loading, in_memory=in_memory
    )


@torch.no_grad()
def _check_causal(model: Any) -> None:
    """Refuse models whose hidden state of a token depends on later tokens, such as BERT."""
    if is_offloaded(model):  # a pass is expensive, and the models that are so large are causal
        return
    probe = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 0]], device=model.device)
    one, other = model.base_model(probe, use_cache=False).last_hidden_state[:, :3].float()
    tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    if float((one - other).abs().max()) > tolerance * float(one.abs().max()):
        raise ModelError(
            f"{type(model).__name__} reads the tokens after the one that it predicts, so it is no causal language "
            "model. Use one that is, such as GPT, Llama or Qwen."
        )
