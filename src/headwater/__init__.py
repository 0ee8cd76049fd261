"""Headwater: which training examples made this language model say that?"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from headwater.base.process import configure_process
from headwater.base.version import __version__
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.attribution.answer import Answer
    from headwater.attribution.index.options import IndexOptions
    from headwater.attribution.options import AskOptions
    from headwater.corpus.options import CorpusOptions
    from headwater.curvature.options import FitOptions
    from headwater.runs.run import Run
    from headwater.serve.client import Client

logging.getLogger("headwater").addHandler(logging.NullHandler())

_MODULES = {
    "Answer": "headwater.attribution.answer",
    "AskOptions": "headwater.attribution.options",
    "Client": "headwater.serve.client",
    "CorpusOptions": "headwater.corpus.options",
    "FitOptions": "headwater.curvature.options",
    "IndexOptions": "headwater.attribution.index.options",
    "Run": "headwater.runs.run",
}
"""Public name -> its module, imported at the first use of the name: torch and transformers take seconds to import."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'headwater' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


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
    "configure_process",
]
