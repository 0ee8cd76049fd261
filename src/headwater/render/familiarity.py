"""How usual the corpus is to the model, in words."""

from __future__ import annotations

import math

from headwater.lm.familiarity import Familiarity


def usual(found: Familiarity) -> str:
    """The mean loss of the corpus beside what the model expects: one sentence."""
    return (
        f"Mean loss {found.loss:.2f} nats a token over {found.tokens:,} tokens of {found.examples:,} examples; "
        f"on texts like those that it learned, the model expects about {found.entropy:.2f}."
    )


def warning(found: Familiarity) -> str | None:
    """What a loss says against asking this model about this corpus, or None."""
    if found.untrained:
        return (
            f"The model looks untrained: guessing among its {found.vocabulary:,} tokens costs "
            f"{math.log(found.vocabulary):.2f} nats a token. Its answers would mean nothing. Check that its weights "
            "were loaded from the right place."
        )
    if found.unusual:
        return (
            "The model finds these texts unusual: it has probably not been trained on texts like them. An answer can "
            "only name examples of this corpus. Give (a part of) the texts that the model was trained on."
        )
    return None
