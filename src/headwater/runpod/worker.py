"""Answering the jobs of a serverless queue: one job in, one answer or a stream of its parts out.

Nothing here knows whose queue it is; deploy/runpod/handler.py hands the jobs over. Nothing here raises, either: what
goes wrong with a job becomes `{"error": message}`, with `"refresh_worker": True` beside it where the process had better
be replaced before the next job.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.attribution.answer import Answer
from headwater.attribution.ask import AskOptions
from headwater.attribution.attribution import ScoredExample
from headwater.attribution.question import Question
from headwater.base.progress import Step, silent
from headwater.errors import HeadwaterError
from headwater.runs.hub import fetch_run
from headwater.runs.run import Run

MAX_CHARACTERS = 20_000
"""Of the prompt, and of the completion; the model's own limit in tokens is usually reached before."""
MAX_K = 100
MAX_BYTES = 10_000_000
"""Of an answer: Runpod carries 10 MB for /run and 20 MB for /runsync."""

Send = Callable[[dict[str, Any]], None]
"""Takes one progress update: see Progress."""

_log = logging.getLogger(__name__)
_DEVICE = re.compile(
    r"CUDA (error|driver)|CUBLAS_STATUS|CUDNN_STATUS|cusolver error|NCCL error|HIP error|device-side assert|"
    r"out of memory|allocate memory"
)


