"""The answer to one question, as plain data: what was asked, and which examples pushed it up or down."""

from __future__ import annotations

from dataclasses import dataclass, field

from headwater.base.choices import RankBy

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class QueryToken:
    """One token of the prompt and completion. The texts of all tokens join to the whole query text."""

    token: str
    """Its characters in the text; empty for a token that covers none."""
    loss: float | None
    """Surprisal in nats, −log p(token | the tokens before it); None for the first, which nothing predicts."""
    selected: bool
    """Whether this token's loss is part of the query."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is being explained: the summed loss of the selected tokens of prompt + completion."""

    prompt: str
    completion: str
    """What the model said after the prompt."""
    tokens: list[QueryToken]
    """Of prompt and completion, in order."""
    loss: float
    """Summed negative log-likelihood of the selected tokens, in nats."""
    span: str | None = None
    """The words of the completion that were selected, or None for the whole completion."""
    generated: bool = False
    """True where the model wrote the completion itself."""


@dataclass(frozen=True)
class TokenInfluence:
    """The part of an example's influence that enters at one of its tokens."""

    token: str
    """Its characters in the text; empty for a token that covers none."""
    influence: float
    """Positive where it raised the likelihood of the query."""


@dataclass(frozen=True, kw_only=True)
class ScoredExample:
    """One training example and its influence on the query.

    `influence` is I(q, z) (see docs/design.md, Grosse et al. 2023 eq. 5). The influences of `tokens` sum to
    it, and so do those of `layers`.
    """

    id: str
    influence: float
    """I(q, z), positive where training on the example made the query more likely."""
    text: str
    """As far as the model read it; the texts of `tokens` join to it."""
    tokens: list[TokenInfluence]
    layers: dict[str, float]
    """Layer name to its part of the influence, in the order of the model."""
    removal_effect: float
    """Predicted change of log p(query) in nats if this example were removed from training: −I(q, z)/N."""
    relative: float | None = None
    """I(q, z) / √I(z, z), filled when the answer is ranked by `relative`."""
    source: str = ""
    """Where the example was read: file and line."""
    metadata: dict[str, Scalar] = field(default_factory=dict[str, Scalar])
    """The other columns of the example's record."""
    duplicates: list[str] = field(default_factory=list[str])
    """Ids of the examples as strong as those shown that say almost the same, and are folded into this one."""


@dataclass(frozen=True)
class Distribution:
    """How the number ranked by is distributed over all examples: a histogram of B bins."""

    edges: list[float]
    """[B + 1] where the bins begin and end, symmetric about 0."""
    scored: list[int]
    """[B] of the examples scored exactly."""
    estimated: list[int]
    """[B] of the others, by the estimates of their sketches, which blur it by their noise."""


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """The examples that raised and lowered the likelihood of a query, strongest first."""

    query: Query
    proponents: list[ScoredExample]
    """The examples that raised the likelihood most, strongest first."""
    opponents: list[ScoredExample]
    """The examples that lowered it most, strongest first."""
    rank_by: RankBy
    """What "strongest" means: `influence`, or `relative`."""
    examples: int
    """N: how many training examples there are."""
    examples_scored: int
    """How many of them were scored exactly for this answer."""
    curvature: str
    """The curvature kind, e.g. "ekfac"."""
    damping: str
    """How λ was set, e.g. "0.1 × mean(Λ)"."""
    model: str
    """Name or path of the model that was asked."""
    examples_searched: int | None = None
    """How many were searched by their sketches, to choose those scored; None where all were scored."""
    expected_missed: float = 0.0
    """About so many of the examples shown would a scan of everything replace, by the sketches' known noise."""
    selection: str | None = None
    """What the examples were restricted to: a condition, words, or texts that are not in the corpus."""
    added: bool = False
    """True where the texts are not in the corpus: `removal_effect` is then what adding them would undo."""
    contrast: Query | None = None
    """What the model might have said instead: log p(query) − log p(contrast) is then explained."""
    layers: list[str] | None = None
    """The layers whose part of the influence counts; None is all that are tracked."""
    distribution: Distribution | None = None
    """Of all examples searched; None where the texts are not in the corpus."""


@dataclass(frozen=True, kw_only=True)
class TokenMap:
    """Token × token influence of one example: `values[i][j]` is that of training token j on query token i.

    Summed over i they are the influences of the example's tokens, over j of the query's, over both I(q, z). The
    tokens of a contrast count with a negative sign.
    """

    example_id: str
    query_tokens: list[str]
    """The selected query tokens, then those of the contrast where there is one: Q of them."""
    example_tokens: list[str]
    """All tokens of the example, T of them."""
    values: list[list[float]]
    """[Q, T]."""
    contrast_tokens: int = 0
    """How many of the query tokens, the last ones, are the contrast's."""
