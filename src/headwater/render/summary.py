"""What the numbers of an answer mean, in words: the same sentences in the terminal, on the page and from the server."""

from __future__ import annotations

import math
from itertools import accumulate

from headwater.attribution.answer import Answer, Query, QueryToken, ScoredExample
from headwater.base.shown import counted
from headwater.render.visible import one_line, shorten


def meaning(answer: Answer) -> str:
    """What influence says about this answer, and what removing its strongest example is predicted to do."""
    sentences = (answer.query.note, _signs(answer), _ranking(answer), *_ends(answer))
    return " ".join(sentence for sentence in sentences if sentence)


def subject(query: Query) -> str:
    """What the question is about: “these words”, the completion, or the model's own continuation."""
    if query.span is not None:
        return f"“{shorten(one_line(query.span), 60)}”"
    return "the model's own continuation" if query.generated else "the completion"


def surprisal(loss: float) -> str:
    """A loss as "4.71 nats, probability 0.9%"."""
    return f"{loss:.2f} nats, probability {probability(loss)}"


def probability(loss: float) -> str:
    """exp(−loss) in words: "12%", "0.9%", "1 in 54,000"."""
    if loss > 36:
        return f"1 in 10^{loss / math.log(10):.0f}"
    chance = math.exp(-loss)
    if chance < 0.001:
        return f"1 in {int(float(f'{1 / chance:.2g}')):,}"
    if chance > 0.99:
        return "over 99%"
    return f"{chance:.1%}" if chance < 0.1 else f"{chance:.0%}"


def signed(value: float) -> str:
    """A number with its sign and three digits: "+36.9", "−0.0123", "+1.2e−07"; "0" for zero."""
    if value == 0:
        return "0"
    if not math.isfinite(value) or 1000 <= abs(value) < 1e6:
        text = f"{value:+,.0f}"
    else:
        text = f"{value:+#.3g}".rstrip(".")
    return text.replace("-", "−").replace("e−0", "e−").replace("e+0", "e+")


def training_examples(count: int) -> str:
    """A number of training examples: "3,000 training examples"."""
    return counted(count, "training example")


def made_with(answer: Answer) -> str:
    """Model, curvature, damping and how much was scored, on one line."""
    facts = (
        one_line(answer.model),
        f"curvature {one_line(answer.curvature)}",
        f"damping λ = {one_line(answer.damping)}",
        _scored(answer),
    )
    return " · ".join(facts)


def _scored(answer: Answer) -> str:
    """How many examples were searched and scored: "20,000 training examples searched, 64 of them scored exactly"."""
    if answer.added:
        return f"{counted(answer.examples_scored, 'text')} scored"
    if answer.examples_searched is None:
        return f"{training_examples(answer.examples_scored)} scored"
    if answer.examples_scored >= answer.examples_searched:
        return f"{training_examples(answer.examples_searched)} searched, and all of them scored exactly"
    return (
        f"{training_examples(answer.examples_searched)} searched, {answer.examples_scored:,} of them scored exactly "
        f"(an exact scan would replace about {max(answer.expected_missed, 0.01):.2g} of the examples shown)"
    )


def alike(example: ScoredExample) -> str:
    """How many near-duplicates are folded into an example, "and 3 near-duplicates"; empty where there are none."""
    return f"and {counted(len(example.duplicates), 'near-duplicate')}" if example.duplicates else ""


def instead(example: ScoredExample) -> str:
    """What an opponent that contains the words asked about taught instead; empty for any other example."""
    if not example.taught:
        return ""
    taught = ", ".join(f"“{shorten(one_line(token.strip()), 30)}”" for token in example.taught)
    return f"Contains the words asked about. Its strongest negative shares come where it teaches {taught}."


def in_prompt(query: Query) -> list[tuple[QueryToken, bool]]:
    """The query's tokens, and whether each one ends within the prompt."""
    ends = accumulate(len(token.token) for token in query.tokens)
    return [(token, end <= len(query.prompt)) for token, end in zip(query.tokens, ends, strict=True)]