class Input(BaseModel):
    """What a job asks."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: str = Field(max_length=MAX_CHARACTERS)
    completion: str | None = Field(None, max_length=MAX_CHARACTERS)
    """Left out, the model continues the prompt, and that is explained."""
    span: str | None = Field(None, max_length=MAX_CHARACTERS)
    k: int = Field(10, ge=1, le=MAX_K)
    stream: bool = False


@dataclass(frozen=True)
class Unopened:
    """A worker whose run could not be opened, and why."""

    message: str


def open_worker(path: str | Path, hub: str | None = None) -> Run | Unopened:
    """Open the run at `path` with its model, fetching it from the hub repository `hub` first where one is named."""
    try:
        if hub:
            fetch_run(hub, path)
        run = Run.open(path)
        run.curvature()  # a run without one can answer nothing, which is better said at once
    except Exception as error:
        return Unopened(f"This worker could not open its run: {_failure(error)['error']}")
    return run


def answer_event(worker: Run | Unopened, job: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """The whole answer to a job, or its error. `job` is `{"input": {…}}`, see Input.

    The answer is `{"influences": [{"query": text, "samples": [{"sample": text, "influence": …, "tokens": […], …}]}],
    "answer": {…}}`: every example once, in `samples`, those that raised the likelihood first; all else in `answer`.
    """
    try:
        run, asked = _taken(worker, job)
        if asked.stream:
            raise HeadwaterError(
                "This endpoint does not stream. Leave stream out, or set HEADWATER_STREAM=1 in its environment."
            )
        return _whole(_answered(run, _question(run, asked), asked.k, send=send))
    except Exception as error:
        return _failure(error, worker)


def stream_event(worker: Run | Unopened, job: Mapping[str, Any], send: Send) -> Iterator[dict[str, Any]]:
    """The answer to a job in parts: the question, the examples, strongest first from both ends, then all else.

    They are told apart by their first keys, `query`, `sample` and `answer`. Where the job does not ask for a stream,
    the one part is what `answer_event` returns. An error is the last part.
    """
    try:
        run, asked = _taken(worker, job)
        question = _question(run, asked)
        if asked.stream:
            yield {"query": question.text, "completion": question.completion, "generated": question.generated}
        answer = _answered(run, question, asked.k, send=send)
        whole = _whole(answer)
        if not asked.stream:
            yield whole
            return
        samples: list[dict[str, Any]] = whole["influences"][0]["samples"]
        yield from sorted(samples, key=lambda sample: -abs(sample["influence"]))
        yield {"answer": whole["answer"]}
    except Exception as error:
        yield _failure(error, worker)


class Progress:
    """Sends how far a job is: numbered, at most once a second, and the last of every stage.

    An update is `{"number": 3, "stage": "scores", "step": 512, "of": 20000}`. Updates may overtake each other on their
    way; the one with the highest number is the newest.
    """

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._number = 0
        self._last: tuple[str, int, int] | None = None
        self._waiting: Step | None = None
        self._next = float("-inf")

    def __call__(self, step: Step) -> None:
        if self._waiting is not None and self._waiting.stage != step.stage:
            self.finish()
        self._waiting = step
        if step.done >= step.total or self._clock() >= self._next:
            self.finish()

    def finish(self) -> None:
        """Send the step that is waiting for its second to pass."""
        step, self._waiting = self._waiting, None
        if step is None or (step.stage, step.done, step.total) == self._last:
            return
        self._number += 1
        self._last = (step.stage, step.done, step.total)
        self._next = self._clock() + 1.0
        self._send({"number": self._number, "stage": step.stage, "step": step.done, "of": step.total})


def _taken(worker: Run | Unopened, job: Mapping[str, Any]) -> tuple[Run, Input]:
    if isinstance(worker, Unopened):
        raise HeadwaterError(worker.message)
    given: object = job.get("input")
    if not isinstance(given, dict):
        raise HeadwaterError('The input is to be an object such as {"prompt": "Once upon a time", "k": 5}.')
    try:
        return worker, Input.model_validate(given)
    except ValidationError as error:
        raise HeadwaterError(" ".join(map(_mistake, error.errors(include_url=False)))) from error


def _mistake(found: Any) -> str:
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "extra_forbidden":
        return f"{name!r} is not an input; there are {', '.join(Input.model_fields)}."
    if found["type"] == "missing":
        return f"{name} is missing."
    return f"{name}: {found['msg']}."


def _question(run: Run, asked: Input) -> Question:
    return run.question(asked.prompt, asked.completion, asked.span)


def _answered(run: Run, question: Question, k: int, *, send: Send) -> Answer:
    progress = Progress(send)
    run.report = progress
    try:
        answer = run.ask(question, options=AskOptions(k=k))
    finally:
        run.report = silent
    progress.finish()
    return answer


def _whole(answer: Answer) -> dict[str, Any]:
    """The answer as a job's output. Raises HeadwaterError where it is too large, or holds what JSON cannot carry."""
    answer.to_json(indent=None)  # refuses numbers that are infinite or NaN
    ends = [("raised", example) for example in answer.proponents]
    ends += [("lowered", example) for example in answer.opponents]
    rest = answer.to_dict()
    del rest["proponents"], rest["opponents"]
    query = answer.query.prompt + answer.query.completion
    whole = {"influences": [{"query": query, "samples": [_sample(*end) for end in ends]}], "answer": rest}
    size = len(json.dumps(whole, ensure_ascii=False).encode())
    if size > MAX_BYTES:
        raise HeadwaterError(
            f"The answer takes {size / 1e6:.1f} MB, more than the {MAX_BYTES / 1e6:.0f} MB that the queue carries. Ask "
            f"for fewer examples: k is counted at each end, and here {len(ends)} were found."
        )
    return whole


def _sample(end: str, example: ScoredExample) -> dict[str, Any]:
    fields = asdict(example)
    return {"sample": fields.pop("text"), **fields, "end": end}


def _failure(error: Exception, worker: Run | Unopened | None = None) -> dict[str, Any]:
    """What a job says of an error: a person's mistake in its own words, anything else without its details."""
    poisoned = isinstance(worker, Unopened) or any(map(_of_the_device, _chain(error)))
    if isinstance(error, HeadwaterError):
        message = str(error)
    elif poisoned:
        _log.error("The device failed.", exc_info=error)
        message = (
            f"The worker's device failed or ran out of memory ({type(error).__name__}). Send the job again, if need be "
            "with a shorter text or a smaller k."
        )
    else:
        _log.error("A job failed.", exc_info=error)
        message = f"Headwater failed on this job ({type(error).__name__}). The worker's log has the details."
    return {"error": message, "refresh_worker": True} if poisoned else {"error": message}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _of_the_device(error: BaseException) -> bool:
    """Whether the process may be unable to compute anything from now on."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _DEVICE.search(str(error)) is not None
