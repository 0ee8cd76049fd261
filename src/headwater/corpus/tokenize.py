"""Tokens of a text, the characters that each token covers, and windows of long texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.corpus.options import LongTexts
from headwater.errors import CorpusError


@dataclass(frozen=True)
class Tokenized:
    """The tokens of a text and where each ends in the text. The spans between the ends partition the text."""

    input_ids: list[int]
    ends: list[int]
    """Character position after each token. They never decrease; the last is the length of the text."""

    def pieces(self, text: str) -> list[str]:
        """The text of each token. Joined, they are `text`. A character made of several tokens belongs to the first."""
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
    """Tokenise, with the special tokens that the tokenizer adds (a beginning-of-text token covers no characters)."""
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
    """The whole text if it fits in `max_tokens`; else its beginning, or consecutive windows of it.

    Each window comes with exactly the text that its tokens cover. A last window of one token is left out, because it
    would carry no loss.
    """
    if max_tokens < 2:
        raise CorpusError(f"--max-tokens {max_tokens} leaves nothing to predict. Give 2 or more.")
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
