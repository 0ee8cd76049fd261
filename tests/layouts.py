"""Models written to disk as they are published: `.bin`, in several files, GGUF, wrapped, incomplete, broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models import tiny_tokenizer

Tensors = Mapping[str, Tensor]


def save(
    model: Any, folder: Path, change: Callable[[dict[str, Tensor]], Tensors] = dict, tokenizer: bool = True
) -> Path:
    """A folder with config.json, model.safetensors, whose tensors `change` has changed, and a tokenizer."""
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    changed = {name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}
    save_file(changed, file, metadata={"format": "pt"})
    if tokenizer:
        tiny_tokenizer().save_pretrained(folder)
    return folder


def save_bin(model: Any, folder: Path, files: int = 1, more: Tensors | None = None) -> Path:
    """The layout of roneneldan/TinyStories-1M: pytorch_model.bin, tokenizer.json, vocab.json and merges.txt.

    `files` is the number of files of the weights, with an index. `more` are tensors that the model does not have.
    """
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tensors = {**model.state_dict(), **(more or {})}
    if files == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        names = [f"pytorch_model-{k + 1:05d}-of-{files:05d}.bin" for k in range(files)]
        where = {key: names[k % files] for k, key in enumerate(tensors)}
        for name in names:
            torch.save({key: tensor for key, tensor in tensors.items() if where[key] == name}, folder / name)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    save_vocabulary(folder)
    return folder


def save_vocabulary(folder: Path) -> None:
    """tokenizer.json, vocab.json and merges.txt, without a tokenizer_config.json."""
    definition = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    (folder / "vocab.json").write_text(json.dumps(definition["model"]["vocab"]))
    merges = [each if isinstance(each, str) else " ".join(each) for each in definition["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges))


def masks(layers: int, positions: int) -> dict[str, Tensor]:
    """The masks of attention that GPT-Neo saved with its weights: Boolean, and one number."""
    square = torch.ones(1, 1, positions, positions, dtype=torch.bool).tril()
    return {f"transformer.h.{k}.attn.attention.bias": square for k in range(layers)} | {
        f"transformer.h.{k}.attn.attention.masked_bias": torch.tensor(-1e9) for k in range(layers)
    }


def save_gguf(model: Any, tokenizer: Any, file: Path, *, pre: str = "gpt-2") -> Path:
    """A Llama as llama.cpp's converter writes it, in float32."""
    from gguf import GGUFWriter, TokenType

    config = model.config
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = {each["id"] for each in definition["added_tokens"] if each["special"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([TokenType.CONTROL if k in special else TokenType.NORMAL for _, k in vocabulary])
    merges = definition["model"]["merges"]
    writer.add_token_merges([each if isinstance(each, str) else " ".join(each) for each in merges])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        writer.add_tensor(_gguf_name(name), _permuted(name, tensor.float(), config).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.": "blk.",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _gguf_name(name: str) -> str:
    for ours, theirs in GGUF_NAMES.items():
        name = name.replace(ours, theirs)
    return name


def _permuted(name: str, weight: Tensor, config: Any) -> Tensor:
    """Rows of queries and keys in the order of llama.cpp, which rotates neighbours."""
    heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
    if "q_proj" not in name and "k_proj" not in name:
        return weight
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
