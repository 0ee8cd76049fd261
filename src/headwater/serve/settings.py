"""How a server is set up: where it listens, how much it holds, who may ask."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from headwater.errors import HeadwaterError

TOKEN_VARIABLE = "HEADWATER_TOKEN"  # noqa: S105
LOOPBACK = ("localhost", "127.0.0.1", "::1")
DEFAULT_PORT = 8321


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Raises HeadwaterError for settings that cannot hold."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0 takes any that is free."""
    queue: int = 32
    """Jobs that may wait; further ones are told to come again."""
    kept: int = 128
    """Finished answers that are kept, the last ones asked for."""
    token: str | None = None
    """What callers of the API must bring; None lets everyone in."""
    allow_hosts: tuple[str, ...] = ()
    """Further names that the server goes by."""
    frame_ancestors: tuple[str, ...] = ("'self'",)
    """Who may show the page in a frame, as in a Content-Security-Policy."""
    open: bool = False
    """Whether to open the page in a browser, where there is a graphical session."""

    def __post_init__(self) -> None:
        if self.queue < 1 or self.kept < 1:
            raise HeadwaterError(f"A queue of {self.queue} jobs holds nothing. Give at least --queue 1.")
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
