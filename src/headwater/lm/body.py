"""The body of a causal language model: what maps tokens to the final hidden states."""

from __future__ import annotations

from typing import Any


def body_of(model: Any) -> Any:
    """The model without its output layer.

    `base_model` is that, except for the text part of a larger model (Llama 4, Mllama), whose prefix names the whole.
    """
    body = model.base_model
    return model.model if body is model and hasattr(model, "model") else body
