"""A recipe: all that makes a model out of token sequences, but for its architecture and the sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.base.files import write_text
from headwater.corpus.batches import TokenSequence
from headwater.errors import HeadwaterError

RECIPE_FILE = "train.json"
"""Beside a model's weights."""


class Recipe(BaseModel):
    """How a model was trained with AdamW (Loshchilov & Hutter 2019): `train.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    epochs: Annotated[int, Field(ge=1)] = 14
    batch: Annotated[int, Field(ge=1)] = 8
    """Sequences a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    """At its peak."""
    warm_up: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The share of the steps over which the learning rate rises to its peak."""
    last_rate: Annotated[float, Field(ge=0, le=1)] = 0.02
    """The share of the peak that a cosine brings it down to."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """The default keeps a gradient in what has been learned by heart; without it influence has nothing left to find."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Longest gradient, of all weights together."""
    seed: int = 0
    """Of the first weights and of the order of the sequences."""
    end: bool = True
    """Whether the end-of-text token follows every sequence."""
    start: str | None = None
    """Hub name or path of the model that training begins from; None is random weights."""

    def rate(self, done: float) -> float:
        """The learning rate when the share `done` of the steps is done: a warm-up, then a cosine."""
        rising = min(1.0, (done + 1e-4) / self.warm_up)
        return (
            self.learning_rate * rising * (self.last_rate + (1 - self.last_rate) * 0.5 * (1 + math.cos(math.pi * done)))
        )

    def sequences(self, given: Sequence[TokenSequence], tokenizer: Any, longest: int) -> list[TokenSequence]:
        """What the model is trained on: the sequences, each with its end where the recipe says so, cut to `longest`."""
        if not self.end:
            return [TokenSequence(one.id, one.input_ids[:longest], one.targets[:longest]) for one in given]
        if tokenizer.eos_token_id is None:
            raise HeadwaterError(f'{RECIPE_FILE} says "end": true, but the tokenizer has no end-of-text token.')
        return [
            TokenSequence(
                one.id,
                np.append(one.input_ids[: longest - 1], tokenizer.eos_token_id),
                np.append(one.targets[: longest - 1], True),
            )
            for one in given
        ]

    def save(self, folder: Path) -> Path:
        """Write `train.json` into the folder."""
        return write_text(folder / RECIPE_FILE, self.model_dump_json(indent=2) + "\n")


def read_recipe(path: Path) -> Recipe:
    """Raises HeadwaterError where `path` is no recipe, naming the field."""
    try:
        return Recipe.model_validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise HeadwaterError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise HeadwaterError(
            f"{path}: {place}: {first['msg']}. A recipe is a JSON object with these fields, each with a default: "
            f"{', '.join(Recipe.model_fields)}."
        ) from error
