"""Pictures of a run and of its answers.

Each picture has `figure()`, a matplotlib Figure; `save(path)`, which writes an SVG, PNG or PDF; and `meaning`, which
says what it shows. A notebook draws it. matplotlib comes with `pip install "headwater[plots]"`.
"""

from headwater.render.plots.by_layer import Layers, layers
from headwater.render.plots.by_rank import Tail, tail
from headwater.render.plots.by_token import Tokens, tokens
from headwater.render.plots.costs import Costs, cost, read_costs
from headwater.render.plots.predicted import Verified, verified
from headwater.render.plots.scores import exact_scores, scanned
from headwater.render.plots.sheet import Picture
from headwater.render.plots.widths import WIDTHS, Recall, own_questions, recall

__all__ = [
    "WIDTHS",
    "Costs",
    "Layers",
    "Picture",
    "Recall",
    "Tail",
    "Tokens",
    "Verified",
    "cost",
    "exact_scores",
    "layers",
    "own_questions",
    "read_costs",
    "recall",
    "scanned",
    "tail",
    "tokens",
    "verified",
]
