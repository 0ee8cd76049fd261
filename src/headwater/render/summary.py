"""What the numbers of an answer mean, in plain words."""

from __future__ import annotations

import math
from itertools import accumulate

from headwater.attribution.attribution import Attribution, Query, QueryToken, ScoredExample
from headwater.render.visible import one_line, shorten


def meaning(attribution: Attribution) -> str:
    """What influence says about this answer, and what removing its strongest example is predicted to do."""
    return " ".join(
        sentence for sentence in (_signs(attribution), _ranking(attribution), *_ends(attribution)) if sentence
    )


def subject(query: Query) -> str:
    """What was asked about: “these words”, the completion, or the model's own continuation."""
    if query.span is not None:
        return f"“{shorten(one_line(query.span), 60)}”"
    return "the model's own continuation" if query.generated else "the completion"


def surprisal(loss: float) -> str:
    """A loss as "4.71 nats, probability 0.9%"."""
    return f"{loss:.2f} nats, probability {probability(loss)}"


def probability(loss: float) -> str:
    """exp(−loss) as one reads it aloud: "12%", "0.9%", "1 in 54,000"."""
    if loss > 36:
        return f"1 in 10^{loss / math.log(10):.0f}"
    chance = math.exp(-loss)
    if chance < 0.001:
        return f"1 in {int(float(f'{1 / chance:.2g}')):,}"
    if chance > 0.99:
        return "over 99%"
    return f"{chance:.1%}" if chance < 0.1 else f"{chance:.0%}"


def signed(value: float) -> str:
    """A number with its sign and three digits: "+36.9", "−0.0123", "+1.2e−07"; plain "0" for nothing."""
    if value == 0:
        return "0"
    if not math.isfinite(value) or 1000 <= abs(value) < 1e6:
        text = f"{value:+,.0f}"
    else:
        text = f"{value:+#.3g}".rstrip(".")
    return text.replace("-", "−").replace("e−0", "e−").replace("e+0", "e+")


def examples(count: int) -> str:
    """So many training examples, in words: "3,000 training examples"."""
    return f"{count:,} training example" + ("" if count == 1 else "s")


def made_with(attribution: Attribution) -> str:
    """Model, curvature, damping and how much was scored, on one line."""
    facts = (
        one_line(attribution.model),
        f"curvature {one_line(attribution.curvature)}",
        f"damping λ = {one_line(attribution.damping)}",
        _scored(attribution),
    )
    return " · ".join(facts)


def _scored(attribution: Attribution) -> str:
    """How many examples were searched and scored: "20,000 training examples searched, 64 of them scored exactly"."""
    if attribution.added:
        return f"{attribution.examples_scored:,} text{'' if attribution.examples_scored == 1 else 's'} scored"
    if attribution.examples_searched is None:
        return f"{examples(attribution.examples_scored)} scored"
    missed = attribution.expected_missed
    sure = f"{max(missed, 0.01):.2g}"
    return (
        f"{examples(attribution.examples_searched)} searched, {attribution.examples_scored:,} of them scored exactly "
        f"(a scan of all would change about {sure} of those shown)"
    )


def alike(example: ScoredExample) -> str:
    """How many near-duplicates are folded into an example, "and 3 near-duplicates"; empty where there are none."""
    count = len(example.duplicates)
    return f"and {count:,} near-duplicate{'' if count == 1 else 's'}" if count else ""


def in_prompt(query: Query) -> list[tuple[QueryToken, bool]]:
    """The query's tokens, and whether each one ends within the prompt."""
    ends = accumulate(len(token.token) for token in query.tokens)
    return [(token, end <= len(query.prompt)) for token, end in zip(query.tokens, ends, strict=True)]


def _signs(attribution: Attribution) -> str:
    asked, contrast = subject(attribution.query), attribution.contrast
    if contrast is None:
        signs = f"training on the example made {asked} more likely. Negative: less likely."
    else:
        other = f"“{shorten(one_line(contrast.completion.strip()), 60)}” ({surprisal(contrast.loss)})"
        signs = f"training on the example favoured {asked} over {other}. Negative: the other way round."
    where = "A token is shaded where the model was taught, mostly about the token that follows."
    return f"Positive influence: {signs} {where}"


def _ranking(attribution: Attribution) -> str:
    if attribution.rank_by == "influence":
        return ""
    return "Ranked by relative influence: divided by each example's own norm, so that loud examples do not always win."


def _ends(attribution: Attribution) -> list[str]:
    if attribution.added:
        return _added(attribution)
    total = examples(attribution.examples)
    restricted = [f"Only examples {one_line(attribution.selection)} were looked at."] if attribution.selection else []
    if attribution.layers is not None:
        restricted.append(f"Only influence through {_listed(attribution.layers)} counts.")
    return restricted + _ends_of_corpus(attribution, total)


def _listed(layers: list[str]) -> str:
    names = ", ".join(map(one_line, layers[:4]))
    return f"{names} and {len(layers) - 4} more layers" if len(layers) > 4 else names


def _added(attribution: Attribution) -> list[str]:
    """What adding the strongest of the texts, which are not in the corpus, is predicted to do."""
    here = f"These are {one_line(attribution.selection or 'texts')}, which the corpus does not hold."
    strongest = (attribution.proponents or attribution.opponents)[:1]
    return [here] + [
        f"Adding {shorten(one_line(example.id), 60)} to the {examples(attribution.examples)} is predicted to "
        f"{_change(attribution, -example.removal_effect)}."
        for example in strongest
    ]


def _ends_of_corpus(attribution: Attribution, total: str) -> list[str]:
    if not attribution.proponents and not attribution.opponents:
        return [f"Nothing in the {total} raised or lowered it."]
    if not attribution.proponents:
        return [f"Nothing in the {total} raised it.", _removal(attribution, attribution.opponents[0], "strongest")]
    removal = _removal(attribution, attribution.proponents[0], "top")
    return [removal] if attribution.opponents else [removal, f"Nothing in the {total} lowered it."]


def _removal(attribution: Attribution, example: ScoredExample, which: str) -> str:
    return (
        f"Removing the {which} example, {shorten(one_line(example.id), 60)}, from the "
        f"{examples(attribution.examples)} is predicted to {_change(attribution, example.removal_effect)}."
    )


def _change(attribution: Attribution, effect: float) -> str:
    """What is predicted to happen to the query: "change log p by −0.02 nats (2% less likely)"."""
    if attribution.contrast is not None:
        return f"change the log odds between the two by {signed(effect)} nats"
    return f"change log p by {signed(effect)} nats{_likelier(effect)}"


def _likelier(effect: float) -> str:
    """A change of log p as a change of p, " (1.2% less likely)"; nothing where it makes no sense."""
    if effect == 0 or not abs(effect) < 20:
        return ""
    direction = "more" if effect > 0 else "less"
    times = math.exp(abs(effect))
    if times >= 2:
        return (
            f" ({times:,.1f} times {direction} likely)" if times < 10 else f" ({times:,.0f} times {direction} likely)"
        )
    return f" ({abs(math.expm1(effect)) * 100:.2g}% {direction} likely)"
