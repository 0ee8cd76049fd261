"""Predicted against measured changes as a scatter plot: an SVG that stands alone, drawn without any library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import escape

from headwater.render.palette import PALETTES, Palette, blend
from headwater.render.summary import signed
from headwater.render.visible import one_line, shorten
from headwater.verify.comparison import GROUPS, Check, Comparison, ExampleGroup

SIZE, LEFT, RIGHT, TOP, BOTTOM = 460, 84, 28, 52, 56
"""The side of the square that is plotted in, and the room around it, in pixels."""
TICKS = 2
"""Labelled ticks on either side of zero."""
NAMES: dict[ExampleGroup, str] = {"proponent": "raised it", "opponent": "lowered it", "random": "random"}


def scatter_svg(comparison: Comparison) -> str:
    """The plot: both axes in nats and of one scale, the identity line, groups by colour and by shape.

    Every mark tells its example and numbers in a title. Follows the reader's light or dark theme.
    """
    limit = axis_limit(comparison.checks)
    width, height = LEFT + SIZE + RIGHT, TOP + SIZE + BOTTOM
    label = f"Measured against predicted changes of log p for {len(comparison.checks)} training examples, in nats"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="scatter" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>{label}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="sheet" width="{width}" height="{height}"/>',
        *_legend(),
        *_axes(limit),
        *(_mark(check, limit) for check in comparison.checks),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def axis_limit(checks: list[Check]) -> float:
    """Where both axes end: a round number that every finite change lies within."""
    numbers = [abs(number) for check in checks for number in (check.predicted, check.measured) if math.isfinite(number)]
    largest = max(numbers, default=0.0)
    if largest <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(largest))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15) if step * unit >= largest * 1.02)


def _style() -> str:
    def theme(palette: Palette) -> str:
        quiet, line = blend(palette.background, palette.ink, 0.62), blend(palette.background, palette.ink, 0.18)
        return (
            f".scatter .sheet {{ fill: {palette.background}; }} .scatter text {{ fill: {palette.ink}; }} "
            f".scatter .line {{ stroke: {line}; }} .scatter :is(.identity, .whisker) {{ stroke: {quiet}; }} "
            f".scatter .proponent {{ fill: {palette.raises_ink}; stroke: {palette.raises_ink}; }} "
            f".scatter .opponent {{ fill: {palette.lowers_ink}; stroke: {palette.lowers_ink}; }} "
            f".scatter .random {{ fill: none; stroke: {quiet}; stroke-width: 2; }}"
        )

    fixed = (
        ".scatter text { font: 13px system-ui, sans-serif; } .scatter .identity { stroke-dasharray: 5 4; } "
        ".scatter .open { fill-opacity: .15; }"
    )
    return f"{fixed} {theme(PALETTES['light'])} @media (prefers-color-scheme: dark) {{ {theme(PALETTES['dark'])} }}"


def _x(value: float, limit: float) -> float:
    return LEFT + SIZE * (0.5 + 0.5 * max(-1.0, min(1.0, value / limit)))


def _y(value: float, limit: float) -> float:
    return TOP + SIZE * (0.5 - 0.5 * max(-1.0, min(1.0, value / limit)))


def _axes(limit: float) -> Iterator[str]:
    right, bottom = LEFT + SIZE, TOP + SIZE
    for tick in (limit * step / TICKS for step in range(-TICKS, TICKS + 1)):
        x, y, words = _x(tick, limit), _y(tick, limit), signed(tick)
        yield f'<path class="line" d="M{x:.1f} {TOP}V{bottom}M{LEFT} {y:.1f}H{right}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{words}</text>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{words}</text>'
    yield f'<path class="identity" d="M{LEFT} {bottom}L{right} {TOP}"/>'
    middle = LEFT + SIZE / 2
    yield f'<text x="{middle:.0f}" y="{bottom + 44}" text-anchor="middle">predicted change of log p, nats</text>'
    across = TOP + SIZE / 2
    turned = f'transform="rotate(-90 16 {across:.0f})"'
    yield f'<text x="16" y="{across:.0f}" text-anchor="middle" {turned}>measured change of log p, nats</text>'


def _legend() -> Iterator[str]:
    for place, group in enumerate(GROUPS):
        x = LEFT + 8 + 110 * place
        yield SHAPES[group](x, 26, group)
        yield f'<text x="{x + 12}" y="31">{NAMES[group]}</text>'
    x = LEFT + 330
    yield f'<path class="identity" d="M{x} 26H{x + 26}"/><text x="{x + 34}" y="31">as predicted</text>'


def _mark(check: Check, limit: float) -> str:
    if not (math.isfinite(check.predicted) and math.isfinite(check.measured)):
        return ""
    title = escape(f"{shorten(one_line(check.id), 80)}: {numbers(check)}")
    classes = check.group if check.converged else f"{check.group} open"
    drawn = SHAPES[check.group](_x(check.predicted, limit), _y(check.measured, limit), classes)
    return f"<g><title>{title}</title>{_whisker(check, limit)}{drawn}</g>"


def _whisker(check: Check, limit: float) -> str:
    """A standard deviation up and down."""
    if check.deviation is None:
        return ""
    x = _x(check.predicted, limit)
    low, high = (_y(check.measured + sign * check.deviation, limit) for sign in (-1, 1))
    return f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'


def numbers(check: Check) -> str:
    """ "predicted −0.81, measured −0.64", and where it is so, that the response was not found."""
    found = "" if check.converged else f", not converged ({check.remaining:.0%} of the way left)"
    chance = "" if check.deviation is None else f" ± {check.deviation:.2g}"
    return f"predicted {signed(check.predicted)}, measured {signed(check.measured)}{chance}{found}"


def _circle(x: float, y: float, classes: str) -> str:
    return f'<circle class="{classes}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'


def _square(x: float, y: float, classes: str) -> str:
    return f'<rect class="{classes}" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'


def _cross(x: float, y: float, classes: str) -> str:
    return f'<path class="{classes}" d="M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m0 -9l-9 9"/>'


SHAPES: dict[ExampleGroup, Callable[[float, float, str], str]] = {
    "proponent": _circle,
    "opponent": _square,
    "random": _cross,
}
