"""Headwater: which training examples made this language model say that?"""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Waiting threads that spin make every small operation crawl as soon as another program wants the same cores. Measured
# on two cores against GNU OpenMP's own default, training the demo's model: as fast alone, 25 times faster beside a
# second such program. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from headwater.base.process import keep_freed_memory
from headwater.base.version import __version__
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.attribution.answer import Answer
    from headwater.attribution.ask import AskOptions
    from headwater.attribution.index.settings import IndexOptions
    from headwater.runs.run import CorpusOptions, FitOptions, Run
    from headwater.serve.client import Client

keep_freed_memory()
logging.getLogger("headwater").addHandler(logging.NullHandler())

_HOMES = {
    "Answer": "headwater.attribution.answer",
    "AskOptions": "headwater.attribution.ask",
    "Client": "headwater.serve.client",
    "CorpusOptions": "headwater.runs.run",
    "FitOptions": "headwater.runs.run",
    "IndexOptions": "headwater.attribution.index.settings",
    "Run": "headwater.runs.run",
}
"""Where the public names are, which are loaded when they are first used: torch and transformers take seconds."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Answer",
    "AskOptions",
    "Client",
    "CorpusOptions",
    "FitOptions",
    "HeadwaterError",
    "IndexOptions",
    "Run",
    "__version__",
]
