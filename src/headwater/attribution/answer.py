"""The answer to one question as plain data: what was asked, and which examples raised or lowered its likelihood.

Tables, pages and the terminal's view are made by `headwater.render`, which is loaded when they are asked for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from headwater.attribution.options import RankBy
from headwater.base.files import finite_json, write_text
from headwater.base.shown import Shown, counted, face, quoted, quoted_end
from headwater.corpus.metadata import Scalar
from headwater.errors import HeadwaterError

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class QueryToken:
    """One token of the prompt and completion. The texts of all tokens join to the whole query text."""

    token: str
    """Its characters in the text; empty for a token that covers none."""
    loss: float | None
    """Surprisal in nats, −log p(token | the tokens before it); None for the first token, which nothing predicts."""
    selected: bool
    """Whether this token's loss is part of the query."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Query:
    """What is being explained: the summed loss of the selected tokens of prompt + completion."""

    prompt: str
    completion: str
    """What the model said after the prompt."""
    tokens: list[QueryToken]
    """The tokens of prompt and completion, in order."""
    loss: float
    """Summed negative log-likelihood of the selected tokens, in nats."""
    span: str | None = None
    """The words of the completion that were selected, or None for the whole completion."""
    generated: bool = False
    """True where the model wrote the completion itself."""
    token_ids: list[int] | None = None
    """The tokens of prompt and completion that the model generated, where tokenising the text gives others."""
    note: str | None = None
    """What was done to a continuation that ended inside a character."""
    messages: list[dict[str, Any]] | None = None
    """The conversation that the chat template made the prompt of, or None where the prompt was given as a text."""

    def __repr__(self) -> str:
        return f"Query({_prompt_and_completion(self)}, loss {self.loss:.4g} nats)"


