"""What the API takes and gives, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from headwater.attribution.answer import Scalar
from headwater.base.choices import DEFAULT_CANDIDATES, DEFAULT_SUBSET, RankBy
from headwater.base.plugins import SOLVERS
from headwater.curvature.damping import parse_damping
from headwater.serve.jobs import State
from headwater.serve.limits import LIMITS
from headwater.serve.problems import Problem
from headwater.verify.options import VerifyOptions


def _damping(value: str | float | None) -> str | float | None:
    parse_damping(value)
    return value


def _solver(value: str) -> str:
    if value not in SOLVERS.names():
        raise ValueError(f"there is no such solver; choose among {', '.join(SOLVERS.names())}")
    return value


def _whole(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair, which is no text") from error
    return value


DEFAULT_REFERENCE_EXAMPLES = VerifyOptions.subset or LIMITS.reference_examples
Str = Annotated[str, AfterValidator(_whole)]
Damping = Annotated[Str | float | None, AfterValidator(_damping)]
Condition = Annotated[Str, Field(min_length=1, max_length=LIMITS.condition_characters)]
Text = Annotated[Str, Field(min_length=1, max_length=LIMITS.text_characters)]
Globs = Annotated[list[Annotated[Str, Field(min_length=1)]], Field(min_length=1, max_length=LIMITS.layers)]
Place = Annotated[int, Field(ge=0)]
Places = Annotated[list[Place], Field(min_length=2, max_length=2)]


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class SamplingBody(_Body):
    """How the model continues a prompt."""

    max_new_tokens: Annotated[int, Field(ge=1, le=LIMITS.new_tokens)] = 24
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    """0 continues greedily, and so does anything below 0.01."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class GenerateBody(_Body):
    """A prompt for the model to continue."""

    prompt: Str
    sampling: SamplingBody = SamplingBody()


class DescribeBody(_Body):
    """What the model was given, and what it said."""

    prompt: Str
    completion: Annotated[Str, Field(min_length=1)]
    span: Str | Places | None = None
    """Part of the completion: its words, or where they start and stop in it, in characters (Unicode code points)."""
    contrast: Str | None = None
    """What the model might have said instead."""


class QuestionBody(_Body):
    """Why did the model say `completion` after `prompt`?"""

    prompt: Str
    completion: Str | None = None
    """What it said; null lets it continue the prompt."""
    span: Str | Places | None = None
    """Part of the completion: its words, or where they start and stop in it, in characters (Unicode code points)."""
    contrast: Str | None = None
    """What it might have said instead: log p(completion) − log p(contrast) is then explained."""
    sampling: SamplingBody = SamplingBody()
    """How it continues the prompt, where it does."""


class InfluencesBody(QuestionBody):
    """A question, and how it is to be answered."""

    k: Annotated[int, Field(ge=1, le=LIMITS.k)] = 10
    """Examples at each end."""
    rank_by: RankBy = "influence"
    damping: Damping = None
    """λ: a number, or a factor such as "0.1*mean"; null is the run's own."""
    exact: bool = False
    """Score every example, even where there is an index."""
    candidates: Annotated[int, Field(ge=1, le=LIMITS.candidates)] = DEFAULT_CANDIDATES
    """Of those the index finds, score at most so many."""
    where: Condition | None = None
    """SQL condition on the index's columns: only examples that meet it."""
    contains: Condition | None = None
    """Only examples with these words in their text."""
    fold: bool = True
    """Show near-duplicates once, with a count."""
    query_rank: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Rank that the question's gradient is reduced to in every layer; null keeps it whole."""
    layers: Globs | None = None
    """Globs of the layers whose part of the influence counts; null is all."""
    solver: Annotated[Str, AfterValidator(_solver)] = "curvature"
    """`cg` goes on from the curvature by conjugate gradients: slower, and closer. Or another solver that the server
    has."""
    iterations: Annotated[int, Field(ge=1, le=LIMITS.iterations)] | None = None
    """Of the solver, at most; null is as many as it sees fit."""
    subset: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = DEFAULT_SUBSET
    """Examples that a solver takes the curvature over; null is all."""
    texts: Annotated[list[Text], Field(min_length=1, max_length=LIMITS.texts)] | None = None
    """Score these in place of the corpus: what would they do if they were added to it?"""

    @model_validator(mode="after")
    def _texts_are_all(self) -> Self:
        if self.texts is not None and (self.where is not None or self.contains is not None):
            raise ValueError("where and contains choose among the corpus; texts are scored in its place")
        return self


