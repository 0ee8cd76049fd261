"""The page and its files, which lie in `web`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "web"
# Written down here because a machine's own table may call a script text/plain, which browsers then refuse to run.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}


def page_routes() -> list[Route]:
    """One route for every file there is, so that no address can lead anywhere else; index.html is also at /."""
    files = sorted(file for file in FOLDER.rglob("*") if file.is_file() and file.suffix in TYPES)
    return [Route("/", _serve(FOLDER / "index.html")), *(Route(_address(file), _serve(file)) for file in files)]


def _address(file: Path) -> str:
    return f"/{file.relative_to(FOLDER).as_posix()}"


def _serve(file: Path) -> Callable[[Request], Awaitable[Response]]:
    async def send(_: Request) -> Response:
        return FileResponse(file, media_type=TYPES[file.suffix], headers={"Cache-Control": "no-cache"})

    return send
