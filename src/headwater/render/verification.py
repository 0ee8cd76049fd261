"""A verification in words, in a terminal, and as a page: predicted against measured changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.text import Text

from headwater.render.palette import PALETTES, Theme, share
from headwater.render.scatter import scatter_svg
from headwater.render.scatter_parts import GROUP_NAMES, numbers
from headwater.render.summary import signed, subject, training_examples
from headwater.render.terminal_text import BOLD, WIDTH, bar, ink_of
from headwater.render.theme import terminal_theme
from headwater.render.visible import one_line, shorten, visible
from headwater.verify.verification import Check, Verification

CHECK_BAR = 12
"""Columns of a bar to either side of its zero."""
ID = 28
"""Columns of an example's id."""


def headline(verification: Verification) -> str:
    """What was done to the examples, and what is compared."""
    asked = subject(verification.query)
    what = "the log odds of the two" if verification.contrast is not None else f"log p of {asked}"
    if verification.kind == "step":
        return f"A small step on each example, scaled to the whole example: the change of {what}, in nats."
    if verification.kind == "retrain":
        return f"Training the model again without several examples at once: the change of {what}, in nats."
    part = "" if verification.weight == 1 else f"{verification.weight:.4g} of "
    return f"The response of the weights to removing {part}each example: the change of {what}, in nats."


def verdict(verification: Verification) -> str:
    """What slope and correlation mean here."""
    if verification.slope is None:
        return "No change was predicted for these examples, so there is nothing to compare."
    sentences = [f"Slope {verification.slope:.2f}: measured nats per predicted nat; 1 is exactly as predicted."]
    if verification.correlation is not None and verification.spearman is not None:
        sentences.append(
            f"Correlation of predicted and measured changes: {verification.correlation:.2f}, by rank "
            f"{verification.spearman:.2f}; 1 is perfect, 0 is none."
        )
    late = sum(not check.converged for check in verification.checks)
    if late:
        sentences.append(f"{late} of {len(verification.checks)} responses did not converge: raise --iterations.")
    if verification.likelihood is not None and verification.seeds is not None:
        times = "one seed" if verification.seeds == 1 else f"{verification.seeds} seeds"
        sentences.append(
            f"Measured changes are means over {times}. Models trained on everything by the recipe give it a log p of "
            f"{signed(verification.likelihood)} on average; the run's own model gives {signed(-_loss(verification))}."
        )
    return " ".join(sentences)


def _loss(verification: Verification) -> float:
    """The loss of the query, less that of the contrast."""
    return verification.query.loss - (0.0 if verification.contrast is None else verification.contrast.loss)


def checked_with(verification: Verification) -> str:
    """Model, curvature, damping and settings, on one line."""
    facts = [one_line(verification.model), f"curvature {one_line(verification.curvature)}"]
    facts += [f"damping λ = {one_line(verification.damping)}", training_examples(verification.examples)]
    if verification.subset is not None:
        facts.append(f"reference set of {verification.subset:,}")
    if verification.seeds is not None:
        facts.append(f"{verification.seeds} trainings a set")
    return " · ".join([*facts, f"seed {verification.seed}"])


def render_verification(verification: Verification) -> RenderableType:
    """The verification for a rich console: two bars an example, predicted over measured, and what they mean."""
    return _VerificationView(verification, terminal_theme(os.environ))


@dataclass(frozen=True)
class _VerificationView:
    verification: Verification
    theme: Theme

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = min(options.max_width, WIDTH)
        yield from (Constrain(part, width) for part in self._parts(console))

    def _parts(self, console: Console) -> Iterator[RenderableType]:
        verification, ink = self.verification, ink_of(console, self.theme)
        query = verification.query
        yield Text.assemble((visible(query.prompt), "dim"), (visible(query.completion), "bold"), overflow="fold")
        if verification.contrast is not None:
            yield Text.assemble(("rather than", "dim"), visible(verification.contrast.completion))
        yield Text()
        yield Text(headline(verification))
        full = max((abs(n) for check in verification.checks for n in (check.predicted, check.measured)), default=0.0)
        for check in verification.checks:
            yield Text()
            for word, value in (("predicted", check.predicted), ("measured", check.measured)):
                line = Text(no_wrap=True, overflow="ellipsis")
                head = shorten(one_line(check.id), ID) if word == "predicted" else self._about(check)
                line.append(f"{head:<{ID}} ", "bold" if word == "predicted" else "dim")
                line.append(f"{word:<10}", "dim")
                line.append(f"{signed(value):>9} ", ink.sign(value) + BOLD)
                yield line.append_text(bar(share(value, full), CHECK_BAR, ink))
        yield Text()
        yield Text(verdict(verification))
        yield Text()
        yield Text(checked_with(verification), style="dim")

    @staticmethod
    def _about(check: Check) -> str:
        return GROUP_NAMES[check.group] + ("" if check.converged else ", not converged")


def verification_html(verification: Verification) -> str:
    """A page that opens from disk: no script, nothing loaded, every text escaped."""
    title = escape(shorten(one_line(verification.query.prompt + verification.query.completion), 80))
    rows = "\n".join(
        f"<tr><td><bdi>{escape(one_line(check.id))}</bdi></td><td>{GROUP_NAMES[check.group]}</td>"
        f"<td>{escape(numbers(check))}</td></tr>"
        for check in verification.checks
    )
    contrast = ""
    if verification.contrast is not None:
        contrast = f"<p>rather than <bdi>{escape(visible(verification.contrast.completion))}</bdi></p>"
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
<h1><bdi>{escape(visible(verification.query.prompt))}<b>{escape(visible(verification.query.completion))}</b></bdi></h1>
{contrast}
<p>{escape(headline(verification))}</p>
<p>{escape(verdict(verification))}</p>
{scatter_svg(verification)}
<table>
<thead><tr><th scope="col">example</th><th scope="col">group</th><th scope="col">change, nats</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<footer>{escape(checked_with(verification))}</footer>
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