def _signs(answer: Answer) -> str:
    asked, contrast = subject(answer.query), answer.contrast
    if contrast is None:
        signs = f"training on the example made {asked} more likely. Negative: less likely."
    else:
        other = f"“{shorten(one_line(contrast.completion.strip()), 60)}” ({surprisal(contrast.loss)})"
        signs = f"training on the example favoured {asked} over {other}. Negative: the other way round."
    where = (
        "A token's shade is the influence that enters at its position, mostly through the prediction of the next token."
    )
    return f"Positive influence: {signs} {where}"


def _ranking(answer: Answer) -> str:
    if answer.rank_by == "influence":
        return ""
    return (
        "Ranked by relative influence: divided by each example's own norm, so that large gradients do not always win."
    )


def _ends(answer: Answer) -> list[str]:
    if answer.added:
        return _added(answer)
    total = training_examples(answer.examples)
    restricted = [f"Only examples {one_line(answer.selection)} were considered."] if answer.selection else []
    if answer.layers is not None:
        restricted.append(f"Only influence through {_listed(answer.layers)} counts.")
    return restricted + _ends_of_corpus(answer, total)


def _listed(layers: list[str]) -> str:
    names = ", ".join(map(one_line, layers[:4]))
    return f"{names} and {len(layers) - 4} more layers" if len(layers) > 4 else names


def _added(answer: Answer) -> list[str]:
    """What adding the strongest text, which is not in the corpus, is predicted to do."""
    here = f"These texts are not in the corpus: {one_line(answer.selection or 'texts')}."
    strongest = (answer.proponents or answer.opponents)[:1]
    return [here] + [
        f"Adding {shorten(one_line(example.id), 60)} to the {training_examples(answer.examples)} is predicted to "
        f"{_change(answer, -example.removal_effect)}."
        for example in strongest
    ]


def _ends_of_corpus(answer: Answer, total: str) -> list[str]:
    if not answer.proponents and not answer.opponents:
        return [f"Nothing in the {total} raised or lowered it."]
    if not answer.proponents:
        return [f"Nothing in the {total} raised it.", _removal(answer, answer.opponents[0], "strongest")]
    removal = _removal(answer, answer.proponents[0], "top")
    return [removal] if answer.opponents else [removal, f"Nothing in the {total} lowered it."]


def _removal(answer: Answer, example: ScoredExample, which: str) -> str:
    return (
        f"Removing the {which} example, {shorten(one_line(example.id), 60)}, from the "
        f"{training_examples(answer.examples)} is predicted to {_change(answer, example.removal_effect)}."
    )


def beyond_reach(answer: Answer, effect: float) -> bool:
    """Whether a predicted change of log p is larger than a linear prediction can tell."""
    return answer.reach is not None and abs(effect) > answer.reach


def size(answer: Answer, example: ScoredExample) -> str:
    """The predicted effect of removing the example, or of adding it: "removal −0.0123 nats"."""
    what, effect = ("adding", -example.removal_effect) if answer.added else ("removal", example.removal_effect)
    return f"{what}: beyond a linear prediction" if beyond_reach(answer, effect) else f"{what} {signed(effect)} nats"


def _change(answer: Answer, effect: float) -> str:
    """What is predicted to happen to the query: "change log p by −0.02 nats (2% less likely)"."""
    if beyond_reach(answer, effect):
        what = "log p" if answer.contrast is None else "the log odds between the two"
        direction = "raise" if effect > 0 else "lower"
        return (
            f"{direction} {what} by more than a linear prediction can tell, so the size is not stated: trust the order "
            "of the examples. A higher damping, such as --damping '10*mean', gives sizes nearer to measured ones"
        )
    if answer.contrast is not None:
        return f"change the log odds between the two by {signed(effect)} nats"
    return f"change log p by {signed(effect)} nats{_likelier(effect)}"


def _likelier(effect: float) -> str:
    """A change of log p as a change of p, " (1.2% less likely)"; nothing where the number would say nothing."""
    if effect == 0 or not abs(effect) < 20:
        return ""
    direction = "more" if effect > 0 else "less"
    times = math.exp(abs(effect))
    if times >= 2:
        return (
            f" ({times:,.1f} times {direction} likely)" if times < 10 else f" ({times:,.0f} times {direction} likely)"
        )
    return f" ({abs(math.expm1(effect)) * 100:.2g}% {direction} likely)"
