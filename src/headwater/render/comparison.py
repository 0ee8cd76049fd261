"""Predicted against measured changes in words, in a terminal, and as a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.text import Text

from headwater.render.palette import PALETTES, Theme, share
from headwater.render.scatter import NAMES, numbers, scatter_svg
from headwater.render.summary import examples, signed, subject
from headwater.render.terminal_text import BOLD, bar, ink_of
from headwater.render.theme import terminal_theme
from headwater.render.visible import one_line, shorten, visible
from headwater.verify.comparison import Check, Comparison

WIDTH = 110
HALF_BAR = 12
ID = 28


def headline(comparison: Comparison) -> str:
    """What was done to the examples and what is compared."""
    asked = subject(comparison.query)
    what = "the log odds of the two" if comparison.contrast is not None else f"log p of {asked}"
    if comparison.kind == "step":
        return f"A small step on each example, scaled to a whole one: the change of {what}, in nats."
    if comparison.kind == "retrain":
        return f"Training the model again without several examples at once: the change of {what}, in nats."
    part = "" if comparison.weight == 1 else f"{comparison.weight:.4g} of "
    return f"The response of the weights to taking out {part}each example: the change of {what}, in nats."


def verdict(comparison: Comparison) -> str:
    """What slope and correlation say."""
    if comparison.slope is None:
        return "Nothing was predicted for these examples, so there is nothing to compare."
    words = f"A nat that is predicted comes out as {comparison.slope:.2f} (slope; 1 is as predicted)"
    if comparison.correlation is not None and comparison.spearman is not None:
        words += (
            f", and the predictions line up with what happens with a correlation of {comparison.correlation:.2f} "
            f"(by rank {comparison.spearman:.2f}; 1 is perfectly, 0 not at all)"
        )
    late = sum(not check.converged for check in comparison.checks)
    if late:
        words += f". Of {len(comparison.checks)} responses {late} had not settled: give more --iterations"
    if comparison.likelihood is not None and comparison.seeds is not None:
        times = "one seed" if comparison.seeds == 1 else f"{comparison.seeds} seeds"
        words += (
            f". Measured changes are means over {times}. Trained on everything by its recipe, the model gives it "
            f"a log p of {signed(comparison.likelihood)} on average; the run's own gives {signed(-_loss(comparison))}"
        )
    return words + "."


def _loss(comparison: Comparison) -> float:
    """Of the query, less that of the contrast."""
    return comparison.query.loss - (0.0 if comparison.contrast is None else comparison.contrast.loss)


def made_with(comparison: Comparison) -> str:
    """Model, curvature, damping and settings, on one line."""
    facts = [one_line(comparison.model), f"curvature {one_line(comparison.curvature)}"]
    facts += [f"damping λ = {one_line(comparison.damping)}", f"of {examples(comparison.examples)}"]
    if comparison.subset is not None:
        facts.append(f"{comparison.subset:,} held fast")
    if comparison.seeds is not None:
        facts.append(f"{comparison.seeds} trainings a set")
    return " · ".join([*facts, f"seed {comparison.seed}"])


def render_comparison(comparison: Comparison) -> RenderableType:
    """The comparison for a rich console: two bars an example, predicted over measured, and what they mean."""
    return _ComparisonView(comparison, terminal_theme(os.environ))


@dataclass(frozen=True)
class _ComparisonView:
    comparison: Comparison
    theme: Theme

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = min(options.max_width, WIDTH)
        yield from (Constrain(part, width) for part in self._parts(console))

    def _parts(self, console: Console) -> Iterator[RenderableType]:
        comparison, ink = self.comparison, ink_of(console, self.theme)
        query = comparison.query
        yield Text.assemble((visible(query.prompt), "dim"), (visible(query.completion), "bold"), overflow="fold")
        if comparison.contrast is not None:
            yield Text.assemble(("rather than", "dim"), visible(comparison.contrast.completion))
        yield Text()
        yield Text(headline(comparison))
        full = max((abs(n) for check in comparison.checks for n in (check.predicted, check.measured)), default=0.0)
        for check in comparison.checks:
            yield Text()
            for word, value in (("predicted", check.predicted), ("measured", check.measured)):
                line = Text(no_wrap=True, overflow="ellipsis")
                head = shorten(one_line(check.id), ID) if word == "predicted" else self._about(check)
                line.append(f"{head:<{ID}} ", "bold" if word == "predicted" else "dim")
                line.append(f"{word:<10}", "dim")
                line.append(f"{signed(value):>9} ", ink.sign(value) + BOLD)
                yield line.append_text(bar(share(value, full), HALF_BAR, ink))
        yield Text()
        yield Text(verdict(comparison))
        yield Text()
        yield Text(made_with(comparison), style="dim")

    @staticmethod
    def _about(check: Check) -> str:
        return NAMES[check.group] + ("" if check.converged else ", not settled")


def comparison_html(comparison: Comparison) -> str:
    """A page that opens from disk: no script, nothing loaded, every text escaped."""
    title = escape(shorten(one_line(comparison.query.prompt + comparison.query.completion), 80))
    rows = "\n".join(
        f"<tr><td><bdi>{escape(one_line(check.id))}</bdi></td><td>{NAMES[check.group]}</td>"
        f"<td>{escape(numbers(check))}</td></tr>"
        for check in comparison.checks
    )
    contrast = ""
    if comparison.contrast is not None:
        contrast = f"<p>rather than <bdi>{escape(visible(comparison.contrast.completion))}</bdi></p>"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Headwater</title>
<style>{_page_style()}</style>
</head>
<body>
<main>
<h1><bdi>{escape(visible(comparison.query.prompt))}<b>{escape(visible(comparison.query.completion))}</b></bdi></h1>
{contrast}
<p>{escape(headline(comparison))}</p>
<p>{escape(verdict(comparison))}</p>
{scatter_svg(comparison)}
<table>
<thead><tr><th scope="col">example</th><th scope="col">of those that</th><th scope="col">nats</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<footer>{escape(made_with(comparison))}</footer>
</main>
</body>
</html>
"""


def _page_style() -> str:
    light, dark = PALETTES["light"], PALETTES["dark"]
    return (
        f"body {{ margin: 0; background: {light.background}; color: {light.ink}; "
        "font: 15px/1.5 system-ui, sans-serif; } "
        "main { max-width: 46rem; margin: auto; padding: 2.5rem 1rem; } "
        "h1 { font: 1.5rem/1.35 Georgia, serif; white-space: pre-wrap; overflow-wrap: anywhere; } "
        "svg { max-width: 100%; height: auto; } th, td { text-align: start; padding: .2rem 1rem .2rem 0; } "
        "td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; } "
        "footer { margin-top: 1.5rem; opacity: .75; } "
        f"@media (prefers-color-scheme: dark) {{ body {{ background: {dark.background}; color: {dark.ink}; }} }}"
    )
