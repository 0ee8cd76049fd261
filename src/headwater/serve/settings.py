"""Settings of a server: where it listens, how much it holds, who may ask. Loads neither FastAPI nor torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Annotated

from headwater.base.options import Option
from headwater.errors import HeadwaterError

TOKEN_VARIABLE = "HEADWATER_TOKEN"  # noqa: S105
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DEFAULT_PORT = 8321


Port = Annotated[int, Option(help="Port to listen on; 0 takes any free port.", minimum=0, maximum=65535)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server. Raises HeadwaterError for values that cannot be used."""

    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 is every address of this machine.")] = "127.0.0.1"
    port: Port = DEFAULT_PORT
    queue: Annotated[
        int, Option(help="Maximum number of waiting questions; further ones are refused for the moment.", minimum=1)
    ] = 32
    kept: Annotated[
        int, Option(help="Finished answers that are kept, the most recently used ones.", minimum=1, cli=False)
    ] = 128
    token: Annotated[
        str | None, Option(help="Token that callers of the API must send.", none="no token", cli=False)
    ] = None
    allow_hosts: Annotated[
        tuple[str, ...],
        Option(help="Another host name of the server; repeatable.", flags=("--allow-host",), metavar="NAME"),
    ] = ()
    frame_ancestors: Annotated[
        tuple[str, ...],
        Option(
            help="Who may show the page in a frame, as in a Content-Security-Policy, such as https://example.org; "
            "repeatable. Default: 'self'.",
            metavar="SOURCE",
        ),
    ] = ("'self'",)
    open: Annotated[
        bool, Option(help="Open the page in a browser, if there is a graphical session.", cli_default=True)
    ] = False

    def __post_init__(self) -> None:
        if self.queue < 1 or self.kept < 1:
            raise HeadwaterError(f"A queue of {self.queue} jobs cannot hold a question. Give --queue 1 or more.")
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise HeadwaterError(f"{TOKEN_VARIABLE} may hold letters, digits and signs of ASCII only, without spaces.")
        for name in self.frame_ancestors:
            if not re.fullmatch(r"[!-+\--:<-~]+", name):
                raise HeadwaterError(f"--frame-ancestors {name!r} is no source such as https://example.org or 'none'.")

    @property
    def on_loopback(self) -> bool:
        """Whether only programs of this machine can reach it."""
        return self.host in LOOPBACK or self.host.startswith("127.")

    @property
    def host_names(self) -> frozenset[str] | None:
        """Names that a request may call the server by; None is any.

        A page of another site can point its own name at 127.0.0.1 and then read what the server says (DNS rebinding).
        """
        if not self.on_loopback and not self.allow_hosts:
            return None
        return frozenset(name.lower().strip("[]") for name in (*LOOPBACK, self.host, *self.allow_hosts))


def token_from_environment() -> str | None:
    """The token callers must bring, from the environment; None where there is none."""
    return os.environ.get(TOKEN_VARIABLE) or None
