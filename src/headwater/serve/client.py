"""Client of `headwater serve`: the questions of a Run, sent over HTTP to a server on this machine or another."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2 as httpx
from pydantic import TypeAdapter, ValidationError

from headwater.attribution.answer import Answer, Query, TokenMap
from headwater.attribution.options import AskOptions, Sampling
from headwater.attribution.question import Span
from headwater.base.options import changed
from headwater.base.progress import Report, Step
from headwater.base.version import __version__
from headwater.corpus.chat_formats import Messages
from headwater.corpus.metadata import Scalar
from headwater.errors import HeadwaterError
from headwater.verify.options import VerifyOptions
from headwater.verify.verification import Verification

Prompt = str | Messages
"""A text, or a conversation [{"role", "content"}, …], to which the server applies the chat template."""
LOCAL = ("localhost", "127.0.0.1", "::1")
LONG_WAIT, SHORT_WAIT = 20.0, 0.25
"""Seconds that the server may hold a request for the state of a job: without a progress callback, and with one."""


@dataclass(frozen=True, kw_only=True)
class ExampleText:
    """A training example, up to where the model stopped reading."""

    id: str
    text: str
    tokens: list[str]
    """The text of each token. Joined, they are `text`."""
    source: str
    """File and line that the example was read from."""
    metadata: dict[str, Scalar]


class Client:
    """A client of one server.

    Every method raises HeadwaterError if no server answers, if the server refuses, or if the question is wrong.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8321",
        token: str | None = None,
        timeout: float = 60.0,
        *,
        patience: float = 300.0,
    ) -> None:
        """Check the address of the server. Nothing is sent yet.

        `token` is the token that the server was started with. Default: the environment variable HEADWATER_TOKEN.
        `timeout` is the number of seconds that one request may stay unanswered. A long question sends many requests.
        `patience` is the total number of seconds to wait between retries while the server's queue is full.
        """
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise HeadwaterError(f"{url!r} is not the address of a server: write it as http://127.0.0.1:8321.")
        self.url = url.rstrip("/")
        self.timeout, self.patience = timeout, patience
        self._token = token or os.environ.get("HEADWATER_TOKEN") or None
        self._http = _http_client(timeout, local=urlsplit(url).hostname in LOCAL)

    def ask(
        self,
        prompt: Prompt,
        completion: str | None = None,
        *,
        span: Span | None = None,
        contrast: str | None = None,
        raw: bool = False,
        options: AskOptions = AskOptions(),
        sampling: Sampling = Sampling(),
        on_progress: Report | None = None,
        **changes: object,
    ) -> Answer:
        """Which training examples made the model say `completion` after `prompt`? See Run.ask.

        `on_progress` is called with every step of the work. `changes` are fields of AskOptions:
        `client.ask(prompt, k=5)`.
        """
        options = changed(options, changes)
        body = _question(prompt, completion, span, contrast=contrast, sampling=sampling, raw=raw) | asdict(options)
        return self._answer(body, on_progress)

    def verify(
        self,
        prompt: Prompt,
        completion: str | None = None,
        *,
        span: Span | None = None,
        contrast: str | None = None,
        raw: bool = False,
        asked: AskOptions = AskOptions(),
        options: VerifyOptions = VerifyOptions(),
        sampling: Sampling = Sampling(),
        on_progress: Report | None = None,
        **changes: object,
    ) -> Verification:
        """Does the model do what the answer predicts for single examples? See Run.verify.

        `asked` are the options of the question. `changes` are fields of VerifyOptions:
        `client.verify(prompt, completion, kind="pbrf", k=3)`.
        """
        options = changed(options, changes)
        question = _question(prompt, completion, span, contrast=contrast, sampling=sampling, raw=raw) | asdict(asked)
        names = ("kind", "k", "random", "weight", "subset", "iterations", "seed")
        body = {"question": question} | {name: getattr(options, name) for name in names}
        return _parsed(Verification, self._result("/v1/verifications", body, on_progress))

    def ask_against(
        self,
        prompt: Prompt,
        completion: str | None,
        texts: Sequence[str],
        *,
        span: Span | None = None,
        contrast: str | None = None,
        raw: bool = False,
        options: AskOptions = AskOptions(),
        sampling: Sampling = Sampling(),
        on_progress: Report | None = None,
        **changes: object,
    ) -> Answer:
        """What would `texts`, which are not in the corpus, change if they were added to it? See Run.ask_against."""
        options = changed(options, changes)
        body = (
            _question(prompt, completion, span, contrast=contrast, sampling=sampling, raw=raw)
            | asdict(options)
            | {"texts": list(texts)}
        )
        return self._answer(body, on_progress)

    def generate(self, prompt: Prompt, sampling: Sampling = Sampling(), *, raw: bool = False) -> Query:
        """The model's continuation of `prompt`, with the surprisal of every token."""
        body = {**_given(prompt, raw), "sampling": asdict(sampling)}
        return _parsed(Query, self._ask_for("POST", "/v1/generate", body))

    def describe(
        self,
        prompt: Prompt,
        completion: str,
        *,
        span: Span | None = None,
        contrast: str | None = None,
        raw: bool = False,
    ) -> Query:
        """The tokens of a question, the surprisal of each, and which of them are explained."""
        body = {**_given(prompt, raw), "completion": completion, "span": span, "contrast": contrast}
        return _parsed(Query, self._ask_for("POST", "/v1/queries", body))

    def token_map(
        self,
        prompt: Prompt,
        completion: str | None = None,
        *,
        example: str | None = None,
        text: str | None = None,
        span: Span | None = None,
        contrast: str | None = None,
        raw: bool = False,
        sampling: Sampling = Sampling(),
        damping: str | float | None = None,
        layers: tuple[str, ...] | None = None,
    ) -> TokenMap:
        """Token × token influence of the example with that id, or of a text. See Run.token_map."""
        body = _question(prompt, completion, span, contrast=contrast, sampling=sampling, raw=raw)
        body |= {"example": example, "text": text, "damping": damping, "layers": layers}
        return _parsed(TokenMap, self._ask_for("POST", "/v1/tokens", body))

    def example(self, id: str) -> ExampleText:
        """The training example with that id."""
        name = quote(id, safe="").replace(".", "%2E")  # httpx would resolve an id of dots as a step in the path
        return _parsed(ExampleText, self._ask_for("GET", f"/v1/examples/{name}"))

    def info(self) -> dict[str, Any]:
        """Description of the run: the model, its corpus, the curvature, the index, the server's limits."""
        return json.loads(self._ask_for("GET", "/v1/run"))

    # -- jobs

    def _answer(self, body: dict[str, Any], on_progress: Report | None) -> Answer:
        return Answer.from_json(self._result("/v1/influences", body, on_progress))

    def _result(self, address: str, body: dict[str, Any], on_progress: Report | None) -> bytes:
        """Start a job with a POST to `address`, wait until it ends, and return its result as JSON."""
        wait = LONG_WAIT if on_progress is None else SHORT_WAIT
        job = json.loads(self._ask_for("POST", address, body))
        path = f"/v1/jobs/{job['id']}"
        last: Step | None = None
        try:
            while job["state"] in ("queued", "running"):
                job = json.loads(self._ask_for("GET", f"{path}?wait={wait}"))
                step = Step(stage=job["stage"] or "", done=job["done"], total=job["total"], tokens=0, note=job["note"])
                if on_progress is not None and step.stage and step != last:
                    on_progress(step)
                    last = step
        except BaseException:  # interrupted, or on_progress raised: nobody needs the answer any more
            self._cancel(path)
            raise
        if job["state"] == "done":
            return json.dumps(job["answer"]).encode()
        if job["state"] == "failed":
            raise HeadwaterError(_detail(job["error"]))
        raise HeadwaterError(f"The question was cancelled. {job['note']}".rstrip())

    def _cancel(self, path: str) -> None:
        try:
            self._ask_for("DELETE", path)
        except HeadwaterError:
            return  # the error that led here is the one to show

    # -- HTTP

    def _ask_for(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """The body of the server's response. Retries while the server's queue is full and patience lasts."""
        patience = self.patience
        while True:
            try:
                return self._send(method, path, body)
            except _BusyError as busy:
                if busy.seconds > patience:
                    raise HeadwaterError(str(busy)) from None
                patience -= busy.seconds
                time.sleep(busy.seconds)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        headers: dict[str, str] = {}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = _json(body)
        try:
            response = self._http.request(method, self.url + path, content=content, headers=headers)
        except httpx.TimeoutException as error:
            raise HeadwaterError(f"{self.url} did not answer within {self.timeout:g} seconds.") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise HeadwaterError(
                f"No server answers at {self.url} ({error}). Start one: headwater serve RUN"
            ) from error
        if not response.is_success:
            raise _refusal(response, self.url)
        return response.content


class _BusyError(Exception):
    """The server's queue is full. It asks to wait for `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def _http_client(timeout: float, *, local: bool) -> httpx.Client:
    """An HTTP client that follows no redirect, because a redirect would carry the token to another address.

    It closes every connection after one response, so it never sends a question into a connection that the server has
    just closed. For a server on this machine it ignores the proxies in the environment.
    """
    try:
        return httpx.Client(
            timeout=timeout,
            follow_redirects=False,
            trust_env=not local,
            limits=httpx.Limits(max_keepalive_connections=0),
            headers={"Accept": "application/json", "User-Agent": f"headwater/{__version__}"},
        )
    except (ImportError, ValueError) as error:
        raise HeadwaterError(f"The proxy that the environment names cannot be used: {error}") from error


def _question(
    prompt: Prompt,
    completion: str | None,
    span: Span | None,
    *,
    contrast: str | None,
    sampling: Sampling,
    raw: bool,
) -> dict[str, Any]:
    return {
        **_given(prompt, raw),
        "completion": completion,
        "span": span,
        "contrast": contrast,
        "sampling": asdict(sampling),
    }


def _given(prompt: Prompt, raw: bool) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"prompt": prompt, "raw": raw}
    return {"messages": [dict(message) for message in prompt], "raw": raw}


def _json(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise HeadwaterError(f"This question cannot be sent: {error}.") from error


def _refusal(response: httpx.Response, url: str) -> Exception:
    """The error for a response that is not a success, in the words of its problem document (RFC 9457)."""
    try:
        problem: Any = response.json()
        message = _detail(problem)
    except (ValueError, TypeError, KeyError, AttributeError):
        code = f"{response.status_code} {response.reason_phrase}".rstrip()
        return HeadwaterError(f"{url} answered {code}: it is no server of Headwater.")
    if response.status_code == 429:
        return _BusyError(message, _seconds(response.headers.get("Retry-After")))
    return HeadwaterError(message)


def _seconds(retry_after: str | None) -> float:
    try:
        seconds = float(retry_after or 1)
    except ValueError:
        return 1.0
    return max(1.0, seconds) if math.isfinite(seconds) else 1.0


def _detail(problem: dict[str, Any]) -> str:
    """The detail of a problem document, or its title if it has no detail."""
    return str(problem.get("detail") or problem["title"])


def _parsed(kind: type[Any], text: bytes) -> Any:
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        where = ".".join(map(str, mistake["loc"]))
        raise HeadwaterError(f"The server runs another version of Headwater: {where}: {mistake['msg']}.") from error
