"""The colours of influence, the same everywhere: blue raised the likelihood, orange lowered it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Theme = Literal["light", "dark"]


@dataclass(frozen=True, kw_only=True)
class Palette:
    """The colours of one theme. Blue and orange differ for every common kind of colour blindness."""

    background: str
    raises: str
    """Fill behind the token that raised the likelihood most."""
    lowers: str
    raises_ink: str
    """The same hue, strong enough for bars, lines and numbers drawn on the background."""
    lowers_ink: str
    ink: str


PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        background="#FFFFFF",
        raises="#67A9CF",
        lowers="#F4A259",
        raises_ink="#1F5F99",
        lowers_ink="#8A4B08",
        ink="#1B1E23",
    ),
    "dark": Palette(
        background="#16191E",
        raises="#1F5F99",
        lowers="#8A4B08",
        raises_ink="#67A9CF",
        lowers_ink="#F4A259",
        ink="#ECEAE4",
    ),
}


def share(value: float, scale: float) -> float:
    """`value` as a part of `scale`, clipped to −1 to 1; 0 where the scale is not positive."""
    if not scale > 0 or math.isnan(value):
        return 0.0
    return max(-1.0, min(1.0, value / scale))


def colour(value: float, scale: float, theme: Theme) -> str:
    """The fill of a token: the background at 0, the full blue at `scale` and the full orange at −`scale`."""
    palette, part = PALETTES[theme], share(value, scale)
    return blend(palette.background, palette.raises if part > 0 else palette.lowers, abs(part))


def blend(start: str, end: str, part: float) -> str:
    """The colour `part` of the way from `start` to `end`."""
    pairs = zip(channels(start), channels(end), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * part):02X}" for a, b in pairs)


def text_on(fill: str) -> str:
    """The ink, dark or light, with the higher contrast on `fill`: over 4.5 on any fill of `colour`."""
    return max((palette.ink for palette in PALETTES.values()), key=lambda ink: contrast(ink, fill))


def contrast(one: str, other: str) -> float:
    """The WCAG contrast of two colours, from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def channels(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of "#RRGGBB", from 0 to 255."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def css_channels(colour: str) -> str:
    """A colour as CSS writes it before a transparency: "103 169 207"."""
    return " ".join(map(str, channels(colour)))


def _luminance(colour: str) -> float:
    parts = (channel / 255 for channel in channels(colour))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
