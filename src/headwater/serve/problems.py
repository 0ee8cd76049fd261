"""What goes wrong, told as RFC 9457 says: one JSON document of the type application/problem+json."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwater.errors import HeadwaterError

MEDIA_TYPE = "application/problem+json"
LOG = logging.getLogger("headwater.serve")


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a request."""

    where: str
    """Its place in the body, path or query, such as `body.sampling.seed`."""
    message: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a request, or a job, came to nothing (RFC 9457)."""

    title: str
    status: int
    detail: str
    instance: str = ""
    """The path that was asked for."""
    type: str = "about:blank"
    errors: list[Mistake] | None = None
    """What is wrong in the request, place by place."""

    def at(self, instance: str) -> Problem:
        """The same, for the path that was asked for."""
        return replace(self, instance=instance)

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class ProblemError(Exception):
    """A request comes to nothing."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def problem(status: int, detail: str, instance: str = "", *, errors: list[Mistake] | None = None) -> Problem:
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, instance=instance, errors=errors)


def unexpected(error: BaseException, during: str, instance: str = "") -> Problem:
    """The problem of a fault of our own: a reference for the caller, the traceback for the server's log."""
    reference = secrets.token_hex(4)
    LOG.error("%s: error %s", during, reference, exc_info=error)
    return problem(500, f"Something went wrong in the server; its log says what, under {reference}.", instance)


def problem_response(what: Problem, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(what.to_dict()), what.status, dict(headers or {}), MEDIA_TYPE)


def path_of(scope: Scope) -> str:
    """The path of a request, as a URL spells it."""
    return quote(scope.get("path", ""), safe="/:@!$&'()*+,;=~", errors="replace")


def handle_problems(app: FastAPI) -> None:
    """Make every refusal of `app` a problem document."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return problem_response(problem(error.status, error.detail, path_of(request.scope)), error.headers)

    async def mistaken(request: Request, error: Exception) -> Response:
        return problem_response(problem(422, str(error), path_of(request.scope)))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        mistakes = [Mistake(".".join(map(str, each["loc"])), _plain(each["msg"])) for each in error.errors()]
        detail = "; ".join(f"{mistake.where}: {mistake.message}" for mistake in mistakes[:3])
        return problem_response(problem(422, detail, path_of(request.scope), errors=mistakes))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = DETAILS.get(error.status_code, error.detail)
        headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
        return problem_response(problem(error.status_code, detail, path_of(request.scope)), headers)

    app.add_exception_handler(ProblemError, refused)
    app.add_exception_handler(HeadwaterError, mistaken)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


DETAILS = {
    400: "The body cannot be read: it is not JSON in UTF-8.",
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
}


def _allowed(request: Request) -> str:
    """The methods that the address takes. Of several routes to one address, each would name only its own."""
    routes = request.app.router.routes
    there = [
        method
        for method in ("GET", "HEAD", "POST", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] == Match.FULL for route in routes)
    ]
    return ", ".join(there)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


class Failsafe:
    """ASGI middleware: what nobody caught becomes a problem document, or ends the response where one had begun."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http":
                raise
            what = unexpected(error, f"{scope['method']} {path_of(scope)}", path_of(scope))
            if begun:
                raise ConnectionAbortedError("the answer broke off") from None
            await problem_response(what)(scope, receive, send)
