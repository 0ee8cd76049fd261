"""A fit that may take only so much memory: a few layers at a time, the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.progress import Step, silent
from headwater.corpus.batches import TokenSequence
from headwater.curvature import sections as sections_module
from headwater.curvature.base import EigenCurvature
from headwater.curvature.damping import Damping
from headwater.curvature.fit import write_curvature
from headwater.curvature.options import FitOptions
from headwater.curvature.sections import section_of, sections
from headwater.curvature.store import curvature_files, load_curvature
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer, choose_layers
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep
from tests.models import VOCABULARY, plain_model, tiny_lm, tiny_tokenizer
from tests.oracle import random_sequences


def layers_of(groups: list[list[tuple[int, int]]]) -> list[TrackedLayer]:
    """Layers of these (inputs, outputs), those of a list sharing their inputs."""
    return [
        TrackedLayer(name=f"{g}.{k}", inputs=group[0][0], outputs=outputs, bias=False, group=f"{g}.0")
        for g, group in enumerate(groups)
        for k, (_, outputs) in enumerate(group)
    ]


widths = st.tuples(st.integers(1, 400), st.integers(1, 400))


@given(groups=st.lists(st.lists(widths, min_size=1, max_size=3), min_size=1, max_size=8), spare=st.integers(0, 10**7))
def test_sections_are_whole_groups_in_order_that_fit(groups: list[list[tuple[int, int]]], spare: int) -> None:
    layers = layers_of(groups)
    by_group = [[layer for layer in layers if layer.group == f"{g}.0"] for g in range(len(groups))]
    room = max(section_of(group).peak for group in by_group) + spare
    found = sections(layers, room)
    assert [layer for section in found for layer in section.layers] == layers
    assert all(section == section_of(section.layers) and section.peak <= room for section in found)
    for group in by_group:
        assert sum(group[0] in section.layers for section in found) == 1
        assert all(set(group) <= set(section.layers) or group[0] not in section.layers for section in found)
    for one, other in pairwise(found):
        following = [layer for layer in other.layers if layer.group == other.layers[0].group]
        assert section_of([*one.layers, *following]).peak > room, "no section could have taken one group more"


def test_a_layer_that_does_not_fit_is_named_and_narrower_blocks_mend_it() -> None:
    layers = layers_of([[(10, 10)], [(6000, 6000)]])
    room = section_of(layers, block_width=2000).peak
    with pytest.raises(HeadwaterError, match=r"Layer 1\.0 alone needs .* --memory, .*--block-width"):
        sections(layers, room)
    assert len(sections(layers, room, block_width=2000)) == 1


@pytest.fixture(scope="module")
def sequences() -> list[TokenSequence]:
    return random_sequences(30, VOCABULARY, seed=3)


@pytest.fixture
def exact_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """--memory is what the layers may take: the model takes none, and nothing is set aside."""
    monkeypatch.setattr(sections_module, "WORKSPACE", 0)
    monkeypatch.setattr(sections_module, "_held_in_a_batch", lambda _: (0, 0))


def written(folder: Path, sweep: Sweep, memory: int | None, kind: Any = "ekfac", report: Any = silent) -> Path:
    path = folder / "curvature.safetensors"
    options = FitOptions(curvature=kind, memory=memory)
    write_curvature(path, options, sweep, bench=Workbench(folder, "test", report), binding={"model": "m"})
    return path


def same(one: Path, other: Path) -> bool:
    a, b = (load_curvature(path, Damping())[0] for path in (one, other))
    assert isinstance(a, EigenCurvature)
    assert isinstance(b, EigenCurvature)
    assert a.layers == b.layers
    for x in a.layers:
        pairs = zip(a.pairs[x.name], b.pairs[x.name], strict=True)
        if not torch.equal(a.bases[x.name].eigenvalues, b.bases[x.name].eigenvalues):
            return False
        if not all(p is not None and q is not None and torch.equal(p.dense(), q.dense()) for p, q in pairs):
            return False
    return True


@pytest.mark.parametrize(("architecture", "kind"), [("llama", "ekfac"), ("gpt2", "kfac")])
@pytest.mark.usefixtures("exact_room")
def test_a_few_layers_at_a_time_give_the_same_bytes(
    architecture: str, kind: str, sequences: list[TokenSequence], tmp_path: Path
) -> None:
    lm = tiny_lm(architecture)
    layers = choose_layers(lm.model)
    sweep = Sweep(stage="fit", lm=lm, layers=layers, sequences=sequences, labels=Labels("sampled", 0))
    whole = written(tmp_path / "whole", sweep, None, kind)
    least = max(section_of([x for x in layers if x.group == layer.group], number=8).peak for layer in layers)
    parts = written(tmp_path / "parts", sweep, least, kind)
    assert len(curvature_files(whole)) == 1
    assert len(curvature_files(parts)) > 2
    assert same(whole, parts)
    assert sorted(parts.parent.iterdir()) == sorted(curvature_files(parts)), "nothing else is left"
    assert written(tmp_path / "parts", sweep, None, kind) == parts
    assert list(parts.parent.iterdir()) == [parts], "a curvature in one file leaves none of another's"


@pytest.mark.usefixtures("exact_room")
def test_stopped_in_a_later_section_it_goes_on_there(sequences: list[TokenSequence], tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    layers = choose_layers(lm.model)
    sweep = Sweep(stage="fit", lm=lm, layers=layers, sequences=sequences, labels=Labels("sampled", 0))
    least = max(section_of([x for x in layers if x.group == layer.group], number=8).peak for layer in layers)

    class StoppedError(Exception):
        pass

    def stop(step: Step) -> None:
        if step.stage.startswith("eigenvalues, part 2 of"):
            raise StoppedError

    with pytest.raises(StoppedError):
        written(tmp_path / "run", sweep, least, report=stop)
    seen: list[str] = []
    path = written(tmp_path / "run", sweep, least, report=lambda step: seen.append(step.stage))
    assert not any("part 1 of" in stage for stage in seen)
    assert any("covariances, part 2 of" in stage for stage in seen), "its checkpoint is read"
    assert same(path, written(tmp_path / "other", sweep, None))


def test_a_section_that_is_lost_is_fitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections_module, "WORKSPACE", 0)
    monkeypatch.setattr(sections_module, "_held_in_a_batch", lambda _: (0, 0))
    plain_model("gpt_neo", torch.float32).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    lines = [json.dumps({"text": f"Mia saw {k} stars and the moon."}) for k in range(20)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    run = Run.create(tmp_path / "run", str(tmp_path / "model"), tmp_path / "corpus.jsonl")
    layers = choose_layers(run.lm.model)
    run.fit(memory=max(section_of([layer]).peak for layer in layers))
    question = run.question("Mia saw", " the moon")
    before = run.ask(question, exact=True)
    files = curvature_files(run.paths.curvature)
    times = [file.stat().st_mtime_ns for file in files]
    files[2].unlink()
    run.fit(memory=max(section_of([layer]).peak for layer in layers))
    after = [file.stat().st_mtime_ns for file in files]
    assert [one == other for one, other in zip(times[1:], after[1:], strict=True)].count(False) == 1
    assert run.ask(question, exact=True).proponents == before.proponents


LEAST = 160
"""MiB. All layers of the model below would take three times 117."""


def test_the_process_stays_within_what_it_was_given(tmp_path: Path) -> None:
    """A fit whose covariances alone would take more than its limit, in a process of its own."""
    script = f"""
import torch
from pathlib import Path
from transformers import GPT2Config, GPT2LMHeadModel
from tests.models import tiny_tokenizer
from headwater.lm.load import wrap_model
from headwater.runs.run import Run
from headwater.curvature.store import curvature_files
from headwater.curvature import sections
from headwater.base.memory_probe import Peak
tokenizer = tiny_tokenizer()
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=320, n_layer=8, n_head=8, n_positions=32))
Path({str(tmp_path / "c.jsonl")!r}).write_text("\\n".join('{{"text": "Mia saw %d stars."}}' % k for k in range(8)))
run = Run.create({str(tmp_path / "run")!r}, wrap_model(model, tokenizer), {str(tmp_path / "c.jsonl")!r})
sections.WORKSPACE = 64 << 20
with Peak() as peak:
    before = peak.bytes
    run.write_curvature(memory=before + ({LEAST} << 20))
print(peak.bytes - before, len(curvature_files(run.paths.curvature)) - 1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    more, parts = map(int, done.stdout.split())
    assert parts > 2
    assert more < LEAST << 20
