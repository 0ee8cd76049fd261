"""A training recipe, `train.json`: every setting of a training but the architecture and the data."""

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
"""Name of the file beside a model's weights."""


class Recipe(BaseModel):
    """How a model is trained with AdamW (Loshchilov & Hutter 2019)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    epochs: Annotated[int, Field(ge=1)] = 14
    batch: Annotated[int, Field(ge=1)] = 8
    """Sequences per step."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-3
    """Peak learning rate."""
    warm_up: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Share of the steps over which the learning rate rises to its peak."""
    last_rate: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the peak at which the cosine schedule ends."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """The default keeps gradients of memorised examples above zero. Without gradients, influence finds nothing."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Maximum norm of the gradient over all weights."""
    seed: int = 0
    """Determines the initial weights and the order of the sequences."""
    end: bool = True
    """Whether the end-of-text token follows every sequence."""
    start: str | None = None
    """Hub name or path of the model that training starts from; None is random weights."""

    def rate(self, done: float) -> float:
        """The learning rate after the share `done` of the steps: a warm-up, then a cosine."""
        rising = min(1.0, (done + 1e-4) / self.warm_up)
        return (
            self.learning_rate * rising * (self.last_rate + (1 - self.last_rate) * 0.5 * (1 + math.cos(math.pi * done)))
        )

    def sequences(self, given: Sequence[TokenSequence], tokenizer: Any, longest: int) -> list[TokenSequence]:
        """The training data: the sequences cut to `longest`, each with an end-of-text token if the recipe says so."""
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
    """The recipe in `path`. Raises HeadwaterError, which names the field, if the file is not a recipe."""
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
