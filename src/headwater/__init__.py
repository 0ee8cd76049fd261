"""Headwater: which training examples made this language model say that?"""

from headwater.answer import Answer
from headwater.errors import HeadwaterError
from headwater.run import CorpusOptions, FitOptions, Run
from headwater.version import __version__

__all__ = ["Answer", "CorpusOptions", "FitOptions", "HeadwaterError", "Run", "__version__"]
