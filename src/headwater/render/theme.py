"""Whether the terminal is light or dark."""

from __future__ import annotations

from collections.abc import Mapping

from headwater.errors import HeadwaterError
from headwater.render.palette import PALETTES, Theme

LIGHT_BACKGROUNDS = {"7", *map(str, range(9, 16))}
"""The light ones among the sixteen colours of COLORFGBG."""


def terminal_theme(environ: Mapping[str, str]) -> Theme:
    """HEADWATER_THEME where it is set, else the background in COLORFGBG ("foreground;background"), else dark.

    Raises HeadwaterError where HEADWATER_THEME is neither light nor dark.
    """
    wanted = environ.get("HEADWATER_THEME", "").strip().lower()
    if wanted:
        if wanted not in PALETTES:
            raise HeadwaterError(f"HEADWATER_THEME is {wanted!r}. Set it to light or dark, or unset it.")
        return wanted
    return "light" if environ.get("COLORFGBG", "").rpartition(";")[2] in LIGHT_BACKGROUNDS else "dark"
