"""How results are shown: one line for `repr`, and faces that are found when one is asked for.

A result is plain data. What it looks like in a terminal, in a notebook or as a page is in `headwater.render.faces`.
That module is imported by name, and only when a face is asked for: computing a result loads no renderer.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Shown:
    """A result that a terminal, a notebook and `print` can show."""

    def __str__(self) -> str:
        """What the terminal shows, as plain text without colour codes."""
        return face(self).text(self)

    def __rich__(self) -> Any:
        return face(self).terminal(self)

    def _repr_html_(self) -> str | None:
        """The cell of a notebook; None makes the notebook show the `repr`."""
        cell = face(self).cell
        return None if cell is None else cell(self)


def face(result: object) -> Any:
    """The `headwater.render.faces.Face` of a result's type."""
    return import_module("headwater.render.faces").face_of(type(result))


def quoted(text: str, length: int = 40) -> str:
    """The beginning of `text` in quotes, on one line, for a `repr`."""
    return repr(text if len(text) <= length else text[: length - 1] + "…")


def quoted_end(text: str, length: int = 40) -> str:
    """The end of `text` in quotes, on one line, for a `repr`: the end of a prompt says most."""
    return repr(text if len(text) <= length else "…" + text[len(text) - length + 1 :])


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 proponent", "3,000 examples"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
