"""Who may ask, for what, and what browsers are told: the outermost layer of the server."""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headwater.serve.limits import LIMITS
from headwater.serve.problems import ProblemError, path_of, problem, problem_response
from headwater.serve.settings import Settings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware. Checks the Host, where a request comes from, the token and the body's length, in this order."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._names = settings.host_names
        self._token = None if settings.token is None else f"Bearer {settings.token}".encode()
        self._headers = {
            "Content-Security-Policy": _policy(settings.frame_ancestors),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope, Headers(scope=scope))
            receive = await _short_enough(scope, receive)
        except ProblemError as refusal:
            response = problem_response(problem(refusal.status, refusal.detail, path_of(scope)), refusal.headers)
            await response(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._names is not None and _name(host) not in self._names:
            raise ProblemError(403, f"This server does not go by the name {host!a}. Start it with --allow-host NAME.")
        if scope["method"] not in SAFE_METHODS and self._foreign(headers, host):
            raise ProblemError(403, "A page of another site may not ask this of the server.")
        if self._token is not None and _needs_token(scope["path"]):
            given = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._token):
                raise ProblemError(
                    401, "Bring the server's token: Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"}
                )

    def _foreign(self, headers: Headers, host: str) -> bool:
        """Whether a browser says that a page of somewhere else asks."""
        if headers.get("sec-fetch-site") == "cross-site":
            return True
        origin = headers.get("origin")
        return origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower())


def _name(host: str) -> str | None:
    """What a Host header calls the server, without the port; None where it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _needs_token(path: str) -> bool:
    return path.startswith("/v1/") or path == "/metrics"


def _policy(frame_ancestors: tuple[str, ...]) -> str:
    own = ("script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'", "font-src 'self'")
    none = ("base-uri 'none'", "form-action 'none'")
    return "; ".join(("default-src 'none'", *own, *none, f"frame-ancestors {' '.join(frame_ancestors)}"))


async def _short_enough(scope: Scope, receive: Receive) -> Receive:
    """Read the body, to hand it on in one piece. Raises ProblemError as soon as it is too long."""
    headers = Headers(scope=scope)
    if "content-length" not in headers and "transfer-encoding" not in headers:
        return receive
    too_long = ProblemError(413, f"A request may have at most {LIMITS.body_bytes:,} bytes.")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > LIMITS.body_bytes:
        raise too_long
    read, body = receive, bytearray()
    while True:
        message = await read()
        if message["type"] != "http.request":
            return _again(message, read)
        body += message.get("body", b"")
        if len(body) > LIMITS.body_bytes:
            raise too_long
        if not message.get("more_body", False):
            return _again({"type": "http.request", "body": bytes(body), "more_body": False}, read)


def _again(first: Message, read: Receive) -> Receive:
    """A receive that gives `first`, then what `read` does."""
    pending = [first]

    async def receive() -> Message:
        return pending.pop() if pending else await read()

    return receive
