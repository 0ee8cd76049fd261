"""Text from a corpus made safe to show: characters that would act on the screen are replaced by their names."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t\u200c\u200d"
"""Line breaks and tabs, and the joiners that Persian and emoji are spelt with."""
_ACTING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control and format characters, lone surrogates and line separators."""


def visible(text: str) -> str:
    """`text` with control characters as ␛ and bidi marks, invisible characters and the like as ⟪U+202E⟫.

    Line breaks and tabs stay. Text without such characters comes back as it is.
    """
    return text.translate(_NAMES)


def one_line(text: str) -> str:
    """`text` made visible, with its line breaks and tabs shown as signs too."""
    return visible(text).replace("\n", "⏎").replace("\t", "⇥")


def leading_spaces(text: str) -> str:
    """The spaces that a token begins with; none where it consists of spaces only."""
    word = text.lstrip(" ")
    return text[: len(text) - len(word)] if word else ""


def shorten(text: str, length: int) -> str:
    """The beginning of `text`, with … where it was cut to `length` characters."""
    return text if len(text) <= length else text[: max(0, length - 1)] + "…"


def shorten_left(text: str, length: int) -> str:
    """The end of `text`, with … where it was cut: of a path, its end says most."""
    return text if len(text) <= length else "…" + text[len(text) - max(0, length - 1) :]


def token_name(token: str) -> str:
    """A token as the heading of a row or column: on one line, without the spaces around it."""
    return one_line(token.strip(" ")) or "␣"


class _Names(dict[int, str]):
    """A table for str.translate that is filled as characters occur."""

    def __missing__(self, code: int) -> str:
        self[code] = _name_of_character(code)
        return self[code]


_NAMES = _Names()


def _name_of_character(code: int) -> str:
    character = chr(code)
    if character in _KEPT or unicodedata.category(character) not in _ACTING:
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟪U+{code:04X}⟫"
