"""Answer the jobs of a serverless queue. The output of a job is one answer, or a stream of the answer's parts.

deploy/runpod/handler.py receives the jobs and passes them on, so this module does not need Runpod's SDK. Its functions
do not raise. An error becomes the output `{"error": message}`. If the process should be replaced before the next job,
the output also has `"refresh_worker": True`.
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

from headwater.attribution.answer import Answer, ScoredExample
from headwater.attribution.options import AskOptions
from headwater.attribution.question import Question
from headwater.base.progress import Step
from headwater.errors import HeadwaterError
from headwater.runs.hub import fetch_run
from headwater.runs.run import Run

MAX_CHARACTERS = 20_000
"""Limit for the prompt and for the completion. The model's own limit in tokens is usually lower."""
MAX_K = 100
MAX_BYTES = 10_000_000
"""Limit for an answer. Runpod accepts 10 MB for /run and 20 MB for /runsync."""

Send = Callable[[dict[str, Any]], None]
"""Sends one progress update to the queue: see ProgressSender."""

_log = logging.getLogger(__name__)
_DEVICE = re.compile(
    r"CUDA (error|driver)|CUBLAS_STATUS|CUDNN_STATUS|cusolver error|NCCL error|HIP error|device-side assert|"
    r"out of memory|allocate memory"
)


class Input(BaseModel):
    """The input of a job."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: str = Field(max_length=MAX_CHARACTERS)
    completion: str | None = Field(None, max_length=MAX_CHARACTERS)
    """If missing, the model continues the prompt, and its continuation is explained."""
    span: str | None = Field(None, max_length=MAX_CHARACTERS)
    k: int = Field(10, ge=1, le=MAX_K)
    stream: bool = False


@dataclass(frozen=True)
class UnavailableRun:
    """The run of a worker that could not open it. Every job gets `message` as its error."""

    message: str


def open_worker(path: str | Path, hub: str | None = None) -> Run | UnavailableRun:
    """Open the run at `path` with its model. If the hub repository `hub` is named, fetch the run from it first."""
    try:
        if hub:
            fetch_run(hub, path)
        run = Run.open(path)
        run.curvature()  # without a curvature no job can be answered, so report it now
    except Exception as error:
        return UnavailableRun(f"This worker could not open its run: {_failure(error)['error']}")
    return run


def answer_event(worker: Run | UnavailableRun, job: Mapping[str, Any], send: Send) -> dict[str, Any]:
    """The whole answer to a job, or its error. `job` is `{"input": {…}}`: see Input.

    The answer is `{"influences": [{"query": text, "samples": [{"sample": text, "influence": …, "tokens": […], …}]}],
    "answer": {…}}`. `samples` has every example once, those that raised the likelihood first. `answer` has the rest.
    """
    try:
        run, asked = _validated(worker, job)
        if asked.stream:
            raise HeadwaterError(
                "This endpoint does not stream. Leave stream out, or set HEADWATER_STREAM=1 in its environment."
            )
        return _output(_ask(run, _question(run, asked), asked.k, send=send))
    except Exception as error:
        return _failure(error, worker)


def stream_event(worker: Run | UnavailableRun, job: Mapping[str, Any], send: Send) -> Iterator[dict[str, Any]]:
    """The answer to a job in parts: the question, the examples from the strongest to the weakest, then the rest.

    The first key of a part says which it is: `query`, `sample` or `answer`. If the job does not ask for a stream, the
    only part is what `answer_event` returns. An error is the last part.
    """
    try:
        run, asked = _validated(worker, job)
        question = _question(run, asked)
        if asked.stream:
            yield {"query": question.text, "completion": question.completion, "generated": question.generated}
        answer = _ask(run, question, asked.k, send=send)
        output = _output(answer)
        if not asked.stream:
            yield output
            return
        samples: list[dict[str, Any]] = output["influences"][0]["samples"]
        yield from sorted(samples, key=lambda sample: -abs(sample["influence"]))
        yield {"answer": output["answer"]}
    except Exception as error:
        yield _failure(error, worker)


class ProgressSender:
    """Sends the progress of a job: at most one update a second, and the last update of every stage.

    An update is `{"number": 3, "stage": "scores", "step": 512, "of": 20000}`. Updates may arrive out of order; the one
    with the highest number is the newest.
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
        """Send the step that is held back until a second has passed."""
        step, self._waiting = self._waiting, None
        if step is None or (step.stage, step.done, step.total) == self._last:
            return
        self._number += 1
        self._last = (step.stage, step.done, step.total)
        self._next = self._clock() + 1.0
        self._send({"number": self._number, "stage": step.stage, "step": step.done, "of": step.total})


