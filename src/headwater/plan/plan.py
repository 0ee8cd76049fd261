"""Estimates memory, disk and time of a fit, index, scan and question from a short probe."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headwater.attribution.index.options import DEFAULT_BYTES
from headwater.attribution.index.sketch import Sketch, sketch_of_width
from headwater.base.byte_sizes import size_of
from headwater.base.progress import Report, Step, silent
from headwater.corpus.options import CorpusOptions
from headwater.curvature.fit import settings_of
from headwater.curvature.truncated import truncate
from headwater.errors import HeadwaterError
from headwater.lm.coverage import coverage_of
from headwater.lm.load import load_model
from headwater.lm.options import Loading
from headwater.plan.estimates import Plan, Probes, StagePlan, estimate, sketches_held
from headwater.plan.fitting import probe_fit
from headwater.plan.miniature import make_miniature
from headwater.plan.options import PlanOptions
from headwater.plan.serving import probe_index, probe_question, probe_scan
from headwater.plan.subject import Subject, subject_of_corpus, subject_of_run
from headwater.runs.run import Run


def plan_run(path: str | Path, options: PlanOptions = PlanOptions(), report: Report = silent) -> Plan:
    """Plan the stages of a run, from a probe in a temporary folder. The run is not changed.

    Raises HeadwaterError if `path` is not a run, or if layers, bytes or examples are invalid.
    """
    report(Step(stage="opening", done=0, total=1, tokens=0))
    run = Run.open(path)
    settings = run.index.settings
    subject = subject_of_run(run, str(path), options.fit)
    if options.directions is None and settings is not None:
        options = replace(options, directions=settings.directions)
    sketch = _sketch(subject, options)
    if settings is not None and options.bytes is None and settings.sketch.dimensions == sketch.dimensions:
        sketch = settings.sketch
    report(Step(stage="opening", done=1, total=1, tokens=0))
    done = {"fit"} if run.paths.curvature.exists() else set[str]()
    done |= {"index"} if settings is not None and len(run.index.table or ()) == len(run.corpus) else set()
    with TemporaryDirectory(prefix="headwater-plan-") as folder:
        plan = _plan(subject, Path(folder), sketch, options=options, report=report)
    stages = tuple(replace(stage, done=stage.name in done) for stage in plan.stages)
    command = f"headwater fit {path}" if "fit" not in done else f"headwater index {path}"
    if done == {"fit", "index"}:
        command = f'headwater ask {path} "Once upon a time"'
    corpus = StagePlan(name="corpus", seconds=0.0, memory=0, disk=size_of(run.path / "corpus"), done=True)
    return replace(plan, stages=(corpus, *stages), next_command=command)


def plan_corpus(
    model: str,
    corpus: str | Path,
    reading: CorpusOptions = CorpusOptions(),
    *,
    options: PlanOptions = PlanOptions(),
    report: Report = silent,
    loading: Loading = Loading(),
) -> Plan:
    """Plan the stages for a model and a corpus without a run. Nothing stays on disk.

    All records are read. If there are more than 2,000, only a sample is tokenised. Raises ModelError, CorpusError, or
    HeadwaterError if layers, bytes or examples are invalid.
    """
    report(Step(stage="opening", done=0, total=1, tokens=0))
    lm = load_model(model, loading)
    report(Step(stage="opening", done=1, total=1, tokens=0))
    with TemporaryDirectory(prefix="headwater-plan-") as folder:
        subject = subject_of_corpus(lm, corpus, reading, fit=options.fit, folder=Path(folder) / "run", report=report)
        plan = _plan(subject, Path(folder), _sketch(subject, options), options=options, report=report)
    assert subject.reading is not None
    read = subject.reading
    first = StagePlan(name="corpus", seconds=read.seconds, memory=read.memory, disk=read.disk, working=read.disk)
    return replace(
        plan,
        stages=(first, *plan.stages),
        next_command=_fit_command(model, corpus, (loading, reading.read, reading, options.fit)),
    )


def _fit_command(model: str, corpus: str | Path, options: Sequence[Any]) -> str:
    """The command that makes the run, with the options that differ from their defaults."""
    words = ["--model", model, "--corpus", str(corpus)]
    for one in options:
        for field in fields(one):
            value = getattr(one, field.name)
            if value != field.default and not is_dataclass(value):
                words += _flag("long" if field.name == "long_texts" else field.name, value)
    return "headwater fit RUN " + shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return [flag]
    return [word for one in (value if isinstance(value, tuple) else [value]) for word in (flag, str(one))]


def _sketch(subject: Subject, options: PlanOptions) -> Sketch:
    most = options.directions or 1 << 62
    dimensions = sum(min(layer.inputs, most) * min(layer.outputs, most) for layer in subject.layers)
    return sketch_of_width(dimensions, options.bytes or DEFAULT_BYTES)


def _plan(subject: Subject, folder: Path, sketch: Sketch, *, options: PlanOptions, report: Report) -> Plan:
    if options.queries < 1:
        raise HeadwaterError(f"--queries {options.queries}: a scan needs at least one query.")
    start = time.perf_counter()
    probed = _probe(subject, folder / "probe", sketch, options=options, report=report)
    reading = subject.reading
    return Plan(
        model=subject.lm.name,
        curvature=subject.fit.curvature,
        layers=len(subject.layers),
        parameters=sum(layer.parameters for layer in subject.layers),
        examples=subject.examples,
        tokens=subject.tokens,
        fit_examples=subject.fitted_on,
        sketch_bytes=sketch.bytes,
        queries=options.queries,
        stages=estimate(subject, probed, sketch),
        whole_sketches=sketches_held(subject.examples, sketch) == subject.examples * sketch.bytes,
        probe_tokens=int(probed.mini.layout.lengths.sum()),
        probe_seconds=time.perf_counter() - start,
        records=reading.records if reading else None,
        sampled_records=reading.sampled if reading else None,
        next_command="",
        parts=probed.fit.parts,
    )


def _probe(subject: Subject, folder: Path, sketch: Sketch, *, options: PlanOptions, report: Report) -> Probes:
    stages = ("choosing batches", "probing fit", "probing scan", "probing index", "probing ask")

    def begin(k: int) -> None:
        if k:
            report(Step(stage=stages[k - 1], done=1, total=1, tokens=0))
        if k < len(stages):
            report(Step(stage=stages[k], done=0, total=1, tokens=0))

    begin(0)
    mini = make_miniature(subject, folder)
    begin(1)
    fit = probe_fit(mini, _binding(subject))
    begin(2)
    scan = probe_scan(mini, fit.curvature, options.queries)  # before the index, whose libraries stay in memory
    begin(3)
    index = probe_index(mini, truncate(fit.curvature, options.directions or 0), sketch)
    begin(4)
    served = probe_question(mini, fit.curvature, sketch, directions=options.directions or 0)
    begin(5)
    return Probes(mini=mini, fit=fit, index=index, scan=scan, served=served)


def _binding(subject: Subject) -> dict[str, str]:
    """Metadata as long as that of a real fit."""
    prints = dict.fromkeys(("model", "tokenizer", "corpus"), 16 * "0")
    settings = settings_of(subject.fit, [layer.name for layer in subject.layers])
    return prints | {"settings": settings, "coverage": coverage_of(subject.lm.model, subject.layers).to_json()}
