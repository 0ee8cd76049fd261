"""Names that have moved to the options of their packages."""

from headwater.attribution.options import Aggregate, AskOptions, RankBy
from headwater.corpus.options import LongTexts
from headwater.curvature.options import Fisher
from headwater.lm.options import DeviceMap, Dtype
from headwater.training.options import CheckpointMethod
from headwater.verify.options import CheckKind, VerifyOptions

__all__ = ["Aggregate", "CheckKind", "CheckpointMethod", "DeviceMap", "Dtype", "Fisher", "LongTexts", "RankBy"]
DEFAULT_CANDIDATES = AskOptions.candidates
DEFAULT_SUBSET = AskOptions.subset
REFERENCE_EXAMPLES = VerifyOptions.subset
RESPONSE_ITERATIONS = VerifyOptions.iterations
