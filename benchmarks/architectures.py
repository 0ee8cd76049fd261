"""`python -m benchmarks.architectures [NAME…] [--write]`: gradients of every architecture compared with autograd.

It builds a tiny model of each causal language model of the installed transformers, from its configuration alone, with
random weights. For a few texts it computes identity scores, the dot products of their gradients over the
layers tracked by default, once as Headwater does (all texts in one padded batch) and once by autograd (one text after
the other). `--write` writes docs/architectures.md. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import copy
import re
import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from headwater import HeadwaterError, configure_process
from headwater.corpus.batches import TokenSequence, all_targets, make_batches
from headwater.lm.capture import Capture
from headwater.lm.layers import choose_layers
from headwater.lm.load import wrap_model

PAGE = Path(__file__).parents[1] / "docs" / "architectures.md"
VOCABULARY = 96
MOST_PARAMETERS = 20_000_000
"""A configuration with more is not tiny: a setting that this file does not know gives it its size."""
SECONDS = 120
"""Longest time for one architecture."""
AGREES = 1e-5
"""Largest relative difference that counts as right. Some architectures compute parts in float32 at all times."""

_WIDTHS = {
    32: "hidden_size d_model n_embd dim embed_dim emb_dim model_dim encoder_hidden_size embedding_size "
    "word_embed_proj_dim mamba_d_ssm attention_hidden_size vision_feature_dim lru_width embedding_dim "
    "hidden_size_per_layer_input",
    24: "intermediate_size ffn_dim n_inner ffn_hidden_size moe_intermediate_size "
    "shared_expert_intermediate_size encoder_ffn_dim decoder_ffn_dim intermediate_size_mlp "
    "expert_ffn_hidden_size shared_intermediate_size d_ff d_inner dense_intermediate_size "
    "moe_shared_expert_intermediate_size block_ff_dim expert_intermediate_size dim_ff moe_latent_size",
    2: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers "
    "num_encoder_layers num_experts_per_tok num_experts_per_token top_k moe_topk moe_k "
    "num_key_value_heads n_head_kv num_key_value_groups moe_top_k num_kv_heads top_k_experts "
    "mamba_d_state num_mtp_layers depth",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads "
    "num_experts n_routed_experts num_local_experts num_experts_total moe_num_experts mamba_n_heads "
    "state_size time_step_rank mamba_num_heads num_decoder_attention_heads num_encoder_attention_heads "
    "linear_num_value_heads linear_num_key_heads index_n_heads linear_num_heads",
    8: "head_dim kv_channels qk_nope_head_dim qk_rope_head_dim v_head_dim q_lora_rank kv_lora_rank d_kv "
    "attention_head_dim global_head_dim linear_key_head_dim linear_value_head_dim rotary_dim "
    "mamba_dt_rank index_head_dim swa_head_dim swa_v_head_dim rotary_ndims kda_head_dim",
    1: "n_group topk_group n_shared_experts num_shared_experts first_k_dense_replace n_groups mamba_n_groups "
    "moe_num_shared_experts num_group limited_topk bos_token_id num_nextn_predict_layers",
    0: "pad_token_id dropout hidden_dropout attention_dropout num_kv_shared_layers",
    64: "max_position_embeddings n_positions max_target_positions max_source_positions n_ctx max_seq_len",
    16: "mamba_d_head mamba_head_dim linear_head_dim chunk_size index_topk sliding_window mamba_chunk_size",
    VOCABULARY: "vocab_size vocab_size_per_layer_input",
}
SMALL = {name: value for value, names in _WIDTHS.items() for name in names.split()} | {"is_decoder": True}
"""Setting -> its value in a tiny model, for the settings that a configuration has."""
LEFT_OUT = object()
"""A setting that an architecture's configuration does not take, although it has the attribute."""
OWN: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "falcon": {"num_kv_heads": 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "mamba2": {"head_dim": 16, "num_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
    "xmod": {"default_language": "en_XX"},
    "prophetnet": {"num_hidden_layers": LEFT_OUT},
    "xlnet": {"max_position_embeddings": LEFT_OUT},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "reformer": {"axial_pos_shape": [8, 8], "axial_pos_embds_dim": [8, 24], "attn_layers": ["local", "local"]},
    "zamba": {"layers_block_type": ["mamba", "hybrid"]},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"]},
}
"""Architecture -> settings that its configuration needs beyond these."""


@dataclass(frozen=True)
class Row:
    """What was found about one architecture."""

    name: str
    family: str
    layers: Sequence[str] = ()
    """Kinds of the layers tracked by default, without their numbers."""
    difference: float | None = None
    """Largest difference of two scores, relative to the norms of the two gradients."""
    remark: str = ""

    @property
    def is_right(self) -> bool:
        return self.difference is not None and self.difference <= AGREES


def tiny_config(name: str) -> Any:
    """The configuration of the architecture `name` with few and narrow layers."""
    return _tiny(CONFIG_MAPPING[name], OWN.get(name, {}))


def _tiny(kind: Any, own: dict[str, Any]) -> Any:
    default = kind()
    parts = {key: part for key in getattr(kind, "sub_configs", {}) if (part := _value(default, key)) is not None}
    settings: dict[str, Any] = {key: _tiny(type(part), {}).to_dict() for key, part in parts.items()}
    for key, value in SMALL.items():
        if isinstance(getattr(kind, key, None), property) or not _has(default, key):
            continue
        now = _value(default, key)
        if isinstance(now, float):
            settings[key] = float(value)
        elif isinstance(now, int) or key in ("head_dim", "num_key_value_heads"):
            settings[key] = value
    settings |= {key: 1 for key in ("eos_token_id", "decoder_start_token_id") if _value(default, key) is not None}
    settings["pad_token_id"] = 0
    if _value(default, "kv_lora_rank") is not None:  # latent attention has as many keys as queries
        settings["num_key_value_heads"] = 4
        settings.pop("head_dim", None)
    settings |= own
    return kind(**{key: value for key, value in settings.items() if value is not LEFT_OUT})


def _value(config: Any, key: str) -> Any:
    """A setting; None if it is absent or has another value for each layer."""
    try:
        return getattr(config, key, None)
    except Exception:  # a class of transformers for settings that vary over layers
        return 0


def _has(config: Any, key: str) -> bool:
    """Whether a configuration has a setting, though it may have another value for each layer."""
    try:
        return hasattr(config, key)
    except Exception:
        return True


def tiny_model(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A model of the architecture with random weights, none of them zero.

    Raises HeadwaterError if it is not small.
    """
    config = tiny_config(name)
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"  # others have no kernels for float64
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(copy.deepcopy(config)).parameters())
    if size > MOST_PARAMETERS:
        raise HeadwaterError(f"{size:,} parameters: not tiny")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model


def texts() -> list[TokenSequence]:
    """Four texts of different lengths."""
    rng = np.random.default_rng(0)
    return [all_targets(rng.integers(4, VOCABULARY, length), f"z{length}") for length in (9, 16, 5, 12)]


def scores_by_capture(model: Any) -> tuple[list[str], Tensor]:
    """Names of the layers tracked by default, and the identity scores [N, N], as Headwater computes them."""
    lm = wrap_model(model, SimpleNamespace(is_fast=True, get_vocab=dict))
    layers = choose_layers(lm.model)
    (batch,) = make_batches(texts(), 10_000)
    with Capture(lm, layers) as capture:
        captured = capture(batch)
    total = torch.zeros(len(batch.ids), len(batch.ids), dtype=torch.float64)
    for layer in layers:
        formed = (captured.output_gradients[layer.name].mT @ captured.activations[layer.group]).flatten(1).double()
        total += formed @ formed.T
    order = np.argsort(batch.rows)
    return [layer.name for layer in layers], total[order][:, order]


def scores_by_autograd(model: Any, names: Sequence[str]) -> Tensor:
    """The identity scores [N, N] over the parameters of the layers `names`, one text after the other, unpadded."""
    by_name = dict(model.named_parameters())
    wanted = {name: by_name[name] for layer in names for name in parameters_of(layer, by_name)}
    model.requires_grad_(True)
    rows: list[Tensor] = []
    for text in texts():
        ids = torch.from_numpy(text.input_ids)[None]
        logits = model(ids, use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum")
        found = torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True, allow_unused=True)
        rows.append(torch.cat([gradient.flatten() for gradient in found]).double())
    return torch.stack(rows) @ torch.stack(rows).T


def parameters_of(layer: str, by_name: dict[str, Any]) -> list[str]:
    """Names of the parameters of a tracked layer. Fused experts share one, and Headwater gives routers a linear."""
    expert = re.fullmatch(r"(.*)\.\d+\.(\w+)", layer)
    candidates = [layer, re.sub(r"\.linear$", "", layer), *([f"{expert[1]}.{expert[2]}"] if expert else [])]
    for stem in candidates:
        found = [name for name in (f"{stem}.weight", f"{stem}.bias", stem, f"{stem}_bias") if name in by_name]
        if found:
            return found
    raise KeyError(layer)


def compare(name: str) -> Row:
    """The row of one architecture, in float64, or in float32 if it does not run in float64."""
    row = _compared(name, torch.float64)
    if row.remark.startswith("fails"):
        again = _compared(name, torch.float32)
        return again if again.difference is not None else row
    return row


def _compared(name: str, dtype: torch.dtype) -> Row:
    """Build, score and compare one architecture. Whatever goes wrong is the row's remark."""
    family = str(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[name])
    try:
        with _limited(SECONDS):
            model = tiny_model(name, dtype)
            plain = copy.deepcopy(model)
    except Exception as error:  # a configuration that cannot be shrunk has many ways to say so
        return Row(name, family, remark=f"not built tiny: {_short(error)}")
    try:
        with _limited(SECONDS):
            names, found = scores_by_capture(model)
    except HeadwaterError as error:
        return Row(name, family, remark=f"refused: {_short(error)}")
    except Exception as error:
        return Row(name, family, remark=f"fails: {_short(error)}")
    try:
        with _limited(SECONDS):
            expected = scores_by_autograd(plain, names)
    except Exception as error:
        return Row(name, family, names, remark=f"autograd fails: {_short(error)}")
    norms = expected.diagonal().sqrt()
    difference = float(((found - expected).abs() / norms[:, None] / norms).max())
    kinds = sorted({re.sub(r"\.\d+(?=\.)", ".*", one) for one in names})
    return Row(name, family, kinds, difference)


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = (
        f"{lines[0] if lines else ''}"
        if isinstance(error, HeadwaterError)
        else f"{type(error).__name__}: {lines[0] if lines else ''}"
    )
    return text.replace("|", "/")[:260]


def page(rows: Sequence[Row]) -> str:
    """docs/architectures.md"""
    right = [row for row in rows if row.is_right]
    rest = [row for row in rows if not row.is_right]
    built = [row for row in rest if not row.remark.startswith("not built")]
    unbuilt = [row for row in rest if row.remark.startswith("not built")]
    lines = [
        "# Architectures",
        "",
        "Which causal language models of transformers Headwater reads, and whether its gradients are right. For",
        "each, a tiny model is built from the configuration alone, with random weights. The dot products of the",
        "gradients of four texts, over the layers tracked by default, are computed by Headwater in one padded",
        "batch, and by autograd one text after the other. The number is the largest difference of two scores,",
        "relative to the norms of the two gradients. Models run in float64 where they can. Many compute parts in",
        "float32 at all times, so a difference near 1e-7 is expected.",
        "",
        f"Made with transformers {transformers.__version__} by `python -m benchmarks.architectures --write`.",
        f"Of {len(rows)} names in its mapping, {len(right)} agree with autograd, {len(built)} do not work, and for "
        f"{len(unbuilt)} no tiny model could be built here, which says nothing about them.",
        "",
        "## Right",
        "",
        "| architecture | class | layers tracked by default | largest difference |",
        "|---|---|---|---|",
        *(f"| {row.name} | {row.family} | {_kinds(row.layers)} | {row.difference:.0e} |" for row in right),
        "",
        "## Refused, or not right",
        "",
        "| architecture | class | what happens |",
        "|---|---|---|",
        *(
            f"| {row.name} | {row.family} | {_words(row.remark or f'differs from autograd by {row.difference:.1e}')} |"
            for row in built
        ),
        "",
        "## Not tried",
        "",
        "| architecture | class | why no tiny model was built |",
        "|---|---|---|",
        *(f"| {row.name} | {row.family} | {_words(row.remark.removeprefix('not built tiny: '))} |" for row in unbuilt),
        "",
    ]
    return "\n".join(lines)


def _kinds(layers: Sequence[str]) -> str:
    """Kinds of layers without what all of them share."""
    short = sorted({re.sub(r"^.*?\*\.", "", one) for one in layers})
    return ", ".join(f"`{one}`" for one in short[:6]) + (f" and {len(short) - 6} more" if len(short) > 6 else "")


def _words(text: str) -> str:
    return re.sub(r"([*_<>])", r"\\\1", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="architectures; all by default")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    given = parser.parse_args()
    configure_process()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    rows: list[Row] = []
    for name in given.names or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        start = time.monotonic()
        rows.append(compare(name))
        row = rows[-1]
        difference = "" if row.difference is None else f"{row.difference:.1e}"
        print(
            f"{name:28} {difference:8} {len(row.layers):3} {time.monotonic() - start:5.1f} s  {row.remark}", flush=True
        )
    print(f"{sum(row.is_right for row in rows)} of {len(rows)} agree with autograd")
    if given.write:
        PAGE.write_text(page(rows), "utf-8")


if __name__ == "__main__":
    main()
