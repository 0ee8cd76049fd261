"""Trains a tokenizer and a new model on texts and saves both."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, GPTNeoConfig, PreTrainedTokenizerFast

from headwater.corpus.batches import all_targets
from headwater.errors import HeadwaterError
from headwater.lm.load import max_positions
from headwater.training.recipe import Recipe
from headwater.training.save import ModelWriter
from headwater.training.train import TrainingResult, TrainingStep, fresh_model, train

END = "<|endoftext|>"
VOCABULARY = 2048
HIDDEN, LAYERS, HEADS, POSITIONS = 96, 2, 4, 256


@dataclass(frozen=True)
class NewModel:
    """A newly trained model."""

    trained: TrainingResult
    parameters: int
    vocabulary: int


@dataclass(frozen=True)
class Design:
    """Architecture and vocabulary of a new model, and how many checkpoints are saved."""

    config: Path | None = None
    """A transformers `config.json`; None is a small GPT-Neo. Vocabulary and special tokens come from the tokenizer."""
    vocabulary: int = VOCABULARY
    """Maximum number of tokens."""
    checkpoints: int = 0
    """Checkpoints saved at equal intervals, the last at the end."""


def make_model(
    texts: Sequence[str],
    out: Path,
    recipe: Recipe,
    *,
    design: Design = Design(),
    watch: Callable[[TrainingStep], None] = lambda _: None,
) -> NewModel:
    """Train a tokenizer and a model on `texts` and save both to `out`. The same recipe gives the same model.

    Each text is one sequence, in which all tokens but the first are predicted. A text of fewer than two tokens is left
    out, as in the corpus of a run. Raises HeadwaterError if the configuration cannot be used.
    """
    tokenizer = train_tokenizer(texts, design.vocabulary)
    config = small_config(len(tokenizer)) if design.config is None else _read_config(design.config, tokenizer)
    model = fresh_model(config, recipe)
    numbered = enumerate(tokenizer(list(texts))["input_ids"])
    sequences = [all_targets(ids, str(row)) for row, ids in numbered if len(ids) > 1]
    writer = ModelWriter(out, model, tokenizer, design.checkpoints)
    training_data = recipe.sequences(sequences, tokenizer, max_positions(config))
    trained = train(model, training_data, recipe, watch=writer.watching(watch))
    recipe.save(out)
    return NewModel(trained, sum(parameter.numel() for parameter in model.parameters()), len(tokenizer))


def train_tokenizer(stories: Sequence[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the stories."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END)


def small_config(vocabulary: int) -> GPTNeoConfig:
    """A GPT-Neo of two layers, with global and local attention, for texts of up to 256 tokens."""
    return GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        num_layers=LAYERS,
        num_heads=HEADS,
        intermediate_size=4 * HIDDEN,
        attention_types=[[["global", "local"], LAYERS // 2]],
        window_size=POSITIONS,
        max_position_embeddings=POSITIONS,
        activation_function="relu",
        initializer_range=0.05,
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )


def _read_config(path: Path, tokenizer: PreTrainedTokenizerFast) -> Any:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        kind = fields.pop("model_type")
        own = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id}
        own |= {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        return AutoConfig.for_model(kind, **(fields | own))
    except OSError as error:
        raise HeadwaterError(f"--config {path} cannot be read: {error.strerror}.") from error
    except (KeyError, TypeError, ValueError) as error:
        raise HeadwaterError(
            f"--config {path} is not the configuration of a causal language model: {error}. Give a config.json that "
            'transformers wrote, or a JSON object with "model_type" and the fields that differ from its defaults.'
        ) from error