def _validated(worker: Run | UnavailableRun, job: Mapping[str, Any]) -> tuple[Run, Input]:
    if isinstance(worker, UnavailableRun):
        raise HeadwaterError(worker.message)
    given: object = job.get("input")
    if not isinstance(given, dict):
        raise HeadwaterError('The input must be an object such as {"prompt": "Once upon a time", "k": 5}.')
    try:
        return worker, Input.model_validate(given)
    except ValidationError as error:
        raise HeadwaterError(" ".join(map(_input_error, error.errors(include_url=False)))) from error


def _input_error(found: Any) -> str:
    """One error of pydantic in a sentence."""
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "extra_forbidden":
        return f"{name!r} is not an input. The inputs are {', '.join(Input.model_fields)}."
    if found["type"] == "missing":
        return f"{name} is missing."
    return f"{name}: {found['msg']}."


def _question(run: Run, asked: Input) -> Question:
    return run.question(asked.prompt, asked.completion, asked.span)


def _ask(run: Run, question: Question, k: int, *, send: Send) -> Answer:
    progress = ProgressSender(send)
    answer = run.using(report=progress).ask(question, options=AskOptions(k=k))
    progress.finish()
    return answer


def _output(answer: Answer) -> dict[str, Any]:
    """The answer as a job's output. Raises HeadwaterError if it is too large, or not finite."""
    answer.to_json(indent=None)  # raises for infinite numbers and NaN
    ends = [("raised", example) for example in answer.proponents]
    ends += [("lowered", example) for example in answer.opponents]
    rest = answer.to_dict()
    del rest["proponents"], rest["opponents"]
    query = answer.query.prompt + answer.query.completion
    output = {"influences": [{"query": query, "samples": [_sample(*end) for end in ends]}], "answer": rest}
    size = len(json.dumps(output, ensure_ascii=False).encode())
    if size > MAX_BYTES:
        raise HeadwaterError(
            f"The answer takes {size / 1e6:.1f} MB, more than the limit of {MAX_BYTES / 1e6:.0f} MB. Ask for fewer "
            f"examples: k applies to each end, and {len(ends)} examples were found."
        )
    return output


def _sample(end: str, example: ScoredExample) -> dict[str, Any]:
    fields = asdict(example)
    return {"sample": fields.pop("text"), **fields, "end": end}


def _failure(error: Exception, worker: Run | UnavailableRun | None = None) -> dict[str, Any]:
    """The output for an error. HeadwaterError is shown in its own words; other errors are shown without details."""
    broken = isinstance(worker, UnavailableRun) or any(map(_is_device_error, _chain(error)))
    if isinstance(error, HeadwaterError):
        message = str(error)
    elif broken:
        _log.error("The device failed.", exc_info=error)
        message = (
            f"The worker's device failed or ran out of memory ({type(error).__name__}). Send the job again. If it "
            "fails again, use a shorter text or a smaller k."
        )
    else:
        _log.error("A job failed.", exc_info=error)
        message = f"Headwater failed on this job ({type(error).__name__}). The worker's log has the details."
    return {"error": message, "refresh_worker": True} if broken else {"error": message}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_device_error(error: BaseException) -> bool:
    """Whether the process may be unable to compute anything after this error."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _DEVICE.search(str(error)) is not None