class TokensBody(QuestionBody):
    """A question, and the example or the text whose tokens are set against its own."""

    example: Str | None = None
    """The id of an example; else give a text."""
    text: Text | None = None
    damping: Damping = None
    layers: Globs | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.example is None) == (self.text is None):
            raise ValueError("give either example, the id of one, or text")
        return self


class VerificationsBody(_Body):
    """An answer, and how what it predicts of single examples is checked."""

    question: InfluencesBody
    """What it answers, as it was asked; where the answer is no longer kept, it is found anew."""
    kind: Literal["step", "pbrf"] = "step"
    """A small step on each example, or the proximal Bregman response of the weights to taking it out."""
    k: Annotated[int, Field(ge=0, le=LIMITS.k)] = VerifyOptions.k
    """Examples checked at each end of the answer."""
    random: Annotated[int, Field(ge=0, le=LIMITS.checked)] = VerifyOptions.random
    """Examples checked that the answer does not show."""
    weight: Annotated[float, Field(ge=-1, le=1)] = VerifyOptions.weight
    """The part of the example that is taken out, for a response; below 0 it is added once more."""
    subset: Annotated[int, Field(ge=1, le=LIMITS.reference_examples)] = DEFAULT_REFERENCE_EXAMPLES
    """Examples that are held fast in a response; a smaller corpus is held fast whole."""
    iterations: Annotated[int, Field(ge=1, le=LIMITS.iterations)] = VerifyOptions.iterations
    """Of finding a response, at most."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of the examples at random, and of those held fast."""

    @model_validator(mode="after")
    def _within_reason(self) -> Self:
        if self.question.texts is not None:
            raise ValueError("only training examples can be verified, and the question is about other texts")
        examples = 2 * self.k + self.random
        if examples == 0:
            raise ValueError("check at least one example: give k or random")
        if self.weight == 0:
            raise ValueError("weight is the part of an example that is taken out, and 0 takes out nothing")
        if self.kind == "pbrf":
            self._short_enough(examples)
        return self

    def _short_enough(self, examples: int) -> None:
        if examples > LIMITS.responses:
            raise ValueError(
                f"{examples} responses (2 k + random) take too long: at most {LIMITS.responses} are found at once"
            )
        texts = examples * self.subset * self.iterations
        if texts > LIMITS.response_texts:
            raise ValueError(
                f"{examples} responses × {self.subset:,} held fast × {self.iterations} iterations take too long: "
                f"{texts:,} is above {LIMITS.response_texts:,}"
            )


class JobBody(BaseModel):
    """A question that is being answered, or an answer that is being verified."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    state: State
    place: int
    """How many jobs are ahead of it; 0 where it runs or is over."""
    stage: str | None
    """What is being done, in words."""
    done: int
    """Of this stage."""
    total: int
    note: str
    seconds: float | None
    """That it has run so far, or ran in all; null where it never did."""
    error: Problem | None
    """Why it failed."""
    meaning: str | None
    """What the answer's numbers mean, in plain words; null until it is done."""
    made_with: str | None
    """Model, curvature, damping and how much was scored; null until it is done."""
    answer: Any
    """Once it is done, of a verification what it found; null in the events of a job."""


class ExampleBody(BaseModel):
    """A training example, as far as the model read it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    text: str
    tokens: list[str]
    """They join to the text."""
    source: str
    """File and line it came from."""
    metadata: dict[str, Scalar]


class Fingerprints(BaseModel):
    model: str
    tokenizer: str
    corpus: str


class IndexBody(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    bytes: int
    """Of an example's sketch."""
    columns: list[str]
    """Names that `where` may use."""


class PromptBody(BaseModel):
    prompt: str
    completion: str | None


class LimitsBody(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    prompt_tokens: int
    """That the model reads, prompt and completion together."""
    k: int
    texts: int
    body_bytes: int
    queue: int


class RunBody(BaseModel):
    """What is being asked."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    version: str
    """Of Headwater."""
    model: str
    fingerprints: Fingerprints
    examples: int
    tokens: int
    """Of all examples."""
    curvature: str
    damping: str
    layers: list[str]
    index: IndexBody | None
    prompts: list[PromptBody]
    """Questions to begin with."""
    limits: LimitsBody
    corpus_source: str


class Health(BaseModel):
    status: Literal["alive", "ready"]
