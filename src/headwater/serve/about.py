"""What a server says of its run."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from headwater.attribution.options import AskOptions, Sampling
from headwater.base.files import read_metadata
from headwater.base.version import __version__
from headwater.corpus.chat import last_question
from headwater.lm.coverage import coverage_in
from headwater.runs.run import Run
from headwater.serve.limits import LIMITS
from headwater.serve.option_fields import default_of, http_options, limits_of
from headwater.serve.schemas import (
    CoverageBody,
    Fingerprints,
    IndexBody,
    LimitsBody,
    OptionBody,
    OptionsBody,
    PromptBody,
    RunBody,
)
from headwater.verify.options import VerifyOptions

PROMPTS = 4
OPENING_WORDS = 8


def about(run: Run, queue: int) -> RunBody:
    """The run, as GET /v1/run tells it. Raises HeadwaterError where it has no curvature."""
    curvature = run.curvature()
    table, settings = run.index.table, run.index.settings
    index = None
    if table is not None and settings is not None:
        index = IndexBody(bytes=settings.sketch.bytes, columns=table.columns)
    return RunBody(
        version=__version__,
        model=run.lm.name,
        fingerprints=Fingerprints(
            model=run.lm.fingerprint, tokenizer=run.lm.tokenizer_fingerprint, corpus=run.corpus.fingerprint
        ),
        examples=len(run.corpus),
        tokens=sum(segment.counts.tokens for segment in run.corpus.segments),
        curvature=curvature.kind,
        damping=curvature.damping.describe(),
        layers=[layer.name for layer in curvature.layers],
        coverage=_coverage(run),
        index=index,
        prompts=_written(run.path / "examples.jsonl") or _openings(run),
        limits=LimitsBody(
            prompt_tokens=run.lm.max_positions,
            k=LIMITS.k,
            texts=LIMITS.texts,
            body_bytes=LIMITS.body_bytes,
            queue=queue,
        ),
        options=OptionsBody(
            influences=_described(AskOptions),
            sampling=_described(Sampling),
            verifications=_described(VerifyOptions),
        ),
        corpus_source=run.manifest.corpus.source,
        conversations=run.holds_conversations,
    )


def _coverage(run: Run) -> CoverageBody | None:
    found = coverage_in(read_metadata(run.paths.curvature))
    return None if found is None else CoverageBody(**asdict(found), text=found.describe())


def _described(options: type) -> dict[str, OptionBody]:
    """The options of a dataclass that requests have, with this server's limits."""
    described: dict[str, OptionBody] = {}
    for name, each in http_options(options).items():
        minimum, maximum = limits_of(options, each)
        described[name] = OptionBody(
            default=default_of(options, each), minimum=minimum, maximum=maximum, help=each.help("null")
        )
    return described


def _written(path: Path) -> list[PromptBody]:
    """The questions that a file lists; those that cannot be read are passed over."""
    if not path.exists():
        return []
    prompts: list[PromptBody] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found: Any = json.loads(line)
            prompts.append(PromptBody(prompt=found["prompt"], completion=found.get("completion")))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return prompts


def _openings(run: Run) -> list[PromptBody]:
    """The first words of examples spread evenly over the corpus."""
    count = min(PROMPTS, len(run.corpus))
    places = np.linspace(0, len(run.corpus), count, endpoint=False, dtype=int)
    if run.holds_conversations:
        return _user_messages(run, places.tolist())
    texts = [example.text for example in run.corpus.read(places.tolist())]
    openings = [re.match(rf"\s*(?:\S+\s+){{0,{OPENING_WORDS - 1}}}\S+", text) for text in texts]
    return [PromptBody(prompt=opening[0].strip(), completion=None) for opening in openings if opening]


def _user_messages(run: Run, places: list[int]) -> list[PromptBody]:
    """What a user says first in some of the conversations."""
    prompts: list[PromptBody] = []
    for example in run.corpus.read(places):
        targets = example.targets or []
        first = example.tokenized.ends[targets.index(True) - 1] if True in targets[1:] else 0
        asked = last_question(run.lm.tokenizer, example.text[:first])
        if asked:
            prompts.append(PromptBody(prompt=asked, completion=None))
    return prompts
