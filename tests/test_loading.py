"""What loads is right, and what is wrong is refused in one sentence that names the way out.

Models are written to disk as they are published (tests/layouts.py) and compared with the model that was written.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from headwater.cli import app
from headwater.errors import CorpusError, FingerprintMismatch, HeadwaterError, HeadwaterWarning, ModelError
from headwater.lm.load import LanguageModel, load_model, wrap_model
from headwater.runs.run import Run
from tests.layouts import masks, save, save_bin, save_gguf
from tests.models import _LLAMA_SHAPE, plain_model, tiny_tokenizer


def llama(**changes: Any) -> Any:
    shape: dict[str, Any] = {**_LLAMA_SHAPE, **changes}
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()


def tied_llama() -> Any:
    return llama(tie_word_embeddings=True)


MODELS: dict[str, Callable[[], Any]] = {
    "gpt_neo": lambda: plain_model("gpt_neo", torch.float32),
    "gpt2": lambda: plain_model("gpt2", torch.float32),
    "gpt_neox": lambda: plain_model("gpt_neox", torch.float32),
    "llama": lambda: plain_model("llama", torch.float32),
    "tied_llama": tied_llama,
}


def fingerprint(model: Any) -> str:
    return wrap_model(model, tiny_tokenizer()).fingerprint


def refused(name: Path | str, words: str, **loading: Any) -> None:
    """Loading fails in one sentence or two, without a warning before."""
    with pytest.raises(ModelError, match=words) as caught:
        load_model(str(name), **loading)
    assert "\n" not in str(caught.value)


def corpus(folder: Path) -> Path:
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(json.dumps({"text": f"Lily found {k} keys in the garden."}) for k in range(6)))
    return path


def command(*arguments: str | Path) -> None:
    CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)


# -- published layouts


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("files", [0, 1, 3])
def test_every_layout_gives_the_model_that_was_saved(name: str, files: int, tmp_path: Path) -> None:
    model = MODELS[name]()
    if files:
        more = masks(2, 64) if name == "gpt_neo" else {}
        save_bin(model, tmp_path / "m", files=files, more=more)
    else:
        save(model, tmp_path / "m")
    lm = load_model(str(tmp_path / "m"))
    assert lm.fingerprint == fingerprint(model)
    assert lm.tokenizer("Lily lost her key")["input_ids"] == tiny_tokenizer()("Lily lost her key")["input_ids"]


def test_the_layout_of_tiny_stories_is_fitted_and_asked(tmp_path: Path) -> None:
    folder = save_bin(MODELS["gpt_neo"](), tmp_path / "m", more=masks(2, 64))
    assert {each.name for each in folder.iterdir()} >= {
        "pytorch_model.bin",
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
    }
    assert not list(folder.glob("*.safetensors"))
    run = Run.create(tmp_path / "run", folder, corpus(tmp_path))
    run.fit()
    answer = Run.open(tmp_path / "run").ask("Lily found", " 3 keys", k=6)
    assert len(answer.proponents) + len(answer.opponents) == 6


@pytest.mark.parametrize("tied", [False, True])
def test_a_gguf_file_gives_the_same_weights_and_tokens(tied: bool, tmp_path: Path) -> None:
    model = MODELS["tied_llama" if tied else "llama"]()
    file = save_gguf(model, tiny_tokenizer(), tmp_path / "m" / "tiny.gguf")
    lm = load_model(str(file))
    assert lm.fingerprint == fingerprint(model)
    text = "Lily lost 12 keys — in the café 🦊"
    assert lm.tokenizer(text)["input_ids"] == tiny_tokenizer()(text)["input_ids"]
    if tied:
        return
    assert load_model(str(file.parent)).fingerprint == lm.fingerprint, "its folder means the only file"
    (tmp_path / "m" / "other.gguf").write_bytes(file.read_bytes())
    refused(file.parent, r"several GGUF files\. Give one of them: .*/other\.gguf, .*/tiny\.gguf\.$")
    refused(file, r"GGUF file, which --dtype nf4 cannot quantise again", dtype="nf4")
    assert lm.float32_model is lm, "it is no quantised model any more"


# -- weights that are missing


@pytest.mark.parametrize("name", ["gpt_neo", "gpt2", "gpt_neox", "llama", "tied_llama"])
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_the_names_of_wrappers_are_stripped_and_that_is_said(name: str, prefix: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    folder = save(model, tmp_path / "m", lambda tensors: {prefix + key: each for key, each in tensors.items()})
    with pytest.warns(HeadwaterWarning, match=f"'{prefix.split('.')[0]}' .*reads them without it"):
        lm = load_model(str(folder))
    assert lm.fingerprint == fingerprint(model)


def test_wrappers_of_single_blocks_are_stripped(tmp_path: Path) -> None:
    model = MODELS["llama"]()
    folder = save(
        model,
        tmp_path / "m",
        lambda tensors: {
            key.replace("layers.1.", "layers.1._checkpoint_wrapped_module."): each for key, each in tensors.items()
        },
    )
    with pytest.warns(HeadwaterWarning, match="activation checkpointing"):
        assert load_model(str(folder)).fingerprint == fingerprint(model)


@pytest.mark.parametrize("name", ["gpt_neo", "gpt2", "gpt_neox", "llama", "tied_llama"])
@pytest.mark.parametrize("bin", [False, True])
def test_a_block_that_is_missing_is_named(name: str, bin: bool, tmp_path: Path) -> None:
    model = MODELS[name]()
    folder = save(model, tmp_path / "m", lambda tensors: {k: each for k, each in tensors.items() if ".1." not in k})
    if bin:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    refused(folder, r"its files lack \d+ weights \([\w.]+\.1\.[\w.]+, .* and \d+ more\), which would be random\. ")


@pytest.mark.parametrize("name", ["llama", "gpt_neox"])
def test_a_model_without_its_output_layer_is_refused_with_the_cure(name: str, tmp_path: Path) -> None:
    save(MODELS[name](), tmp_path / "whole")
    AutoModel.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    refused(tmp_path / "m", r"lack 1 weight \(lm_head\.weight\).*AutoModel saves a model without its output layer")


def test_a_tied_model_needs_no_output_layer(tmp_path: Path) -> None:
    model = tied_llama()
    save(model, tmp_path / "whole")
    AutoModel.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    assert load_model(str(tmp_path / "m")).fingerprint == fingerprint(model)


def test_weights_of_another_shape_are_refused_with_both_shapes(tmp_path: Path) -> None:
    folder = save(MODELS["llama"](), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))
    refused(folder, r"down_proj\.weight is 16 × 24 in its files and 16 × 32 in the model, and 5 more differ\. .*config")


def test_weights_without_a_place_are_named_and_left_out(tmp_path: Path) -> None:
    model = MODELS["llama"]()
    folder = save(
        model, tmp_path / "m", lambda tensors: {**tensors, "model.layers.2.mlp.up_proj.weight": torch.ones(2)}
    )
    with pytest.warns(HeadwaterWarning, match=r"no place for 1 weight \(model\.layers\.2\.mlp\.up_proj\.weight\)"):
        lm = load_model(str(folder))
    assert lm.fingerprint == fingerprint(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    model = MODELS["gpt2"]()
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[3, 5] = value
    refused(save(model, tmp_path / "m"), r"1 weight \(transformer\.h\.1\.mlp\.c_fc\.weight\) is NaN or infinite")
    with pytest.raises(ModelError, match="NaN or infinite"):
        Run.create(tmp_path / "run", (model, tiny_tokenizer()), corpus(tmp_path))
    assert not (tmp_path / "run").exists()


def test_a_model_that_reads_ahead_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = BertLMHeadModel(BertConfig(vocab_size=300, hidden_size=16, initializer_range=0.5, **shape))
    refused(save(model, tmp_path / "m"), "reads the tokens after the one that it predicts")


# -- files that are broken or hostile


class Harm:
    """An object whose unpickling runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_that_would_run_code_runs_nothing(old: bool, tmp_path: Path) -> None:
    folder = save_bin(MODELS["gpt2"](), tmp_path / "m")
    command = f"touch {tmp_path / 'harmed'}"
    torch.save(
        {"a": torch.ones(2), "b": Harm(command)}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not old
    )
    refused(folder, r"pytorch_model\.bin holds more than tensors \(\w+\.system\)\. .*could run code")
    assert not (tmp_path / "harmed").exists()
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "harmed").exists(), "the file would have"


