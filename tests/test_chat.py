"""Fine-tuned models: conversations of which only the answers are learned, prompts, packed rows, adapters."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from headwater.corpus.options import CorpusOptions, ReadOptions
from headwater.errors import HeadwaterError
from headwater.lm.layers import choose_layers
from headwater.lm.load import LanguageModel, load_model, wrap_model
from headwater.runs.run import Run
from headwater.training.recipe import Recipe
from tests.models import plain_model, tiny_tokenizer
from tests.oracle import sequence_loss

TEMPLATE = (
    "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
CHAT = [
    {"role": "user", "content": "Who found it?"},
    {"role": "assistant", "content": "Lily did."},
    {"role": "user", "content": "So?"},
    {"role": "assistant", "content": "The fox."},
]


def chat_model() -> LanguageModel:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = TEMPLATE
    return wrap_model(plain_model("gpt_neo", torch.float32), tokenizer)


def corpus_of(folder: Path, rows: list[dict[str, Any]], lm: LanguageModel, **options: Any) -> Run:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return Run.create(folder / "run", lm, path, options=CorpusOptions(ReadOptions(**options)))


def learned(run: Run, row: int = 0) -> str:
    """The text of the tokens that carry loss."""
    example = run.corpus[row]
    return "".join(piece for piece, target in zip(example.pieces, example.sequence.targets, strict=True) if target)


def test_only_what_the_assistant_says_is_learned(tmp_path: Path) -> None:
    run = corpus_of(tmp_path, [{"messages": CHAT, "kind": "a"}], chat_model(), messages_field="messages")
    example = run.corpus[0]
    assert example.text.startswith("<u>Who found it?\n<a>Lily did.\n<u>So?")
    assert learned(run) == "Lily did.\nThe fox.\n"
    assert example.metadata == {"kind": "a"}


def test_the_loss_of_an_example_is_that_of_its_answers_alone(tmp_path: Path) -> None:
    lm = chat_model()
    run = corpus_of(tmp_path, [{"messages": CHAT}, {"messages": CHAT[:2]}], lm, messages_field="messages")
    run.fit(curvature="identity")
    run.build_index(bytes=128)
    table = run.index.table
    assert table is not None
    losses = {row["id"]: row["loss"] for row in table.lance.to_arrow().to_pylist()}
    for row in range(2):
        example = run.corpus[row]
        expected = float(sequence_loss(plain_model("gpt_neo", torch.float32), example.sequence).detach())
        assert losses[example.id] == pytest.approx(expected, rel=1e-4)


def test_a_conversation_is_asked(tmp_path: Path) -> None:
    run = corpus_of(tmp_path, [{"messages": CHAT}, {"messages": CHAT[:2]}], chat_model(), messages_field="messages")
    run.fit()
    question = run.question(CHAT[:3], "The fox.")
    assert question.prompt == "<u>Who found it?\n<a>Lily did.\n<u>So?\n<a>"
    assert "".join(question.selected_pieces) == "The fox."
    assert len(run.ask(CHAT[:3], "The fox.", k=2).proponents) <= 2


def test_conversations_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    bad = [
        ("hello", "not a conversation"),
        ([{"role": "user"}], "not a conversation"),
        (CHAT[:1], "no message of the assistant"),
    ]
    for messages, reason in bad:
        with pytest.raises(HeadwaterError, match=rf"rows\.jsonl:1: .*{reason}"):
            corpus_of(tmp_path, [{"messages": messages}], chat_model(), messages_field="messages")
    plain = wrap_model(plain_model("gpt_neo", torch.float32), tiny_tokenizer())
    with pytest.raises(HeadwaterError, match="no chat template"):
        corpus_of(tmp_path, [{"messages": CHAT}], plain, messages_field="messages")


def test_each_turn_is_an_example_if_later_ones_change_the_text(tmp_path: Path) -> None:
    rewriting = chat_model()
    rewriting.tokenizer.chat_template = "{{ messages | length }}" + TEMPLATE
    run = corpus_of(tmp_path, [{"id": "c", "messages": CHAT}, {"messages": CHAT[:2]}], rewriting)
    assert [example.id for example in run.corpus.read(range(3))] == ["c.1", "c.2", "rows:2"]
    assert run.corpus[1].text == "3<u>Who found it?\n<a>Lily did.\n<u>So?\n<a>The fox.\n"
    assert [learned(run, row) for row in range(3)] == ["Lily did.\n", "The fox.\n", "Lily did.\n"]


def test_a_beginning_of_text_that_the_template_writes_is_not_there_twice(tmp_path: Path) -> None:
    lm = chat_model()
    lm.tokenizer.chat_template = "{{ bos_token }}" + TEMPLATE
    lm.tokenizer.bos_token = "O"
    run = corpus_of(tmp_path, [{"messages": CHAT}], lm, messages_field="messages")
    assert run.corpus[0].text.startswith("O<u>"), "this tokenizer adds none of its own"
    assert learned(run) == "Lily did.\nThe fox.\n"


def test_prompts_carry_no_loss(tmp_path: Path) -> None:
    rows = [{"ask": "Who found a key? ", "answer": "Lily did."}, {"ask": "Once upon a time ", "answer": "x" * 3}]
    lm = chat_model()
    run = corpus_of(tmp_path, rows, lm, prompt_field="ask", text_field="answer")
    assert run.corpus[0].text == "Who found a key? Lily did."
    assert learned(run).strip() == "Lily did."
    assert run.corpus[0].metadata == {}
    masked = run.corpus.fingerprint
    whole = [{"answer": row["ask"] + row["answer"]} for row in rows]
    (tmp_path / "whole").mkdir()
    assert corpus_of(tmp_path / "whole", whole, lm, text_field="answer").corpus.fingerprint != masked


def test_training_again_learns_what_was_learned(tmp_path: Path) -> None:
    lm = chat_model()
    run = corpus_of(
        tmp_path, [{"ask": "Who found it? ", "answer": "Lily did."}], lm, prompt_field="ask", text_field="answer"
    )
    lm.tokenizer.eos_token = "."
    (given,) = run.corpus.sequences([0])[:1]
    (read,) = Recipe().sequences([given], lm.tokenizer, 64)
    assert read.input_ids.tolist() == [*given.input_ids, lm.tokenizer.eos_token_id]
    assert read.targets.tolist() == [*given.targets, True]


def test_what_is_cut_off_before_its_answer_is_counted(tmp_path: Path) -> None:
    rows = [{"ask": "Once upon a time there was a moon. " * 2, "answer": "Yes."}, {"ask": "So? ", "answer": "Yes."}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    read = ReadOptions(prompt_field="ask", text_field="answer")
    run = Run.create(tmp_path / "cut", chat_model(), path, options=CorpusOptions(read, max_tokens=12))
    assert (run.corpus.counts.examples, run.corpus.counts.too_short) == (1, 1)
    split = Run.create(tmp_path / "split", chat_model(), path, options=CorpusOptions(read, 12, "split"))
    found = "".join(learned(split, row) for row in range(len(split.corpus)))
    assert found.count("es.") == 2, "the windows that hold answers are kept"


def test_packed_rows_are_taken_apart(tmp_path: Path) -> None:
    lm = chat_model()
    texts = ["Lily found a key.", "Tom lost his hat.", "The end of it."]
    run = corpus_of(tmp_path, [{"id": "p", "text": "<eos>".join(texts) + "<eos>"}], lm, separator="<eos>")
    assert [(e.id, e.text) for e in run.corpus.read(range(3))] == [(f"p.{k + 1}", t) for k, t in enumerate(texts)]
    (tmp_path / "offsets").mkdir()
    offsets = np.cumsum([0, *map(len, texts[:-1])]).tolist()
    rows = [{"id": "p", "text": "".join(texts), "starts": offsets}]
    run = corpus_of(tmp_path / "offsets", rows, lm, offsets_field="starts")
    assert [e.text for e in run.corpus.read(range(3))] == texts
    (tmp_path / "bad").mkdir()
    with pytest.raises(HeadwaterError, match="not an increasing list of positions"):
        corpus_of(tmp_path / "bad", [{"text": "abc", "starts": [0, 9]}], lm, offsets_field="starts")


# -- adapters


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and a LoRA adapter of it, with weights that do something."""
    folder = tmp_path_factory.mktemp("adapter")
    plain_model("llama", torch.float32).save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    adapted: Any = peft.get_peft_model(
        load_model(str(folder / "base")).model,
        peft.LoraConfig(r=2, target_modules=["up_proj", "down_proj"], task_type="CAUSAL_LM"),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    adapted.save_pretrained(folder / "lora")
    return folder / "lora"


def test_the_linears_of_an_adapter_are_tracked(adapter: Path, tmp_path: Path) -> None:
    lm = load_model(str(adapter))
    names = [layer.name for layer in choose_layers(lm.model)]
    assert len(names) == 8
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    assert lm.fingerprint != load_model(str(adapter.parent / "base")).fingerprint
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"Lily found {k} keys in the garden."}) for k in range(8)))
    run = Run.create(tmp_path / "run", str(adapter), path)
    run.fit()
    run.build_index(bytes=128)
    answer = Run.open(tmp_path / "run").ask("Lily found", " 3 keys", k=8)
    scored = answer.proponents + answer.opponents
    assert "text" in dir(scored[0])
    assert run.fit(layers=("*.base_layer",)).layers[0].name.endswith("base_layer"), "or the base's own"


def test_the_influence_of_an_adapter_is_that_of_its_weights(adapter: Path, tmp_path: Path) -> None:
    lm = load_model(str(adapter))
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"Lily found {k} keys in the garden."}) for k in range(4)))
    run = Run.create(tmp_path / "run", lm, path)
    run.fit(curvature="identity")
    question = run.question("Lily found", " 3 keys")
    answer = run.ask(question, k=4, exact=True)
    found = {example.id: example.influence for example in answer.proponents + answer.opponents}
    weights = {n: p for n, p in lm.model.named_parameters() if ".lora_" in n}
    for weight in weights.values():
        weight.requires_grad_()

    def gradient(sequence: Any) -> torch.Tensor:
        loss = sequence_loss(lm.model, sequence)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(weights.values()))])

    asked = gradient(question.sequence)
    for example in run.corpus.read(range(4)):
        if example.id in found:
            assert found[example.id] == pytest.approx(float(asked @ gradient(example.sequence)), rel=1e-3, abs=1e-5)
