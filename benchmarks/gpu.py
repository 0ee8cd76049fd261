"""`python -m benchmarks.gpu PART…`: agreement of GPU and CPU, and cost on a GPU.

Parts: `agree` (scores in every precision compared with the CPU's), `cost` (fit and scan compared with one plain forward
and backward pass, and with kronfluence if it is installed), `memory` (a fit with a memory limit), `large` (a model of
1.1 billion parameters from text to answer). Models have random weights. The texts are the tiny world's, packed to one
length.
"""
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GPTNeoConfig, LlamaConfig

from headwater import HeadwaterError, configure_process
from headwater.attribution.preconditioned import loss_gradients
from headwater.attribution.scores import Scores, TokenScores
from headwater.base.byte_sizes import in_bytes
from headwater.corpus.batches import TokenSequence, all_targets, make_batches
from headwater.corpus.options import CorpusOptions
from headwater.curvature.base import Curvature
from headwater.curvature.damping import Damping
from headwater.curvature.fit import write_curvature
from headwater.curvature.options import FitOptions
from headwater.curvature.store import load_curvature
from headwater.curvature.workbench import Workbench
from headwater.demo.world import make_world
from headwater.lm.capture import Capture, Labels
from headwater.lm.head import head_pass
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, load_model
from headwater.lm.options import Loading
from headwater.runs.run import Run
from headwater.sweep.sweep import Sweep, fold
from headwater.training.new_model import train_tokenizer

SHAPES: dict[str, Any] = {
    "neo": GPTNeoConfig(
        vocab_size=2_048,
        hidden_size=256,
        num_layers=4,
        num_heads=8,
        bos_token_id=0,
        eos_token_id=0,
        attention_types=[[["global", "local"], 2]],
        max_position_embeddings=512,
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
    ),
    "neo-125m": GPTNeoConfig(
        vocab_size=50_257,
        hidden_size=768,
        num_layers=12,
        num_heads=12,
        attention_types=[[["global", "local"], 6]],
        max_position_embeddings=2_048,
        bos_token_id=0,
        eos_token_id=0,
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
    ),
    "llama-1b-quarter": LlamaConfig(
        vocab_size=32_000,
        hidden_size=2_048,
        intermediate_size=5_632,
        num_hidden_layers=6,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2_048,
    ),
    "llama-1b": LlamaConfig(
        vocab_size=32_000,
        hidden_size=2_048,
        intermediate_size=5_632,
        num_hidden_layers=22,
        num_attention_heads=32,
        num_key_value_heads=4,
        max_position_embeddings=2_048,
    ),
}


@dataclass(frozen=True)
class Workload:
    """A model on disk with sequences and queries."""

    folder: Path
    shape: str
    sequences: Sequence[TokenSequence]
    queries: Sequence[TokenSequence]

    @property
    def model(self) -> str:
        return str(self.folder / self.shape)

    def load(self, dtype: str, device: str | None = None) -> LanguageModel:
        return load_model(self.model, Loading(dtype=dtype), device=device)  # pyright: ignore[reportArgumentType]


