"""Serving a run until someone stops it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from headwater.base import logs
from headwater.base.process import configure_process
from headwater.errors import HeadwaterError
from headwater.runs.manifest import read_manifest
from headwater.serve.app import create_app
from headwater.serve.service import Service
from headwater.serve.settings import TOKEN_VARIABLE, Settings

GRACE_SECONDS = 5
"""That open connections are waited for, once every job has ended."""


def serve(run: str | Path, settings: Settings = Settings(), say: Callable[[str], None] = logs.tell) -> None:
    """Serve the run in the directory `run` until Ctrl-C or SIGTERM; `say` is told where.

    Raises HeadwaterError where `run` is no run or cannot be loaded, or the port cannot be had.
    """
    configure_process()
    logs.set_up_by_default()
    read_manifest(Path(run))
    listener = listen(settings.host, settings.port)
    app = create_app(run, settings)
    address = address_of(settings.host, listener)
    for line in _announcement(settings, address):
        say(line)
    service: Service = app.state.service
    server = Server(app, service, lambda: _open(address) if settings.open else None)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
    if service.worker.failure is not None:
        raise HeadwaterError(service.worker.failure.detail)
    say("Stopped.")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises HeadwaterError where it cannot be had."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise HeadwaterError(f"There is no address {host} to listen at ({error}). Give another --host.") from error
    listener = socket.socket(family, kind)
    try:
        if sys.platform != "win32":  # there, it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise HeadwaterError(
            f"Port {port} of {host} cannot be had ({error}). Give another --port; 0 takes any that is free."
        ) from error
    return listener


def address_of(host: str, listener: socket.socket) -> str:
    """Where a browser of this machine finds the page."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{listener.getsockname()[1]}/"


class Server(uvicorn.Server):
    """One that ends all jobs before it waits for its connections, which may well be waiting for a job."""

    def __init__(self, app: Callable[..., object], service: Service, started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._service, self._on_started = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def on_tick(self, counter: int) -> bool:
        failed = self._service.worker.failure is not None
        return failed or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.to_thread(self._service.worker.close)
        await super().shutdown(sockets)


def _announcement(settings: Settings, address: str) -> list[str]:
    lines = [f"Headwater is at {address} (stop it with Ctrl-C)"]
    if settings.token is not None:
        lines.append(f"Callers need the token of {TOKEN_VARIABLE}.")
    elif not settings.on_loopback:
        lines.append(
            f"Warning: everyone who reaches {settings.host} can ask, and read the corpus. Set {TOKEN_VARIABLE} to a "
            "secret, or serve on 127.0.0.1."
        )
    return lines


def _open(address: str) -> None:
    """Open the page, where there is a screen to open it on."""
    here = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if here and not os.environ.get("SSH_CONNECTION"):
        webbrowser.open(address)
