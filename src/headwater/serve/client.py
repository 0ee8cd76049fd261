"""Asking a run that `headwater serve` serves, here or elsewhere, as one asks a Run."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from pydantic import TypeAdapter, ValidationError

from headwater.attribution.answer import Answer, TokenMapAnswer
from headwater.attribution.ask import AskOptions
from headwater.attribution.attribution import Query, Scalar
from headwater.attribution.question import Sampling, Span
from headwater.base.progress import Report, Step
from headwater.errors import HeadwaterError
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Verification

LOCAL = ("localhost", "127.0.0.1", "::1")
LONG_WAIT, SHORT_WAIT = 20.0, 0.25
"""Seconds that one request waits for an answer: without anyone to tell of progress, and with."""


@dataclass(frozen=True, kw_only=True)
class ExampleText:
    """A training example, as far as the model read it."""

    id: str
    text: str
    tokens: list[str]
    """They join to the text."""
    source: str
    """File and line it came from."""
    metadata: dict[str, Scalar]


class Client:
    """A server's address, and what it takes to ask there.

    Every method raises HeadwaterError: where no server answers, where it refuses, and where the question is wrong.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8321",
        token: str | None = None,
        timeout: float = 60.0,
        *,
        patience: float = 300.0,
    ) -> None:
        """`token` is what the server was started with, None that of the environment variable HEADWATER_TOKEN.

        `timeout` is how many seconds a single request may stay unanswered; a long question is many of them.
        `patience` is how many seconds are spent in all on coming again where the server's queue is full.
        """
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise HeadwaterError(f"{url!r} is not the address of a server: write it as http://127.0.0.1:8321.")
        self.url = url.rstrip("/")
        self.timeout, self.patience = timeout, patience
        self._token = token or os.environ.get("HEADWATER_TOKEN") or None
        self._opener = _opener(urlsplit(url).hostname in LOCAL)

    def ask(
        self,
        prompt: str,
        completion: str | None = None,
        *,
        span: Span | None = None,
        contrast: str | None = None,
        options: AskOptions = AskOptions(),
        sampling: Sampling = Sampling(),
        on_progress: Report | None = None,
        **changes: object,
    ) -> Answer:
        """Which training examples made the model say `completion` after `prompt`? See Run.ask.

        `on_progress` is told how far it is; `changes` are fields of AskOptions: `client.ask(prompt, k=5)`.
        """
        options = replace(options, **changes)  # pyright: ignore[reportArgumentType]
        body = _question(prompt, completion, span, contrast=contrast, sampling=sampling) | asdict(options)
        return self._answer(body, on_progress)

    def verify(
        self,
        prompt: str,
        completion: str | None = None,
        *,
        span: Span | None = None,
        contrast: str | None = None,
        asked: AskOptions = AskOptions(),
        options: VerifyOptions = VerifyOptions(),
        sampling: Sampling = Sampling(),
        on_progress: Report | None = None,
        **changes: object,
    ) -> Verification:
        """Does the model do what the answer to this question, `asked` so, predicts of single examples? See Run.verify.

        `changes` are fields of VerifyOptions: `client.verify(prompt, completion, kind="pbrf", k=3)`.
        """
        options = replace(options, **changes)  # pyright: ignore[reportArgumentType]
        question = _question(prompt, completion, span, contrast=contrast, sampling=sampling) | asdict(asked)
        names = ("kind", "k", "random", "weight", "subset", "iterations", "seed")
        body = {"question": question} | {name: getattr(options, name) for name in names}
        return _parsed(Verification, self._found("/v1/verifications", body, on_progress))

    def ask_against(
        self,
        prompt: str,
        completion: str | None,
        texts: Sequence[str],
        *,
        span: Span | None = None,
        contrast: str | None = None,
        options: AskOptions = AskOptions(),
        sampling: Sampling = Sampling(),
        on_progress: Report | None = None,
        **changes: object,
    ) -> Answer:
        """What would `texts`, which are not in the corpus, do if they were added to it? See Run.ask_against."""
        options = replace(options, **changes)  # pyright: ignore[reportArgumentType]
        body = (
            _question(prompt, completion, span, contrast=contrast, sampling=sampling)
            | asdict(options)
            | {"texts": list(texts)}
        )
        return self._answer(body, on_progress)

    def generate(self, prompt: str, sampling: Sampling = Sampling()) -> Query:
        """What the model says after `prompt`, with the surprisal of every token."""
        body = {"prompt": prompt, "sampling": asdict(sampling)}
        return _parsed(Query, self._ask_for("POST", "/v1/generate", body))

    def describe(self, prompt: str, completion: str, *, span: Span | None = None, contrast: str | None = None) -> Query:
        """The tokens of a question: the surprisal of each, and which are explained."""
        body = {"prompt": prompt, "completion": completion, "span": span, "contrast": contrast}
        return _parsed(Query, self._ask_for("POST", "/v1/queries", body))

    def token_map(
        self,
        prompt: str,
        completion: str | None = None,
        *,
        example: str | None = None,
        text: str | None = None,
        span: Span | None = None,
        contrast: str | None = None,
        sampling: Sampling = Sampling(),
        damping: str | float | None = None,
        layers: tuple[str, ...] | None = None,
    ) -> TokenMapAnswer:
        """Token × token influence of the example of that id, or of a text. See Run.token_map."""
        body = _question(prompt, completion, span, contrast=contrast, sampling=sampling)
        body |= {"example": example, "text": text, "damping": damping, "layers": layers}
        return _parsed(TokenMapAnswer, self._ask_for("POST", "/v1/tokens", body))

    def example(self, id: str) -> ExampleText:
        """The training example of that id."""
        return _parsed(ExampleText, self._ask_for("GET", f"/v1/examples/{quote(id, safe='')}"))

    def info(self) -> dict[str, Any]:
        """What is being asked: the model, its corpus, the curvature, the index, the server's limits."""
        return json.loads(self._ask_for("GET", "/v1/run"))

    # -- jobs

    def _answer(self, body: dict[str, Any], on_progress: Report | None) -> Answer:
        return Answer.from_json(self._found("/v1/influences", body, on_progress))

    def _found(self, address: str, body: dict[str, Any], on_progress: Report | None) -> bytes:
        """What the job found that a POST to `address` begins, as JSON."""
        wait = LONG_WAIT if on_progress is None else SHORT_WAIT
        job = json.loads(self._ask_for("POST", address, body))
        path = f"/v1/jobs/{job['id']}"
        told: Step | None = None
        try:
            while job["state"] in ("queued", "running"):
                job = json.loads(self._ask_for("GET", f"{path}?wait={wait}"))
                step = Step(stage=job["stage"] or "", done=job["done"], total=job["total"], tokens=0, note=job["note"])
                if on_progress is not None and step.stage and step != told:
                    on_progress(step)
                    told = step
        except BaseException:  # interrupted, or on_progress raised: nobody waits for the answer any more
            self._cancel(path)
            raise
        if job["state"] == "done":
            return json.dumps(job["answer"]).encode()
        if job["state"] == "failed":
            raise HeadwaterError(_told(job["error"]))
        raise HeadwaterError(f"The question was cancelled. {job['note']}".rstrip())

    def _cancel(self, path: str) -> None:
        try:
            self._ask_for("DELETE", path)
        except HeadwaterError:
            return  # the error that led here says more

    # -- HTTP

    def _ask_for(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """What the server sends back. Comes again, as long as patience lasts, where its queue is full."""
        patience = self.patience
        while True:
            try:
                return self._once(method, path, body)
            except _Busy as busy:
                if busy.seconds > patience:
                    raise HeadwaterError(str(busy)) from None
                patience -= busy.seconds
                time.sleep(busy.seconds)

    def _once(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = _json(body)
        try:
            request = Request(self.url + path, data, headers, method=method)  # noqa: S310  # checked to be http
            with self._opener.open(request, timeout=self.timeout) as response:
                return response.read()
        except HTTPError as refusal:
            raise _refused(refusal, self.url) from None
        except TimeoutError as error:
            raise HeadwaterError(f"{self.url} did not answer within {self.timeout:g} seconds.") from error
        except (URLError, HTTPException, OSError) as error:
            if isinstance(error, URLError) and isinstance(error.reason, TimeoutError):
                raise HeadwaterError(f"{self.url} did not answer within {self.timeout:g} seconds.") from error
            reason = error.reason if isinstance(error, URLError) else error
            raise HeadwaterError(
                f"No server answers at {self.url} ({reason}). Start one: headwater serve RUN"
            ) from error


class _Busy(Exception):
    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would carry the token to wherever it leads; it is an error like others."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def _opener(local: bool) -> OpenerDirector:
    """What opens URLs; a proxy of the environment is not asked for a server on this machine."""
    return build_opener(_NoRedirects, *([ProxyHandler({})] if local else []))


def _question(
    prompt: str, completion: str | None, span: Span | None, *, contrast: str | None, sampling: Sampling
) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "completion": completion,
        "span": span,
        "contrast": contrast,
        "sampling": asdict(sampling),
    }


def _json(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise HeadwaterError(f"This question cannot be sent: {error}.") from error


def _refused(refusal: HTTPError, url: str) -> Exception:
    """What the problem document of a refusal says; a full queue may be asked again."""
    try:
        found: Any = json.loads(refusal.read())
        message = _told(found)
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        return HeadwaterError(f"{url} answered {refusal.code} {refusal.reason}: it is no server of Headwater.")
    if refusal.code == 429:
        return _Busy(message, _seconds(refusal.headers.get("Retry-After")))
    return HeadwaterError(message)


def _seconds(retry_after: str | None) -> float:
    try:
        seconds = float(retry_after or 1)
    except ValueError:
        return 1.0
    return max(1.0, seconds) if math.isfinite(seconds) else 1.0


def _told(problem: dict[str, Any]) -> str:
    """The detail of a problem document, or else its title."""
    return str(problem.get("detail") or problem["title"])


def _parsed(kind: type[Any], text: bytes) -> Any:
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        where = ".".join(map(str, mistake["loc"]))
        raise HeadwaterError(f"The server is of another version of Headwater: {where}: {mistake['msg']}.") from error
