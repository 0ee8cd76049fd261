"""Predicted against measured changes as a scatter plot: an SVG that stands alone, drawn without a library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape

from headwater.render.palette import PALETTES, Palette, blend
from headwater.render.scatter_parts import (
    GROUP_NAMES,
    IDENTITY,
    MARKS,
    X_TITLE,
    Y_TITLE,
    axis_limit,
    drawable,
    numbers,
)
from headwater.render.summary import signed
from headwater.render.visible import one_line, shorten
from headwater.verify.verification import GROUPS, Check, Verification

SIZE, LEFT, RIGHT, TOP, BOTTOM = 460, 84, 28, 52, 56
"""Side of the square that is plotted in, and the room around it, in pixels."""
TICKS = 2
"""Labelled ticks on either side of zero."""


def scatter_svg(verification: Verification) -> str:
    """The plot: both axes in nats and on one scale, the identity line, groups by colour and by shape.

    The title of every mark gives its example and numbers. The colours follow the reader's light or dark theme.
    """
    checks = verification.checks
    limit = axis_limit(checks)
    width, height = LEFT + SIZE + RIGHT, TOP + SIZE + BOTTOM
    label = f"Measured against predicted changes of log p for {len(checks)} training examples, in nats"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="scatter" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<title>{label}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="sheet" width="{width}" height="{height}"/>',
        *_group_legend(),
        *_axes(limit),
        *(_mark(check, limit) for check in drawable(checks)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


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
    yield f'<text x="{middle:.0f}" y="{bottom + 44}" text-anchor="middle">{X_TITLE}</text>'
    across = TOP + SIZE / 2
    turned = f'transform="rotate(-90 16 {across:.0f})"'
    yield f'<text x="16" y="{across:.0f}" text-anchor="middle" {turned}>{Y_TITLE}</text>'


def _group_legend() -> Iterator[str]:
    for place, group in enumerate(GROUPS):
        x = LEFT + 8 + 110 * place
        yield SHAPES[MARKS[group].shape](x, 26, group)
        yield f'<text x="{x + 12}" y="31">{GROUP_NAMES[group]}</text>'
    x = LEFT + 330
    yield f'<path class="identity" d="M{x} 26H{x + 26}"/><text x="{x + 34}" y="31">{IDENTITY}</text>'


def _mark(check: Check, limit: float) -> str:
    title = escape(f"{shorten(one_line(check.id), 80)}: {numbers(check)}")
    classes = check.group if check.converged else f"{check.group} open"
    draw = SHAPES[MARKS[check.group].shape]
    drawn = draw(_x(check.predicted, limit), _y(check.measured, limit), classes)
    return f"<g><title>{title}</title>{_whisker(check, limit)}{drawn}</g>"


def _whisker(check: Check, limit: float) -> str:
    """A standard deviation up and down."""
    if check.deviation is None:
        return ""
    x = _x(check.predicted, limit)
    low, high = (_y(check.measured + sign * check.deviation, limit) for sign in (-1, 1))
    return f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'


def _circle(x: float, y: float, classes: str) -> str:
    return f'<circle class="{classes}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'


def _square(x: float, y: float, classes: str) -> str:
    return f'<rect class="{classes}" x="{x - 4.5:.1f}" y="{y - 4.5:.1f}" width="9" height="9"/>'


def _cross(x: float, y: float, classes: str) -> str:
    return f'<path class="{classes}" d="M{x - 4.5:.1f} {y - 4.5:.1f}l9 9m0 -9l-9 9"/>'


SHAPES: dict[str, Callable[[float, float, str], str]] = {"circle": _circle, "square": _square, "cross": _cross}
