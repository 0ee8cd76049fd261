"""What the API takes and gives, as JSON."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headwater.attribution.answer import Scalar
from headwater.attribution.options import AskOptions, Sampling
from headwater.base.options import options_of
from headwater.serve.jobs import State
from headwater.serve.limits import LIMITS
from headwater.serve.option_fields import Str, field_type, with_options
from headwater.serve.problems import Problem
from headwater.verify.options import VerifyOptions

Text = Annotated[Str, Field(min_length=1, max_length=LIMITS.text_characters)]
Place = Annotated[int, Field(ge=0)]
Places = Annotated[list[Place], Field(min_length=2, max_length=2)]
_ASKED = options_of(AskOptions)
Damping = field_type(AskOptions, _ASKED["damping"])
Globs = field_type(AskOptions, _ASKED["layers"])


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class SamplingBody(with_options(_Body, Sampling)):
    """How the model continues a prompt. A temperature below 0.01 is 0."""


class _GivenBody(_Body):
    """What the model was given: a prompt or messages."""

    prompt: Str | None = None
    """A text. If the run's corpus holds conversations, it is what a user says, and the chat template is applied."""
    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=LIMITS.messages)] | None = None
    """A conversation instead of a prompt: objects with role and content. The chat template is applied."""
    raw: bool = False
    """Whether the prompt is the text that the model reads, though the corpus holds conversations."""

    @model_validator(mode="after")
    def _one_is_given(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self


class GenerateBody(_GivenBody):
    """A prompt for the model to continue."""

    sampling: SamplingBody = SamplingBody()


class DescribeBody(_GivenBody):
    """What the model was given, and what it said."""

    completion: Annotated[Str, Field(min_length=1)]
    span: Str | Places | None = None
    """Part of the completion: its words, or where they start and stop in it, in characters (Unicode code points)."""
    contrast: Str | None = None
    """What the model might have said instead."""


class QuestionBody(_GivenBody):
    """Why did the model say `completion` after `prompt`?"""

    completion: Str | None = None
    """What it said; null lets it continue the prompt. Null also if the last of messages is the assistant's."""
    span: Str | Places | None = None
    """Part of the completion: its words, or where they start and stop in it, in characters (Unicode code points)."""
    contrast: Str | None = None
    """What it might have said instead: log p(completion) − log p(contrast) is then explained."""
    sampling: SamplingBody = SamplingBody()
    """How it continues the prompt, where it does."""


class InfluencesBody(with_options(QuestionBody, AskOptions)):
    """A question, and how it is answered."""

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
    damping: Damping = None  # pyright: ignore[reportInvalidTypeForm]
    layers: Globs = None  # pyright: ignore[reportInvalidTypeForm]

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.example is None) == (self.text is None):
            raise ValueError("give either example, the id of one, or text")
        return self


class _VerificationBody(_Body):
    question: InfluencesBody
    """What the answer answers, as it was asked; an answer that is no longer kept is computed again."""


class VerificationsBody(with_options(_VerificationBody, VerifyOptions)):
    """An answer, and how its predictions for single examples are checked."""

    kind: Literal["step", "pbrf"] = "step"
    """A small step on each example, or the proximal Bregman response of the weights to its removal."""

    @model_validator(mode="after")
    def _within_reason(self) -> Self:
        if self.question.texts is not None:
            raise ValueError("only training examples can be verified, and the question is about other texts")
        examples = 2 * self.k + self.random
        if examples == 0:
            raise ValueError("check at least one example: give k or random")
        if self.weight == 0:
            raise ValueError("weight is the part of an example that is removed, and 0 removes nothing")
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
                f"{examples} responses × {self.subset:,} reference examples × {self.iterations} iterations take too "
                f"long: {texts:,} is above {LIMITS.response_texts:,}"
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


class OptionBody(BaseModel):
    """An option of a request."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    default: Any
    minimum: float | None
    maximum: float | None
    help: str


class OptionsBody(BaseModel):
    """The options of requests, by their names."""

    influences: dict[str, OptionBody]
    sampling: dict[str, OptionBody]
    verifications: dict[str, OptionBody]


class CoverageBody(BaseModel):
    """How many parameters are tracked, of how many. Influence through the others is not seen."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tracked: int
    parameters: int
    """Parameters of the model, or of its adapter, which alone was trained."""
    mlp_tracked: int
    mlp_parameters: int
    """Those of its MLPs, experts and routers included; 0 if it has none."""
    of: str
    """`model` or `adapter`"""
    text: str
    """The shares in words."""


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
    coverage: CoverageBody | None
    """The share of the model's parameters that is tracked; null for a curvature fitted before it was recorded."""
    index: IndexBody | None
    prompts: list[PromptBody]
    """Questions to begin with."""
    limits: LimitsBody
    options: OptionsBody
    corpus_source: str
    conversations: bool
    """Whether the corpus holds conversations, so that questions are asked as chats."""


class Health(BaseModel):
    status: Literal["alive", "ready"]
