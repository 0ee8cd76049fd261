"""Text to tokens and back: which characters each token covers, and what to do with texts that are too long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.corpus.options import LongTexts
from headwater.errors import CorpusError


@dataclass(frozen=True)
class Tokenized:
    """A text's tokens and where each ends in the text. The spans between ends partition the text."""

    input_ids: list[int]
    ends: list[int]
    """Character position after each token; never falling, the last is the text's length."""

    def pieces(self, text: str) -> list[str]:
        """The text of each token; they join to `text`. A character made of several tokens belongs to the first."""
        starts = [0, *self.ends[:-1]]
        return [text[start:end] for start, end in zip(starts, self.ends, strict=True)]

    def overlapping(self, spans: Sequence[tuple[int, int]]) -> list[bool]:
        """[T] whether each token covers characters of one of `spans`."""
        starts = [0, *self.ends[:-1]]
        return [
            any(begin < stop and end > start for start, stop in spans)
            for begin, end in zip(starts, self.ends, strict=True)
        ]


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[Tokenized]:
    """Tokenise with the tokenizer's own special tokens (a beginning-of-text token covers no characters)."""
    encoded = tokenizer(list(texts), return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    return [
        Tokenized(list(ids), _ends(offsets, len(text)))
        for text, ids, offsets in zip(texts, encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def _ends(offsets: Sequence[tuple[int, int]], length: int) -> list[int]:
    ends: list[int] = []
    reached = 0
    for _, end in offsets:
        reached = max(reached, int(end))
        ends.append(reached)
    if ends:
        ends[-1] = length
    return ends


def fit_windows(
    text: str, tokenized: Tokenized, max_tokens: int, *, long_texts: LongTexts
) -> Iterator[tuple[str, Tokenized]]:
    """The text whole where it fits in `max_tokens`; else its beginning, or consecutive windows of it.

    Each piece comes with exactly the text its tokens cover. A last window of one token, which would carry no loss,
    is left out.
    """
    if max_tokens < 2:
        raise CorpusError(f"--max-tokens {max_tokens} leaves nothing to predict: give at least 2.")
    total = len(tokenized.input_ids)
    if total <= max_tokens:
        yield text, tokenized
        return
    for start in range(0, total, max_tokens):
        stop = min(start + max_tokens, total)
        if stop - start < 2:
            return
        first = tokenized.ends[start - 1] if start else 0
        ends = [end - first for end in tokenized.ends[start:stop]]
        yield text[first : first + ends[-1]], Tokenized(tokenized.input_ids[start:stop], ends)
        if long_texts == "truncate":
            return