def test_the_checkpoint_of_a_trainer_is_not_taken_for_weights(tmp_path: Path) -> None:
    folder = save_bin(MODELS["gpt2"](), tmp_path / "m")
    torch.save({"state_dict": MODELS["gpt2"]().state_dict(), "epoch": 3}, folder / "pytorch_model.bin")
    refused(folder, r"is not the weights of a model: it holds 'state_dict', 'epoch'\. .*save_pretrained")


POINTER = b"version https://git-lfs" + b".example/spec/v1\noid sha256:0\nsize 48\n"


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "tokenizer.json", "config.json", "x.gguf"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda whole: POINTER, r"{file} is a Git LFS pointer, not the file itself\. Run `git lfs pull`"),
        (lambda whole: b"", r"{file} is empty\. Download or copy it again\."),
        (
            lambda whole: whole[: len(whole) // 2],
            r"{file}'? (is damaged|cannot be read)|Cannot load the (tokenizer|model)",
        ),
        (
            lambda whole: b"<!DOCTYPE html><html>Sign in</html>",
            r"{file} is (a web page|not a GGUF)|cannot be read|tokenizer",
        ),
    ],
)
def test_a_file_that_is_not_whole_is_named(
    file: str, change: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    if file == "x.gguf":
        save_gguf(MODELS["llama"](), tiny_tokenizer(), folder / file)
    else:
        (save_bin if file.endswith(".bin") else save)(MODELS["llama"](), folder)
    (folder / file).write_bytes(change((folder / file).read_bytes()))
    refused(folder, words.format(file=file.replace(".", r"\.")))


def test_files_of_an_index_must_be_there_and_beside_it(tmp_path: Path) -> None:
    folder = save_bin(MODELS["gpt2"](), tmp_path / "m", files=3)
    (folder / "pytorch_model-00002-of-00003.bin").rename(tmp_path / "elsewhere.bin")
    refused(folder, r"lacks 1 of the 3 files of its weights: pytorch_model-00002-of-00003\.bin\. Download")
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(index.read_text().replace("pytorch_model-00002-of-00003.bin", "../elsewhere.bin"))
    refused(folder, r"names the weights '\.\./elsewhere\.bin', which is not in the same folder")


def test_the_parent_of_checkpoints_names_them(tmp_path: Path) -> None:
    for step in (1000, 200):
        save(MODELS["gpt2"](), tmp_path / "out" / f"checkpoint-{step}")
    refused(tmp_path / "out", r"Give one of them: .*/out/checkpoint-200, .*/out/checkpoint-1000\.$")
    assert load_model(str(tmp_path / "out" / "checkpoint-200"))


def test_a_folder_without_weights_says_what_it_has(tmp_path: Path) -> None:
    folder = save(MODELS["gpt2"](), tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    refused(folder, r"it has tf_model\.h5 instead of model\.safetensors or pytorch_model\.bin\. Give a folder")
    refused(folder / "config.json", r"config\.json is a file\. Give the folder of the model, ")
    refused(tmp_path / "nowhere", r"^No model at .*nowhere: the path does not exist\.$")


# -- tokenizers


@pytest.mark.parametrize("name", MODELS)
def test_without_a_tokenizer_all_architectures_say_the_same(name: str, tmp_path: Path) -> None:
    folder = save(MODELS[name](), tmp_path / "m", tokenizer=False)
    refused(folder, r"^The model \S+ has no tokenizer \(tokenizer\.json\)\. Name one by --tokenizer: ")


def test_a_tokenizer_that_lives_elsewhere_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(MODELS["gpt2"](), tmp_path / "m", tokenizer=False)
    tiny_tokenizer().save_pretrained(tmp_path / "t")
    monkeypatch.chdir(tmp_path)
    run = Run.create("run", "m", corpus(tmp_path), tokenizer="t")
    entry = json.loads((tmp_path / "run" / "manifest.json").read_text())["model"]
    assert entry["tokenizer_name"] == str(tmp_path / "t")
    monkeypatch.chdir("/")
    assert Run.open(tmp_path / "run").lm.tokenizer_fingerprint == run.lm.tokenizer_fingerprint
    refused(tmp_path / "m", r"--tokenizer \S+/m: there is no tokenizer", tokenizer=str(tmp_path / "m"))
    bare = tmp_path / "bare"
    bare.mkdir()
    (tmp_path / "t" / "tokenizer.json").rename(bare / "tokenizer.json")
    assert (
        load_model(str(tmp_path / "m"), tokenizer=str(bare)).tokenizer("Lily")["input_ids"]
        == (tiny_tokenizer()("Lily")["input_ids"])
    )


def test_a_token_beyond_the_embedding_is_named_with_its_line(tmp_path: Path) -> None:
    model = MODELS["gpt2"]()
    model.resize_token_embeddings(280)
    lm = load_model(str(save(model, tmp_path / "m")))
    path = tmp_path / "corpus.jsonl"
    path.write_text(json.dumps({"text": "xyz zyx"}) + "\n" + json.dumps({"text": "Lily found a shiny key"}))
    with pytest.raises(CorpusError, match=r"corpus\.jsonl:2: the token '.+' has number 2\d\d, .* 280 tokens only"):
        Run.create(tmp_path / "run", lm, path)
    assert not (tmp_path / "run").exists()
    path.write_text(json.dumps({"text": "xyz zyx"}))
    run = Run.create(tmp_path / "run", lm, path)
    with pytest.raises(HeadwaterError, match="This text: the token"):
        run.question("Once upon a time", " Lily found a shiny key")


# -- adapters


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in base/ and a LoRA adapter of it in lora/."""
    folder = tmp_path_factory.mktemp("adapters")
    save(MODELS["llama"](), folder / "base")
    adapted: Any = peft.get_peft_model(
        LlamaForCausalLM.from_pretrained(folder / "base"),  # pyright: ignore[reportArgumentType]
        peft.LoraConfig(r=2, target_modules=["up_proj", "down_proj"], task_type="CAUSAL_LM"),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    adapted.save_pretrained(folder / "lora")
    torch.save(adapted.get_base_model()(torch.arange(9)[None]).logits, folder / "logits.pt")
    return folder


def adapter_in(adapters: Path, folder: Path, change: Callable[[Any], Any] = dict, **config: Any) -> Path:
    """A copy of the adapter with changed tensors and configuration."""
    folder.mkdir()
    kept = json.loads((adapters / "lora" / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**kept, **config}))
    save_file(change(load_file(adapters / "lora" / "adapter_model.safetensors")), folder / "adapter_model.safetensors")
    return folder


def is_adapted(adapters: Path, lm: LanguageModel) -> bool:
    expected = torch.load(adapters / "logits.pt", weights_only=True)
    return torch.allclose(lm.model(torch.arange(9)[None]).logits, expected, atol=1e-5)


def test_an_adapter_of_either_format_is_applied(adapters: Path, tmp_path: Path) -> None:
    whole = load_model(str(adapters / "lora"))
    assert is_adapted(adapters, whole)
    folder = adapter_in(adapters, tmp_path / "bin")
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    assert load_model(str(folder)).fingerprint == whole.fingerprint
    torch.save({"a": Harm(f"touch {tmp_path / 'harmed'}")}, folder / "adapter_model.bin")
    refused(folder, r"adapter_model\.bin holds more than tensors")
    assert not (tmp_path / "harmed").exists()
    (folder / "adapter_model.bin").write_bytes(POINTER)
    refused(folder, r"adapter_model\.bin is a Git LFS pointer")


def test_an_adapter_in_the_folder_of_its_base_is_applied(adapters: Path, tmp_path: Path) -> None:
    folder = adapter_in(adapters, tmp_path / "both", base_model_name_or_path="/gone")
    save(MODELS["llama"](), folder)
    assert is_adapted(adapters, load_model(str(folder)))
    save(MODELS["llama"](), folder, lambda tensors: {k: each for k, each in tensors.items() if ".1." not in k})
    refused(folder, r"its files lack 9 weights \(model\.layers\.1\.")


def test_another_base_can_be_named(adapters: Path, tmp_path: Path) -> None:
    moved = adapter_in(adapters, tmp_path / "moved", base_model_name_or_path="/home/nobody/model")
    refused(moved, r"names the base model /home/nobody/model, which is not on this machine\. Name it with --base\.$")
    assert is_adapted(adapters, load_model(str(moved), base=str(adapters / "base")))
    arguments = ("fit", tmp_path / "run", "--model", moved, "--corpus", corpus(tmp_path))
    command(*arguments, "--base", adapters / "base")
    assert is_adapted(adapters, Run.open(tmp_path / "run").lm)
    refused(adapters / "base", "--base is for LoRA adapters", base=str(adapters / "base"))
    refused(moved, "is an adapter itself", base=str(adapters / "lora"))
    nowhere = adapter_in(adapters, tmp_path / "unnamed", base_model_name_or_path=None)
    refused(nowhere, "names no base model. Name it with --base")


def test_an_adapter_of_another_base_is_refused(adapters: Path, tmp_path: Path) -> None:
    wide = llama(intermediate_size=32)
    refused(
        adapters / "lora",
        r"is 2 × 24 in its files and 2 × 32.* Name another by --base",
        base=str(save(wide, tmp_path / "wide")),
    )
    short = llama(num_hidden_layers=1)
    refused(adapters / "lora", r"no place for 4 weights .*layers\.1", base=str(save(short, tmp_path / "short")))
    refused(adapters / "lora", r"Target modules .*--base", base=str(save(MODELS["gpt2"](), tmp_path / "gpt2")))


def test_an_adapter_that_lacks_a_weight_is_refused(adapters: Path, tmp_path: Path) -> None:
    half = adapter_in(adapters, tmp_path / "half", lambda tensors: {k: t for k, t in tensors.items() if ".1." not in k})
    refused(half, r"its file lacks 4 weights \(model\.layers\.1\.[\w.]+, .*, which would be random")
    for prefix in ("_orig_mod.", "base_model.model._orig_mod."):
        named = {k: prefix + k.removeprefix("base_model.model.") for k in load_file(half / "adapter_model.safetensors")}
        assert named
        folder = adapter_in(
            adapters,
            tmp_path / prefix.strip("."),
            lambda tensors, prefix=prefix: {
                (prefix + k) if prefix == "_orig_mod." else k.replace("base_model.model.", prefix): t
                for k, t in tensors.items()
            },
        )
        with pytest.warns(HeadwaterWarning, match="torch.compile"):
            assert is_adapted(adapters, load_model(str(folder)))


# -- models in memory


def test_a_model_in_memory_makes_a_run(tmp_path: Path) -> None:
    model = MODELS["gpt_neo"]()
    run = Run.create(tmp_path / "run", (model, tiny_tokenizer()), corpus(tmp_path))
    run.fit()
    answer = run.ask("Lily found", " 3 keys", k=6)
    again = Run.open(tmp_path / "run", (MODELS["gpt_neo"](), tiny_tokenizer())).ask("Lily found", " 3 keys", k=6)
    assert [each.id for each in again.proponents] == [each.id for each in answer.proponents]
    with pytest.raises(
        ModelError, match=r"made of a model in memory \(GPTNeo\w+ in memory\).*model=\(model, tokenizer\)"
    ):
        Run.open(tmp_path / "run")
    with pytest.raises(FingerprintMismatch):
        Run.open(tmp_path / "run", (MODELS["gpt2"](), tiny_tokenizer()))


def test_a_run_of_a_model_in_memory_gets_its_folder_later(tmp_path: Path) -> None:
    model = MODELS["llama"]()
    Run.create(tmp_path / "run", (model, tiny_tokenizer()), corpus(tmp_path)).fit()
    with pytest.raises(ModelError, match=rf"headwater fit {tmp_path}/run --model FOLDER$"):
        command("ask", tmp_path / "run", "Lily found", " 3 keys")
    folder = save(model, tmp_path / "m")
    command("fit", tmp_path / "run", "--model", folder)
    assert Run.open(tmp_path / "run").lm.name == str(folder)
    moved = folder.rename(tmp_path / "moved")
    command("fit", tmp_path / "run", "--model", moved)
    assert Run.open(tmp_path / "run").lm.name == str(moved)


def test_a_model_alone_brings_the_tokenizer_of_its_folder(tmp_path: Path) -> None:
    save(MODELS["llama"](), tmp_path / "m")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "m")
    run = Run.create(tmp_path / "run", model, corpus(tmp_path))  # pyright: ignore[reportArgumentType]
    assert run.lm.tokenizer("Lily")["input_ids"] == tiny_tokenizer()("Lily")["input_ids"]
    with pytest.raises(ModelError, match=r"Give both: model=\(model, tokenizer\)"):
        Run.create(tmp_path / "other", MODELS["llama"](), corpus(tmp_path))
    with pytest.raises(ModelError, match=r"dict is not a model\. Give the name"):
        Run.create(tmp_path / "other", {}, corpus(tmp_path))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match="device_map is for models that Headwater loads"):
        Run.create(tmp_path / "other", (model, tiny_tokenizer()), corpus(tmp_path), device_map="auto")


def test_an_adapter_in_memory_is_the_one_on_disk(adapters: Path, tmp_path: Path) -> None:
    adapted = peft.PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(adapters / "base"), adapters / "lora")  # pyright: ignore
    run = Run.create(tmp_path / "run", (adapted, tiny_tokenizer()), corpus(tmp_path))  # pyright: ignore[reportArgumentType]
    assert is_adapted(adapters, run.lm)
    assert run.lm.fingerprint == load_model(str(adapters / "lora")).fingerprint


def test_a_bf16_model_in_memory_is_differentiated_in_float32(tmp_path: Path) -> None:
    model = MODELS["llama"]().to(torch.bfloat16)
    run = Run.create(tmp_path / "run", (model, tiny_tokenizer()), corpus(tmp_path))
    assert run.lm.loading.dtype == "bf16"
    assert run.lm.float32_model.model.dtype == torch.float32
    assert model.dtype == torch.bfloat16, "the model that was given does not change"


# -- options of Run.create


def test_reading_options_are_keywords(tmp_path: Path) -> None:
    folder = save(MODELS["gpt2"](), tmp_path / "m")
    path = tmp_path / "stories.jsonl"
    path.write_text("\n".join(json.dumps({"story": f"Lily found {k} keys in the garden."}) for k in range(6)))
    run = Run.create(tmp_path / "run", str(folder), path, text_field="story", max_tokens=8, limit=3, dtype="bf16")
    assert len(run.corpus) == 3
    assert run.manifest.corpus.max_tokens == 8
    assert run.lm.loading.dtype == "bf16"
    with pytest.raises(
        HeadwaterError, match=r"no option 'text_feld'\. Did you mean text_field\? The options are dtype, "
    ):
        Run.create(tmp_path / "other", str(folder), path, text_feld="story")
    with pytest.raises(HeadwaterError, match="limit='3': limit must be a whole number"):
        Run.create(tmp_path / "other", str(folder), path, limit="3")
    assert not (tmp_path / "other").exists()


def test_a_model_that_is_whole_gives_no_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", HeadwaterWarning)
        for name, make in MODELS.items():
            load_model(str(save_bin(make(), tmp_path / name, more=masks(2, 64) if name == "gpt_neo" else {})))
