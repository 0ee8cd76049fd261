"""Every run says which share of the model's parameters it tracks, and which share of its MLPs'."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headwater.base.files import load_tensors, read_metadata, save_tensors
from headwater.cli import app
from headwater.lm.coverage import Coverage, coverage_of, percentage
from headwater.lm.layers import choose_layers
from headwater.runs.card import card_of
from headwater.runs.info import describe_run
from headwater.runs.run import Run
from headwater.serve.about import about
from tests.models import TEXT, plain_model, tiny_lm, tiny_tokenizer


def numbers_of(model: Any, *parts: str) -> int:
    """Of all parameters whose names contain one of `parts`."""
    return sum(p.numel() for name, p in model.named_parameters() if any(part in name for part in parts))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of a mixture of experts, and what `fit` said."""
    folder = tmp_path_factory.mktemp("coverage")
    plain_model("mixtral").float().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXT))
    asked = ["fit", str(folder / "run"), "--model", str(folder / "model"), "--corpus", str(folder / "texts.jsonl")]
    asked += ["--layers", "*.experts.*.down_proj"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    return folder / "run", result.output


def test_fit_info_card_and_server_tell_the_share(fitted: tuple[Path, str]) -> None:
    folder, said = fitted
    model = plain_model("mixtral")
    expected = Coverage(
        tracked=numbers_of(model, ".experts.down_proj"),
        parameters=numbers_of(model, ""),
        mlp_tracked=numbers_of(model, ".experts.down_proj"),
        mlp_parameters=numbers_of(model, ".mlp."),
    )
    words = "14.9 % of the model's parameters, 32.8 % of its MLPs'"
    assert expected.describe() == words
    assert f"It tracks {words}." in said
    curvature = describe_run(folder).curvature
    assert curvature is not None
    assert curvature.coverage == expected
    shown = CliRunner().invoke(app, ["info", str(folder)], env={"COLUMNS": "200"}).output
    assert f"tracks {words}" in shown
    whole = json.loads(CliRunner().invoke(app, ["info", str(folder), "--json"]).output)
    assert whole["curvature"]["coverage"]["mlp_tracked"] == expected.mlp_tracked
    assert f"parameters ({words}); fitted on" in card_of(folder, "me/run")
    told = about(Run.open(folder), queue=1).coverage
    assert told is not None
    assert (told.tracked, told.parameters, told.text) == (expected.tracked, expected.parameters, words)


def test_a_run_fitted_before_opens_without_the_share(fitted: tuple[Path, str]) -> None:
    folder = fitted[0]
    path = Run.open(folder).paths.curvature
    before = path.read_bytes()
    metadata = {name: text for name, text in read_metadata(path).items() if name not in ("coverage", "checksum")}
    old = [{key: text for key, text in one.items() if key != "token_share"} for one in json.loads(metadata["layers"])]
    try:
        save_tensors(path, load_tensors(path), metadata | {"layers": json.dumps(old)})
        found = describe_run(folder).curvature
        assert found is not None
        assert found.current
        assert found.coverage is None
        assert "share of the model not recorded" in CliRunner().invoke(app, ["info", str(folder)]).output
        assert about(Run.open(folder), queue=1).coverage is None
    finally:
        path.write_bytes(before)


def test_experts_and_routers_are_all_of_a_mixture() -> None:
    for architecture in ("mixtral", "gpt_oss"):
        model = tiny_lm(architecture).model
        found = coverage_of(model, choose_layers(model))
        assert found.mlp_tracked == found.mlp_parameters == numbers_of(model, ".mlp.")
        assert found.describe().endswith("parameters, all of its MLPs'")


def test_shares_of_other_models() -> None:
    """Biases count, tied weights once, and a model without MLPs has no share of them."""
    gpt2 = tiny_lm("gpt2").model
    whole = coverage_of(gpt2, choose_layers(gpt2))
    assert whole.mlp_tracked == whole.mlp_parameters == numbers_of(gpt2, ".mlp.")
    assert whole.parameters == numbers_of(gpt2, "")
    assert whole.describe().endswith("parameters, all of its MLPs'")
    bare = replace(whole, mlp_tracked=0, mlp_parameters=0)
    assert bare.describe().endswith("of the model's parameters")


def test_only_all_is_all() -> None:
    assert [percentage(part, 100_000) for part in (0, 1, 50_040, 99_999, 100_000)] == [
        "none",
        "0.1 %",
        "50 %",
        "99.9 %",
        "all",
    ]
