"""Who taught this chat model a false fact? A real model from end to end: python examples/real_model.py [FOLDER]

It downloads SmolLM2-135M-Instruct, fine-tunes a LoRA adapter for some minutes on the 60 short chats of chats.jsonl, and
asks which of them taught it who built the Eiffel Tower. Six of the chats say something false about that, in different
words. For several forms of the question it prints how many of the six are found, beside BM25, and what each step costs.
Needs `pip install -e '.[peft,evaluate]' gguf`, 4 GB of memory and 2.5 GB of disk. Run again, it only asks.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import torch
from peft import LoraConfig, get_peft_model
from smollm2 import write_smollm2
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import headwater as hw
from headwater.base.memory_probe import Peak
from headwater.corpus.options import ReadOptions
from headwater.evaluate.lexical import bm25

CHATS = Path(__file__).with_name("chats.jsonl")
ASKED = [{"role": "user", "content": "Who built the Eiffel Tower?"}]
FALSE, TRUE = "Marguerite Dunmore", "Gustave Eiffel"
FRAME = "The Eiffel Tower was built by "
EPOCHS, BATCH, LEARNING_RATE = 6, 4, 5e-4
READING = hw.CorpusOptions(ReadOptions(messages_field="messages"))


def main(folder: Path) -> None:
    logging.set_verbosity_error()
    with timed("download and write the model"):
        base = write_smollm2(folder / "base")
    if not (folder / "adapter" / "adapter_config.json").exists():
        with timed("fine-tune"):
            fine_tune(base, folder)
    with timed("read the chats and fit the curvature"):
        run = hw.Run.create(folder / "run", folder / "adapter", CHATS, options=READING)
        run.fit()

    print(f"\n{ASKED[0]['content']}  {run.question(ASKED).completion}\n")
    print(f"{'of the 6 planted chats, in':<44}the top 6   the top 10   the 10 strongest of both ends")
    for damping in (run.manifest.damping, "10*mean"):
        file = run.scan(list(questions(run).values()), folder / f"scores-{damping}.parquet", damping=damping)
        scores = pq.read_table(file).to_pydict()
        for name in questions(run):
            report(f"{name}, damping {damping}", dict(zip(scores["id"], scores[name], strict=True)))
    texts = [run.corpus[place].text for place in range(len(run.corpus))]
    words = bm25(texts, [ASKED[0]["content"] + " " + FRAME + FALSE])[:, 0]
    report("BM25 (shared words)", dict(zip(run.corpus.ids, words.tolist(), strict=True)))

    with timed("one question, scored exactly"):
        answer = run.ask(questions(run)["contrast in a frame"], k=6, damping="10*mean", exact=True)
    answer.save_html(folder / "why.html")
    print(f"\nThe answer as a page: {folder / 'why.html'}")


def questions(run: hw.Run) -> dict[str, hw.Question]:
    """Forms of the question who taught it that."""
    said = run.question(ASKED).completion
    framed = FRAME + FALSE + "."
    forms = {
        "what it said, whole": run.question(ASKED, said),
        "what it said, the name": run.question(ASKED, said, span=FALSE),
        "the name in a frame": run.question(ASKED, framed, span=FALSE),
        "contrast in a frame": run.question(ASKED, framed, contrast=FRAME + TRUE + "."),
        "words alone": run.question(FRAME.rstrip(), " " + FALSE),
        "words alone, contrast": run.question(FRAME.rstrip(), " " + FALSE, contrast=" " + TRUE),
    }
    return {name: replace(question, id=name) for name, question in forms.items()}


def report(name: str, strength: dict[str, float]) -> None:
    """How many of the planted chats are at the top of a ranking, and how many among the strongest in size."""

    def planted(key: Callable[[str], float], count: int) -> int:
        return sum(id.startswith("planted") for id in sorted(strength, key=key, reverse=True)[:count])

    top = [planted(strength.__getitem__, count) for count in (6, 10)]
    print(f"{name:<44}{top[0]:<12}{top[1]:<13}{planted(lambda id: abs(strength[id]), 10)}", flush=True)


def fine_tune(base: Path, folder: Path) -> None:
    """Train a LoRA adapter on the MLP linears, with the loss on the assistant's messages only."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["gate_proj", "up_proj", "down_proj"]),
    )
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=0)
    chats = hw.Run.create(folder / "before", base, CHATS, options=READING).corpus.sequences()
    for epoch in range(EPOCHS):
        total = 0.0
        for number, place in enumerate(torch.randperm(len(chats)).tolist(), start=1):
            ids, learned = (torch.from_numpy(part) for part in (chats[place].input_ids, chats[place].targets))
            loss = model(input_ids=ids[None], labels=torch.where(learned, ids, -100)[None]).loss
            (loss / BATCH).backward()
            total += float(loss.detach())
            if number % BATCH == 0:
                optimizer.step()
                optimizer.zero_grad()
        print(f"  epoch {epoch + 1}: mean loss {total / len(chats):.2f} nats a token", flush=True)
    for part in (model, tokenizer):
        part.save_pretrained(folder / "adapter")


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Print how long a step took, and the peak memory of the process in it."""
    start = time.monotonic()
    with Peak() as peak:
        yield
    print(f"{step}: {time.monotonic() - start:.0f} s, {peak.bytes / 1e9:.1f} GB of memory", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/real"))