@dataclass(frozen=True)
class TokenInfluence:
    """The part of an example's influence that enters at one of its tokens."""

    token: str
    """Its characters in the text; empty for a token that covers none."""
    influence: float
    """Positive where it raised the likelihood of the query."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ScoredExample(Shown):
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
    """Ids of the near-duplicates of this example that were as strong as the examples shown and are folded into it."""
    taught: list[str] = field(default_factory=list[str])
    """Only of an opponent whose text contains the words asked about: up to three other tokens, strongest first, that it
    learned where its influence is most negative."""

    heads: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """With `heads`: attention layer to the influence of each of its heads, which sum to the layer's. Key and value
    layers of grouped attention have fewer. A bias of the output projection has one more number, the last."""

    def __repr__(self) -> str:
        return f"ScoredExample({quoted(self.id)}, influence {self.influence:+.3g}, {quoted(self.text, 60)})"


@dataclass(frozen=True, repr=False)
class Distribution(Shown):
    """How the number ranked by is distributed over all examples: a histogram of B bins."""

    edges: list[float]
    """[B + 1] where the bins begin and end, symmetric about 0."""
    scored: list[int]
    """[B] counts of the examples scored exactly."""
    estimated: list[int]
    """[B] counts of the other examples, by estimates from their sketches, whose noise blurs the histogram."""

    def __repr__(self) -> str:
        return (
            f"Distribution({len(self.scored)} bins from {self.edges[0]:.3g} to {self.edges[-1]:.3g}, "
            f"{sum(self.scored):,} scored, {sum(self.estimated):,} estimated)"
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Answer(Shown):
    """The examples that raised and lowered the likelihood of a query, strongest first."""

    __pydantic_config__ = _STRICT

    query: Query
    proponents: list[ScoredExample]
    """The examples that raised the likelihood most, strongest first."""
    opponents: list[ScoredExample]
    """The examples that lowered it most, strongest first."""
    rank_by: RankBy
    """What "strongest" means: `influence`, or `relative`."""
    examples: int
    """N, the number of training examples."""
    examples_scored: int
    """Number of examples scored exactly for this answer."""
    curvature: str
    """The curvature kind, e.g. "ekfac"."""
    damping: str
    """How λ was set, e.g. "0.1 × mean(Λ)"."""
    model: str
    """Name or path of the model that was asked."""
    examples_searched: int | None = None
    """Number of examples searched by their sketches to choose those scored; None where all were scored."""
    expected_missed: float = 0.0
    """Expected number of shown examples that an exact scan would replace, from the known noise of the sketches."""
    selection: str | None = None
    """What the examples were restricted to: a condition, words, or texts that are not in the corpus."""
    added: bool = False
    """True where the texts are not in the corpus: `removal_effect` is then what adding them would undo."""
    contrast: Query | None = None
    """What the model might have said instead: log p(query) − log p(contrast) is then explained."""
    layers: list[str] | None = None
    """The layers whose part of the influence counts; None means all tracked layers."""
    distribution: Distribution | None = None
    """Distribution over all examples searched; None where the texts are not in the corpus."""
    iterations: int | None = None
    """Maximum iterations of the solver; None where it has its own."""
    subset: int | None = 1024
    """Examples in the solver's Gauss–Newton matrix; None means all."""
    seed: int = 0
    """Seed of the solver's random choice of these examples."""
    reach: float | None = None
    """Largest predicted change of log p, in nats, that is stated as a size. Of a larger one, a linear prediction can
    tell only the sign and the place in the order."""

    def __repr__(self) -> str:
        facts = [
            _prompt_and_completion(self.query),
            counted(len(self.proponents), "proponent"),
            counted(len(self.opponents), "opponent"),
            self.curvature,
            counted(self.examples, "example"),
        ]
        return f"Answer({', '.join(facts)})"

    def to_dict(self) -> dict[str, Any]:
        """The answer as dicts and lists, in the shape of docs/answer.schema.json."""
        return asdict(self)

    def to_json(self, indent: int | None = 2) -> str:
        """The answer as JSON in plain ASCII. Raises HeadwaterError where a number is infinite or NaN."""
        return finite_json(self.to_dict(), "This answer", indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Answer:
        """Read an answer that `to_json` wrote. Raises HeadwaterError, naming the place, where the text is not one."""
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise HeadwaterError(f"This is not an answer of Headwater: {first_mistake(error)}.") from error

    def to_table(self) -> Any:
        """The examples as a pyarrow Table, one row each (columns: `headwater.render.table.SCHEMA`)."""
        return face(self).table(self)

    def to_csv(self) -> str:
        """The examples as CSV, one row each; nested values are JSON in their cell."""
        return face(self).csv(self)

    def save_html(self, path: str | Path) -> Path:
        """Write the answer as one self-contained page, whole or not at all."""
        return write_text(Path(path), face(self).page(self))


@dataclass(frozen=True, kw_only=True, repr=False)
class TokenMap(Shown):
    """Token × token influence of one example: `values[i][j]` is that of training token j on query token i.

    Summed over i they are the influences of the example's tokens, over j of the query's, over both I(q, z). The
    tokens of a contrast count with a negative sign.
    """

    example_id: str
    query_tokens: list[str]
    """[Q] the selected query tokens, then those of the contrast where there is one."""
    example_tokens: list[str]
    """[T] all tokens of the example."""
    values: list[list[float]]
    """[Q, T]."""
    contrast_tokens: int = 0
    """Number of query tokens, the last ones, that are the contrast's."""

    def __repr__(self) -> str:
        size = f"{len(self.query_tokens)} query tokens × {len(self.example_tokens)} example tokens"
        return f"TokenMap({quoted(self.example_id)}, {size})"

    def save_html(self, path: str | Path) -> Path:
        """Write the map as one self-contained page, whole or not at all."""
        return write_text(Path(path), face(self).page(self))


def answer_schema() -> dict[str, Any]:
    """The JSON schema of an answer."""
    # In a list, so that the answer is a definition as its parts are.
    schema = TypeAdapter(list[Answer], config=_STRICT).json_schema()
    definitions = schema["$defs"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **definitions.pop("Answer"),
        "title": "Headwater answer",
        "$defs": definitions,
    }


def first_mistake(error: ValidationError) -> str:
    """Where the JSON of a result is wrong, and what is wrong there."""
    mistake = error.errors(include_url=False)[0]
    where = ".".join(map(str, mistake["loc"]))
    return f"{where}: {mistake['msg']}" if where else mistake["msg"]


def _prompt_and_completion(query: Query) -> str:
    return f"{quoted_end(query.prompt)} → {quoted(query.completion)}"