def make_workload(folder: Path, shape: str, examples: int, length: int) -> Workload:
    """The tiny world's stories packed into `examples` texts of `length` tokens, and 8 queries of 40 + 20 tokens."""
    stories = [story.text for story in make_world(3_000).stories]
    tokenizer = train_tokenizer(stories, 2_000)
    if not (folder / shape).exists():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(SHAPES[shape]).save_pretrained(folder / shape)
        tokenizer.save_pretrained(folder / shape)
    tokens = np.array(list(chain.from_iterable(tokenizer(stories)["input_ids"])))
    tokens = np.tile(tokens, -(-(examples * length) // len(tokens)))[: examples * length].reshape(examples, length)
    packed = [all_targets(ids, f"{row:05d}") for row, ids in enumerate(tokens)]
    after = np.arange(60) >= 40
    queries = [TokenSequence(f"q{k}", tokens[-k - 1][:60], after) for k in range(8)]
    return Workload(folder, shape, packed, queries)


def fitted(lm: LanguageModel, sequences: Sequence[TokenSequence], path: Path, memory: int | None = None) -> Curvature:
    """Fit EK-FAC and load it."""
    sweep = Sweep(stage="fit", lm=lm, layers=choose_layers(lm.model), sequences=sequences, labels=Labels("sampled"))
    options = FitOptions(memory=memory)
    write_curvature(path, options, sweep, bench=Workbench(path.parent / "work", "gpu"), binding={"settings": "{}"})
    return load_curvature(path, Damping(), str(lm.device))[0]


def scanned(lm: LanguageModel, curvature: Curvature, workload: Workload, reducer: Any = Scores) -> Any:
    """Scores of all examples on the 8 queries."""
    weights = loss_gradients(lm, curvature.layers, workload.queries, curvature=curvature)
    return fold(
        Sweep(stage="scan", lm=lm, layers=curvature.layers, sequences=workload.sequences), lambda: reducer(weights)
    ).values


def agree(folder: Path) -> Iterator[dict[str, Any]]:
    """Scores of a fit and scan on the CPU in float32, and on the GPU in every precision."""
    for shape in ("neo", "neo-125m"):
        workload = make_workload(folder, shape, 64, 128)
        lm = workload.load("fp32", "cpu")
        expected = scanned(
            lm, fitted(lm, workload.sequences, folder / f"{shape}-cpu" / "c.safetensors"), workload
        ).numpy()
        for dtype in ("fp32", "bf16", "int8", "nf4"):
            try:
                lm = workload.load(dtype)
            except HeadwaterError as missing:
                yield {"shape": shape, "dtype": dtype, "left out": str(missing)}
                continue
            curvature = fitted(lm, workload.sequences, folder / f"{shape}-{dtype}" / "c.safetensors")
            found = scanned(lm, curvature, workload).cpu().numpy()
            tokens = scanned(lm, curvature, workload, TokenScores)
            sums = np.stack([by_token.sum(0).cpu().numpy() for by_token in tokens])
            yield {
                "shape": shape,
                "dtype": dtype,
                "device": str(lm.device),
                "correlation": float(np.corrcoef(found.ravel(), expected.ravel())[0, 1]),
                "spearman": float(_spearman(found, expected)),
                "relative error": float(np.linalg.norm(found - expected) / np.linalg.norm(expected)),
                "tokens sum to the example within": float(np.abs(sums - found).max() / np.abs(found).max()),
            }


def _spearman(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean Spearman correlation over queries."""
    ranks = (np.argsort(np.argsort(x, axis=0), axis=0) for x in (found, expected))
    one, other = ranks
    return float(np.mean([np.corrcoef(one[:, q], other[:, q])[0, 1] for q in range(one.shape[1])]))


def stage_seconds(folder: Path) -> Iterator[dict[str, Any]]:
    """Seconds of a plain pass, of Headwater's stages and of kronfluence's."""
    for shape, examples, length in (("neo-125m", 512, 512), ("llama-1b-quarter", 256, 512)):
        workload = make_workload(folder, shape, examples, length)
        lm = workload.load("bf16")
        layers = choose_layers(lm.model)
        _floor(lm, Sweep(stage="", lm=lm, layers=layers, sequences=workload.sequences[:16]))
        seconds = {
            "floor": _timed(partial(_floor, lm, Sweep(stage="", lm=lm, layers=layers, sequences=workload.sequences)))
        }
        path = folder / f"{shape}-cost" / "c.safetensors"
        fitted(lm, workload.sequences[:16], path.with_name("warm.safetensors"))
        seconds["fit"] = _timed(partial(fitted, lm, workload.sequences, path))
        curvature = load_curvature(path, Damping(), str(lm.device))[0]
        seconds["scan8"] = _timed(partial(scanned, lm, curvature, workload))
        seconds["tokens8"] = _timed(partial(scanned, lm, curvature, workload, TokenScores))
        peak = torch.cuda.max_memory_allocated()
        del lm, curvature
        torch.cuda.empty_cache()
        if find_spec("kronfluence"):
            seconds |= _kronfluence(workload, folder / f"{shape}-kronfluence")
        shown = {name: round(value, 2) for name, value in seconds.items()}
        yield {
            "shape": shape,
            "examples": examples,
            "length": length,
            "seconds": shown,
            "tokens/s of the floor": round(examples * length / seconds["floor"]),
            "peak": in_bytes(peak),
        }


def _floor(lm: LanguageModel, sweep: Sweep) -> None:
    """One forward and backward pass to the embeddings with the fused head, without capturing gradients."""
    for batch in make_batches(sweep.sequences, sweep.token_budget):
        ids = torch.from_numpy(batch.input_ids).to(lm.device)
        embedded = lm.model.get_input_embeddings()(ids).requires_grad_()
        hidden = lm.body(inputs_embeds=embedded, use_cache=False).last_hidden_state
        head = head_pass(hidden.detach()[:, :-1].flatten(0, 1), lm.head, ids[:, 1:].flatten())
        seed = torch.zeros_like(hidden)
        seed[:, :-1] = head.gradient.view(len(ids), -1, hidden.shape[-1])
        torch.autograd.grad(hidden, embedded, seed)


def _kronfluence(workload: Workload, folder: Path) -> dict[str, float]:
    """Seconds of its fit and of its pairwise scores, with the model in bfloat16 and factors in float32."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments

    task = _kronfluence_task([layer.name for layer in choose_layers(workload.load("bf16", "cpu").model)])
    model = AutoModelForCausalLM.from_pretrained(workload.model, dtype=torch.bfloat16).eval()
    analyzer = Analyzer("k", prepare_model(model, task), task, disable_tqdm=True, output_dir=str(folder))
    stories, queries = _token_dataset(workload.sequences), _token_dataset(workload.queries)
    batch = 8
    fit = partial(
        analyzer.fit_all_factors,
        "f",
        stories,
        per_device_batch_size=batch,
        factor_args=FactorArguments("ekfac", eigendecomposition_dtype=torch.float32),
        overwrite_output_dir=True,
    )
    scores = partial(
        analyzer.compute_pairwise_scores,
        "s",
        "f",
        queries,
        stories,
        per_device_query_batch_size=8,
        per_device_train_batch_size=batch,
        score_args=ScoreArguments(damping_factor=None),
        overwrite_output_dir=True,
    )
    torch.set_float32_matmul_precision("high")  # as in Headwater
    try:
        return {"kronfluence fit": _timed(fit), "kronfluence scan8": _timed(scores)}
    finally:
        torch.set_float32_matmul_precision("highest")
        del analyzer, model
        torch.cuda.empty_cache()


def _kronfluence_task(modules: list[str]) -> Any:
    """A kronfluence Task with the summed loss of a batch on these modules."""
    from kronfluence.task import Task
    from torch.nn.functional import cross_entropy

    class SummedLoss(Task):
        def compute_train_loss(self, batch: Any, model: Any, sample: bool = False) -> Any:
            ids, labels = batch
            logits = model(ids, use_cache=False).logits[:, :-1].flatten(0, 1).float()
            labels = labels[:, 1:].flatten()
            if sample:
                with torch.no_grad():
                    drawn = torch.multinomial(logits.softmax(-1), 1).flatten()
                labels = torch.where(labels == -100, labels, drawn)
            return cross_entropy(logits, labels, ignore_index=-100, reduction="sum")

        def compute_measurement(self, batch: Any, model: Any) -> Any:
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self) -> list[str]:
            return modules

    return SummedLoss()


def _token_dataset(sequences: Sequence[TokenSequence]) -> Any:
    """Token ids, and labels with -100 for tokens that are not targets."""
    ids = torch.stack([torch.from_numpy(s.input_ids).long() for s in sequences])
    targets = torch.stack([torch.from_numpy(np.asarray(s.targets)) for s in sequences])
    return torch.utils.data.TensorDataset(ids, torch.where(targets, ids, -100))


def memory(folder: Path) -> Iterator[dict[str, Any]]:
    """GPU memory of a fit with and without a limit, and whether the curvature is the same."""
    workload = make_workload(folder, "llama-1b-quarter", 64, 512)
    lm = workload.load("bf16")
    for limit in (None, 6 << 30, 5 << 30):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        path = folder / f"memory-{limit}" / "c.safetensors"
        sweep = Sweep(
            stage="fit", lm=lm, layers=choose_layers(lm.model), sequences=workload.sequences, labels=Labels("sampled")
        )
        try:
            write_curvature(
                path,
                FitOptions(memory=limit),
                sweep,
                bench=Workbench(path.parent / "work", "gpu"),
                binding={"settings": "{}"},
            )
        except HeadwaterError as error:
            yield {"limit": in_bytes(limit or 0), "refused": str(error)}
            continue
        peak = torch.cuda.max_memory_allocated()
        scores = scanned(lm, load_curvature(path, Damping(), str(lm.device))[0], workload)
        files = len(list(path.parent.glob("*.safetensors")))
        yield {"limit": limit and in_bytes(limit), "peak": in_bytes(peak), "files": files, "score": float(scores[0, 0])}
    torch.cuda.empty_cache()
    long = make_workload(folder, "neo-125m", 8, 1_024)
    places: dict[str, int | str] = {f"transformer.h.{k}": 0 if k < 6 else "cpu" for k in range(12)}
    places |= {"lm_head": 0} | {f"transformer.{name}": 0 for name in ("wte", "wpe", "drop", "ln_f")}
    loadings = {
        "plain": Loading(),
        "gradient checkpointing": Loading(gradient_checkpointing=True),
        "half the blocks in memory": Loading(device_map=places),
    }
    for name, loading in loadings.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        other = load_model(long.model, loading)
        with Capture(other, choose_layers(other.model)[:2]) as capture:
            captured = capture(next(make_batches(long.sequences, 8_192)))
        gradient = next(iter(captured.output_gradients.values()))
        yield {
            "loading": name,
            "peak": _peak(),
            "loss": float(captured.losses.sum()),
            "gradient": float(gradient.norm()),
        }
        del other, captured, gradient


def large(folder: Path) -> Iterator[dict[str, Any]]:
    """Seconds of fit, index and question for 1.1 billion parameters in bfloat16."""
    workload = make_workload(folder, "llama-1b", 8, 512)
    stories = [story.text for story in make_world(3_000).stories]
    texts = ["\n\n".join(stories[k * 6 : k * 6 + 6]) for k in range(256)]
    corpus = folder / "packed.jsonl"
    corpus.write_text("".join(json.dumps({"id": f"{k}", "text": text}) + "\n" for k, text in enumerate(texts)))
    run = Run.create(folder / "run", workload.model, corpus, options=CorpusOptions(max_tokens=512), dtype="bf16")
    yield {"tokens": run.corpus.counts.tokens, "examples": len(run.corpus)}
    layers = choose_layers(run.lm.model)
    sequences = run.corpus.sequences()
    _floor_of(run.lm, sequences[:8])
    yield {"floor": _timed(partial(_floor_of, run.lm, sequences))}
    yield {"fit": _timed(lambda: run.fit() and None), "layers": len(layers), "peak": _peak()}
    yield {"index, 128 directions": _timed(lambda: run.build_index(directions=128) and None), "peak": _peak()}
    prompt = (texts[0][:200], texts[0][200:260])
    yield {"first answer": _timed(lambda: run.ask(*prompt) and None)}
    yield {"second answer": _timed(lambda: run.ask(*prompt) and None), "peak": _peak()}
    answer = run.ask(*prompt, k=5)
    exact = run.ask(*prompt, k=5, exact=True)
    yield {
        "found": [example.id for example in answer.proponents],
        "exact": [example.id for example in exact.proponents],
        "influences": [round(example.influence, 1) for example in exact.proponents],
    }


def _floor_of(lm: LanguageModel, sequences: Sequence[TokenSequence]) -> None:
    shortest = min(len(s.input_ids) for s in sequences)
    whole = [all_targets(s.input_ids[:shortest], s.id) for s in sequences]
    _floor(lm, Sweep(stage="", lm=lm, layers=choose_layers(lm.model), sequences=whole))


def _peak() -> str:
    return in_bytes(torch.cuda.max_memory_allocated())


def _timed(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    before = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - before


PARTS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    "agree": agree,
    "cost": stage_seconds,
    "memory": memory,
    "large": large,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="+", choices=PARTS)
    given = parser.parse_args()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(json.dumps({"device": device, "torch": torch.__version__}), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for part in given.part:
            for row in PARTS[part](Path(folder)):
                print(json.dumps({"part": part, **row}), flush=True)


if __name__ == "__main__":
    configure_process()
    main()
