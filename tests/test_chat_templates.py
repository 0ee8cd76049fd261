"""Chat templates as they are published: what the assistant says, and the mark that ends its turn, carries loss."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken

from headwater.corpus.chat import asked, is_formatted, renderer
from headwater.corpus.chat_formats import conversation_of
from headwater.errors import CorpusError
from tests.models import tiny_tokenizer

TEMPLATES = Path(__file__).parent / "chat_templates"
MARKS = {
    "chatml": ("<s>", "<|im_end|>", "<|im_start|>"),
    "smollm2": ("<|im_start|>", "<|im_end|>"),
    "smollm3-training": ("<s>", "<|im_end|>", "<|im_start|>"),
    "zephyr": ("<s>", "</s>"),
    "phi3": ("<s>", "<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
    "phi4": ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<|im_sep|>"),
    "gemma": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    "llama3.2": ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    "qwen2.5": ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<tool_call>", "</tool_call>"),
    "qwen3": ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<think>", "</think>"),
    "mistral": ("<s>", "</s>", "[INST]", "[/INST]"),
    "mistral-v0.1": ("<s>", "</s>"),
}
"""The tokens that each tokenizer knows: beginning of text, end of text, and others."""
END = {"gemma": "<end_of_turn>", "phi3": "<|end|>", "zephyr": "</s>", "mistral": "</s>", "mistral-v0.1": "</s>"} | {
    "llama3": "<|eot_id|>",
    "llama3.2": "<|eot_id|>",
}
"""The mark that ends a turn; <|im_end|> for the others."""
REFUSES_SYSTEM = ("gemma", "mistral-v0.1")
SYSTEM = {"role": "system", "content": "Be short."}
TALK = [
    {"role": "user", "content": "Who found it?"},
    {"role": "assistant", "content": "Lily did."},
    {"role": "user", "content": "Who did?\n\nSo?"},
    {"role": "assistant", "content": "The fox.\n\n- Who found it?\n- Lily did."},
    {"role": "user", "content": "So?"},
    {"role": "assistant", "content": "So."},
]


@cache
def tokenizer_of(family: str) -> Any:
    tokenizer = copy.deepcopy(tiny_tokenizer())
    first, last, *others = MARKS[family]
    tokenizer.add_special_tokens(
        {"bos_token": first, "eos_token": last, "extra_special_tokens": [AddedToken(each) for each in others]}
    )
    tokenizer.chat_template = (TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8").removesuffix("\n")
    return tokenizer


def learned(family: str, messages: Any, **others: Any) -> list[list[str]]:
    """For each example, the texts that carry loss."""
    made = renderer(tokenizer_of(family))(conversation_of(messages, **others))
    return [[text[start:stop] for start, stop in spans] for text, spans in made]


@pytest.mark.parametrize("system", [False, True], ids=["no system", "system"])
@pytest.mark.parametrize("family", MARKS)
def test_what_the_assistant_says_is_learned_and_nothing_else(family: str, system: bool) -> None:
    end = END.get(family, "<|im_end|>")
    if system and family in REFUSES_SYSTEM:
        with pytest.raises(CorpusError, match="the chat template refuses it: "):
            learned(family, [SYSTEM, *TALK])
        return
    for turns in (1, 2, 3):
        talk = [SYSTEM] * system + TALK[: 2 * turns]
        found = learned(family, talk)
        said = [message["content"] + end for message in talk if message["role"] == "assistant"]
        if family == "qwen3":  # it thinks in its last turn, so each turn is an example
            assert found == [[f"<think>\n\n</think>\n\n{text}"] for text in said]
        elif family == "mistral":
            assert [text for each in found for text in each] == [f" {text}" for text in said]
            assert len(found) == (turns if system else 1), "the system message moves to the last question"
        else:
            assert found == [said]


@pytest.mark.parametrize("family", MARKS)
def test_an_example_reads_what_the_model_is_asked(family: str) -> None:
    """The text before the last answer is the prompt of a question about it."""
    system = [] if family in REFUSES_SYSTEM else [SYSTEM]
    tokenizer = tokenizer_of(family)
    *_, (text, spans) = renderer(tokenizer)(conversation_of([*system, *TALK]))
    prompt, answer = asked(tokenizer, conversation_of([*system, *TALK[:-1]]))
    assert answer is None
    assert text[: spans[-1][0]] == prompt
    assert all("".join(message["content"].split()) in "".join(prompt.split()) for message in [*system, *TALK[:-1]])
    prompt, answer = asked(tokenizer, conversation_of([*system, *TALK]))
    assert (prompt + (answer or "")).startswith(text[: spans[-1][0]])
    assert (answer or "").endswith("So.")
    assert is_formatted(tokenizer, prompt)
    assert not is_formatted(tokenizer, "Who found it?")


@pytest.mark.parametrize("family", ["chatml", "smollm2", "zephyr", "phi3", "llama3", "llama3.2", "qwen2.5", "qwen3"])
def test_a_conversation_may_begin_with_the_assistant(family: str) -> None:
    found = learned(family, [{"role": "assistant", "content": "Yes?"}, *TALK[:2]])
    said = [text.removeprefix("<think>\n\n</think>\n\n") for each in found for text in each]
    end = END.get(family, "<|im_end|>")
    assert said == ["Yes?" + end, "Lily did." + end]


@pytest.mark.parametrize("family", ["gemma", "mistral", "mistral-v0.1"])
def test_roles_that_must_alternate_are_refused_in_the_words_of_the_template(family: str) -> None:
    with pytest.raises(CorpusError, match=r"refuses it: .*must alternate"):
        learned(family, TALK[1:])


def test_earlier_thoughts_are_left_out_where_the_template_leaves_them_out() -> None:
    thoughts = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "<think>\nLily or Tom?\n</think>\n\nLily."},
        {"role": "user", "content": "So?"},
        {"role": "assistant", "content": "So.", "reasoning_content": "Done."},
    ]
    notes: list[str] = []
    render = renderer(tokenizer_of("qwen3"), notes.append)
    (first, (a,)), (second, (b,)) = render(conversation_of(thoughts))
    assert first[slice(*a)] == "<think>\nLily or Tom?\n</think>\n\nLily.<|im_end|>"
    assert second[slice(*b)] == "<think>\nDone.\n</think>\n\nSo.<|im_end|>"
    assert "Lily or Tom?" not in second
    render(conversation_of(thoughts))
    assert (
        [note for note in notes if "each turn of the assistant is an example of its own" in note] == notes[:1] == notes
    )


def test_the_date_in_a_template_is_the_same_on_every_day() -> None:
    notes: list[str] = []
    ((text, _),) = renderer(tokenizer_of("llama3.2"), notes.append)(conversation_of(TALK))
    assert "Today Date: 26 Jul 2024\n" in text
    assert notes == ["The chat template writes today's date. Headwater always writes 26 July 2024 there."]
    tokenizer = copy.deepcopy(tokenizer_of("chatml"))
    tokenizer.chat_template = (
        "\n{{ strftime_now('%Y') }} {{ strftime_now(messages[0].content) }}" + tokenizer.chat_template
    )
    ((text, _),) = renderer(tokenizer)(conversation_of(TALK))
    assert text.startswith("\n2024 2024-07-26"), "a format that the text of the template does not show is an ISO date"


CALL = {"type": "function", "id": "a", "function": {"name": "find", "arguments": '{"what": "key"}'}}
TOOL_TALK = [
    {"role": "user", "content": "Where is it?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "name": "find", "content": 'in "the" garden'},
    {"role": "assistant", "content": "In the garden."},
]
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "required": None}}}]


def test_tool_calls_are_learned_and_tools_are_written() -> None:
    ((text, _),) = renderer(tokenizer_of("qwen2.5"))(conversation_of(TOOL_TALK, tools=TOOLS))
    assert '"parameters": {"type": "object"}' in text, "a null of Parquet is no field"
    called = '\n<tool_call>\n{"name": "find", "arguments": {"what": "key"}}\n</tool_call><|im_end|>'
    assert learned("qwen2.5", TOOL_TALK, tools=TOOLS) == [[called.lstrip(), "In the garden.<|im_end|>"]]
    called = '{"name": "find", "parameters": {"what": "key"}}<|eot_id|>'
    assert learned("llama3.2", TOOL_TALK, tools=TOOLS) == [[called, "In the garden.<|eot_id|>"]]


def test_what_a_template_leaves_out_is_an_error() -> None:
    with pytest.raises(CorpusError, match="leaves out the tool calls of message 2"):
        learned("chatml", TOOL_TALK)
    with pytest.raises(CorpusError, match="leaves out message 3, whose role is 'tool'"):
        learned("zephyr", [*TALK[:2], {"role": "tool", "content": "found"}, *TALK[2:4]])


def test_only_the_completion_of_a_prompt_is_learned() -> None:
    end = "<|im_end|>"
    for family in ("chatml", "smollm3-training"):
        assert learned(family, TALK[3:4], prompt=TALK[:3]) == [[TALK[3]["content"] + end]]
        assert learned(family, "Lily did.", prompt="Who?") == [["Lily did." + end]]
