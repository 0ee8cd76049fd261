"""Headwater: which training examples made this language model say that?"""

import os

# Waiting threads that spin make every small operation crawl as soon as another program wants the same cores. Measured
# on two cores against GNU OpenMP's own default, training the demo's model: as fast alone, 25 times faster beside a
# second such program. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from headwater.answer import Answer
from headwater.ask import AskOptions
from headwater.client import Client
from headwater.errors import HeadwaterError
from headwater.index.settings import IndexOptions
from headwater.memory import keep_freed_memory
from headwater.run import CorpusOptions, FitOptions, Run
from headwater.version import __version__

keep_freed_memory()

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
