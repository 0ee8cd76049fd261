"""Ladder 2 and 3: A, S, Λ against brute force in float64; EK-FAC against the dense damped Fisher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headwater.attribution.preconditioned import SequenceGradients
from headwater.corpus.batches import TokenSequence
from headwater.curvature import covariances as covariances_module
from headwater.curvature import eigen as eigen_module
from headwater.curvature.base import Curvature, Eigenbasis, EigenCurvature, identity
from headwater.curvature.covariances import Covariances
from headwater.curvature.damping import Damping, parse_damping
from headwater.curvature.eigen import Eigenbases, Eigenvalues, eigendecompose
from headwater.curvature.exact import DenseFisher, ExactCurvature
from headwater.curvature.fit import fit_curvature
from headwater.curvature.store import load_curvature, save_curvature
from headwater.curvature.workbench import Workbench
from headwater.errors import HeadwaterError
from headwater.gradients.basis import Basis, spans
from headwater.gradients.factored import FactoredGradient, per_example
from headwater.lm.capture import Labels
from headwater.lm.layers import TrackedLayer, choose_layers
from headwater.lm.load import LanguageModel
from headwater.sweep.sweep import Sweep, fold
from tests.models import VOCABULARY, plain_model, tiny_lm
from tests.oracle import assert_near, example_gradients, keep, random_sequences

Kind = str | Literal["blocks"]
"""`blocks` is EK-FAC with block-diagonal covariances."""


@pytest.fixture(scope="module")
def sequences() -> list[TokenSequence]:
    return random_sequences(40, VOCABULARY, seed=7)


def brute_force_factors(
    architecture: str, layers: list[TrackedLayer], sequences: list[TokenSequence]
) -> dict[str, tuple[Tensor, Tensor]]:
    """A [I, I] and S [O, O] of every layer by forward hooks and plain autograd on one unpadded text at a time."""
    model = plain_model(architecture).requires_grad_(True)
    sums: dict[str, tuple[Any, Any]] = {}
    tokens = sum(len(s.input_ids) for s in sequences)
    for sequence in sequences:
        kept: dict[str, tuple[Tensor, Tensor]] = {}
        handles = [model.get_submodule(x.name).register_forward_hook(keep(kept, x.name)) for x in layers]
        ids = torch.from_numpy(sequence.input_ids)
        loss = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="sum")
        gradients = torch.autograd.grad(loss, [kept[x.name][1] for x in layers])
        for handle in handles:
            handle.remove()
        for x, g in zip(layers, gradients, strict=True):
            a = kept[x.name][0][0].detach()
            a = torch.cat([a, torch.ones(len(a), 1)], 1) if x.bias else a
            A, S = sums.get(x.name, (0, 0))
            sums[x.name] = (A + a.t() @ a / tokens, S + g[0].t() @ g[0] / tokens)
    return sums


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
@pytest.mark.parametrize("block", [1, 7, 512], ids=["by rows", "in blocks", "whole"])
@pytest.mark.parametrize("width", [None, 10], ids=["dense", "block-diagonal"])
def test_covariances_are_means_over_real_tokens(
    architecture: str, block: int, width: int | None, sequences: list[TokenSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covariances_module, "WIDE_BLOCK", block)
    lm = tiny_lm(architecture)
    layers = choose_layers(lm.model)
    found = fold(
        Sweep(stage="", lm=lm, layers=layers, sequences=sequences, tokens_in_batch=64),
        lambda: Covariances(layers, width),
    )
    expected = brute_force_factors(architecture, layers, sequences)
    names = iter(found.names)
    for layer in layers:
        A, S = expected[layer.name]
        for matrix in (A, S) if layer.name == layer.group else (S,):
            for span in spans(len(matrix), width):
                assert_near(found.covariance(next(names)), matrix[span, span])
    assert next(names, None) is None


def test_eigenvalues_are_the_mean_squared_rotated_gradients(sequences: list[TokenSequence]) -> None:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)
    torch.manual_seed(0)
    bases = {x.name: (_basis(x.inputs, 10), _basis(x.outputs)) for x in layers}
    found = fold(
        Sweep(stage="", lm=lm, layers=layers, sequences=sequences, tokens_in_batch=64),
        lambda: Eigenvalues(layers, bases),
    )
    gradients = example_gradients(plain_model("gpt_neo"), [x.name for x in layers], sequences)
    for x in layers:
        q_a, q_s = (basis.dense() for basis in bases[x.name])
        expected = torch.stack([(q_s.t() @ G @ q_a) ** 2 for G in gradients[x.name]]).mean(0)
        assert_near(found.mean(x.name), expected)


def test_sampled_labels_follow_the_model_and_not_the_batch() -> None:
    """The sampled Fisher is the model's own: over many seeds the mean gradient vanishes, as the score's must."""
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)[:1]
    sequences = random_sequences(4, VOCABULARY, seed=2)
    means = []
    for seed in range(400):
        sampled = Labels("sampled", seed)
        means.append(_gradients(lm, layers, sequences, sampled, 1000).flatten(1))
    stacked = torch.stack(means)
    z = stacked.mean(0) / (stacked.std(0) / len(means) ** 0.5 + 1e-12)
    assert float(z.abs().mean()) < 1.0  # standard normal: 0.80
    one = _gradients(lm, layers, sequences, Labels("sampled", 5), 1000)
    other = _gradients(lm, layers, sequences[::-1], Labels("sampled", 5), 25).flip(0)
    assert_near(one, other, 1e-9)
    assert not torch.allclose(one, _gradients(lm, layers, sequences, Labels("sampled", 6), 1000))


def _gradients(
    lm: LanguageModel, layers: Sequence[TrackedLayer], sequences: list[TokenSequence], labels: Labels, budget: int
) -> Tensor:
    sweep = Sweep(stage="", lm=lm, layers=layers, sequences=sequences, labels=labels, tokens_in_batch=budget)
    found = fold(sweep, lambda: SequenceGradients(layers)).by_layer()
    return torch.cat([found[layer.name].flatten(1) for layer in layers], dim=1)


@given(rows=st.integers(1, 17), columns=st.integers(1, 17), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_to_and_from_the_eigenbasis_is_the_identity(rows: int, columns: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    Q_A, Q_S = _basis(columns, width), _basis(rows, width)
    basis = Eigenbasis(Q_A, Q_S, torch.ones(rows, columns).double())
    G = torch.randn(2, rows, columns).double()
    torch.testing.assert_close(basis.to_eigenbasis(G), Q_S.dense().t() @ G @ Q_A.dense())
    torch.testing.assert_close(basis.from_eigenbasis(basis.to_eigenbasis(G)), G)
    layer = TrackedLayer(name="x", inputs=columns, outputs=rows, bias=False, group="x")
    unit = EigenCurvature("ekfac", (layer,), {"x": basis}, Damping(None, 0.0))
    torch.testing.assert_close(unit.precondition({"x": G})["x"], G)  # Λ = 1, λ = 0 gives the gradient back


@pytest.mark.parametrize("kind", ["ekfac", "blocks", "kfac", "diagonal", "exact"])
def test_every_kind_inverts_what_it_claims(kind: Kind, sequences: list[TokenSequence], tmp_path) -> None:
    """`precondition` then the damped curvature built densely by hand gives the gradient back."""
    curvature = _fit(kind, sequences, tmp_path)
    torch.manual_seed(0)
    G = {x.name: torch.randn(3, x.outputs, x.inputs).double() for x in curvature.layers}
    R = curvature.precondition(G)
    dense = _dense(curvature)
    vectors = torch.cat([R[x.name].flatten(1) for x in curvature.layers], 1) @ dense
    assert_near(vectors, torch.cat([G[x.name].flatten(1) for x in curvature.layers], 1), 1e-6)


@pytest.mark.parametrize("kind", ["ekfac", "blocks", "kfac", "diagonal", "exact", "identity"])
def test_self_influence_is_an_examples_influence_on_itself(
    kind: Kind, sequences: list[TokenSequence], tmp_path
) -> None:
    curvature = _fit(kind, sequences, tmp_path)
    torch.manual_seed(0)
    factored = {
        x.name: FactoredGradient(torch.randn(4, 9, x.inputs).double(), torch.randn(4, 9, x.outputs).double())
        for x in curvature.layers
    }
    G = {name: per_example(gradient) for name, gradient in factored.items()}
    R = curvature.precondition(G)
    expected = torch.stack([(R[name] * G[name]).sum((1, 2)) for name in G]).sum(0)
    assert_near(curvature.self_influence(factored), expected, 1e-9)


@pytest.mark.parametrize("kind", ["ekfac", "blocks", "kfac", "diagonal", "exact", "identity"])
def test_a_curvature_survives_the_disk(kind: Kind, sequences: list[TokenSequence], tmp_path: Path) -> None:
    curvature = _fit(kind, sequences, tmp_path)
    save_curvature(tmp_path / "c.safetensors", curvature, {"model": "m"})
    loaded, metadata = load_curvature(tmp_path / "c.safetensors", Damping())
    G = {x.name: torch.ones(1, x.outputs, x.inputs).double() for x in curvature.layers}
    assert metadata["model"] == "m"
    assert loaded.kind == curvature.kind
    for name, expected in curvature.precondition(G).items():
        torch.testing.assert_close(loaded.precondition(G)[name], expected)


def test_ekfac_equals_the_dense_inverse_where_theory_says_so() -> None:
    """Independent a and g with their own eigenvectors as support: the Fisher is diagonal in the Kronecker basis."""
    torch.manual_seed(0)
    inputs, outputs = 4, 3
    q_a, q_s = _orthogonal(inputs), _orthogonal(outputs)
    scale_a, scale_g = torch.tensor([1.0, 2, 3, 4]).double(), torch.tensor([1.0, 5, 9]).double()
    a = torch.stack([q_a[:, i] * scale_a[i] for i in range(inputs) for _ in range(outputs)])[:, None]
    g = torch.stack([q_s[:, o] * scale_g[o] for _ in range(inputs) for o in range(outputs)])[:, None]
    gradient = FactoredGradient(a, g)
    layer = TrackedLayer(name="x", inputs=inputs, outputs=outputs, bias=False, group="x")
    damping = Damping()
    ekfac, exact, kfac = _three_kinds(layer, gradient, damping)
    G = torch.randn(2, outputs, inputs).double()
    expected = exact.precondition({"x": G})["x"]
    torch.testing.assert_close(ekfac.precondition({"x": G})["x"], expected)
    torch.testing.assert_close(kfac.precondition({"x": G})["x"], expected)


def test_ekfac_is_exact_for_a_single_example_and_kfac_is_not() -> None:
    """One example of one token: H = vec(G) vec(G)ᵀ has one eigenvector, which EK-FAC's basis holds."""
    torch.manual_seed(1)
    gradient = FactoredGradient(torch.randn(1, 1, 4).double(), torch.randn(1, 1, 3).double())
    ekfac, exact, _ = _three_kinds(
        TrackedLayer(name="x", inputs=4, outputs=3, bias=False, group="x"), gradient, Damping()
    )
    G = torch.randn(2, 3, 4).double()
    torch.testing.assert_close(ekfac.precondition({"x": G})["x"], exact.precondition({"x": G})["x"])


def test_ekfac_is_closer_to_the_fisher_than_kfac(tmp_path: Path) -> None:
    """In Frobenius norm by George et al.'s theorem, and in the influences that follow from it."""
    sequences = random_sequences(120, VOCABULARY, seed=11)
    queries = random_sequences(12, VOCABULARY, seed=12)
    kinds: list[str] = ["exact", "ekfac", "kfac", "diagonal"]
    lm = tiny_lm("gpt_neo")
    curvatures = {kind: _fit(kind, sequences, tmp_path / kind, one_layer=True) for kind in kinds}
    fisher = _dense(curvatures["exact"], damped=False)
    distance = {kind: float((_dense(c, damped=False) - fisher).norm()) for kind, c in curvatures.items()}
    assert distance["ekfac"] < distance["kfac"]
    layers = list(curvatures["exact"].layers)
    Z = _gradients(lm, layers, sequences, Labels(), 500)
    Q = _gradients(lm, layers, queries, Labels(), 500)

    def influences(kind: str) -> Tensor:
        shaped = {layers[0].name: Q.reshape(-1, layers[0].outputs, layers[0].inputs)}
        return (curvatures[kind].precondition(shaped)[layers[0].name].flatten(1) @ Z.t()).flatten()

    def agreement(kind: str) -> float:
        return float(torch.corrcoef(torch.stack([influences(kind), influences("exact")]))[0, 1])

    assert agreement("ekfac") > agreement("kfac")
    assert agreement("ekfac") > agreement("diagonal")


def test_damping_is_a_tenth_of_each_layers_own_mean(sequences: list[TokenSequence], tmp_path: Path) -> None:
    curvature = _fit("ekfac", sequences, tmp_path)
    assert isinstance(curvature, EigenCurvature)
    for name, inverse in curvature.inverse_eigenvalues.items():
        eigenvalues = curvature.bases[name].eigenvalues
        torch.testing.assert_close(1 / inverse - eigenvalues, torch.full_like(inverse, 0.1 * float(eigenvalues.mean())))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Damping(0.1)),
        ("1e-5", Damping(None, 1e-5)),
        ("0.01*mean", Damping(0.01)),
        (0.5, Damping(None, 0.5)),
    ],
)
def test_damping_is_read_as_written(text: str | float | None, expected: Damping) -> None:
    assert parse_damping(text) == expected


@pytest.mark.parametrize("text", ["-1", "much", "nan", "inf", "1*median"])
def test_a_bad_damping_is_refused(text: str) -> None:
    with pytest.raises(HeadwaterError, match="is not a damping"):
        parse_damping(text)


def test_no_curvature_and_no_damping_is_an_error_and_never_a_nan() -> None:
    layer = TrackedLayer(name="x", inputs=2, outputs=2, bias=False, group="x")
    flat = EigenCurvature("ekfac", (layer,), {"x": Eigenbasis(None, None, torch.eye(2))}, Damping(None, 0.0))
    with pytest.raises(HeadwaterError, match="zero curvature"):
        flat.precondition({"x": torch.ones(1, 2, 2)})
    dead = EigenCurvature("ekfac", (layer,), {"x": Eigenbasis(None, None, torch.zeros(2, 2))}, Damping())
    with pytest.raises(HeadwaterError, match="no gradient reaches it"):
        dead.precondition({"x": torch.ones(1, 2, 2)})


def test_the_dense_fisher_is_refused_for_large_models() -> None:
    from headwater.curvature import exact as exact_module

    layers = [TrackedLayer(name="x", inputs=1000, outputs=1000, bias=False, group="x")]
    with pytest.raises(HeadwaterError, match=r"limit is 8,192 tracked parameters"):
        exact_module.refuse_if_large(layers)


def test_an_inaccurate_eigendecomposition_is_repeated_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(40, 40)
    matrix = x @ x.t()
    calls: list[torch.dtype] = []

    def careless(m: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(m.dtype)
        values, vectors = torch.linalg.eigh(m)
        return values, vectors + (0.01 if m.dtype == torch.float32 else 0)

    monkeypatch.setattr(eigen_module, "_eigh", careless)
    values, vectors = eigendecompose(matrix)
    assert calls == [torch.float32, torch.float64]
    torch.testing.assert_close(vectors * values @ vectors.t(), matrix, rtol=1e-4, atol=1e-3)


def _orthogonal(n: int) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n).double())[0]


def _basis(n: int, width: int | None = None) -> Basis:
    """Random directions, in blocks of at most `width`."""
    return Basis(tuple(_orthogonal(len(range(n)[span])) for span in spans(n, width)))


def _fit(kind: Kind, sequences: list[TokenSequence], folder: Path, one_layer: bool = False) -> Curvature:
    lm = tiny_lm("gpt_neo")
    layers = choose_layers(lm.model)[: 1 if one_layer else 4]
    sweep = Sweep(
        stage="fit", lm=lm, layers=layers, sequences=sequences, labels=Labels("sampled", 0), tokens_in_batch=300
    )
    if kind == "identity":
        unit = identity(layers)
        bases = {n: Eigenbasis(None, None, b.eigenvalues.double()) for n, b in unit.bases.items()}
        return EigenCurvature("identity", unit.layers, bases, unit.damping)
    if kind == "blocks":
        return fit_curvature("ekfac", sweep, Workbench(folder, "test"), block_width=10)
    return fit_curvature(kind, sweep, Workbench(folder, "test"))


def _dense(curvature: Curvature, damped: bool = True) -> Tensor:
    """H + λI, [P, P], built from the definition of each kind by Kronecker products."""
    if isinstance(curvature, ExactCurvature):
        dense, start = curvature.fisher.clone(), 0
        for x in curvature.layers:
            block = dense.diagonal()[start : start + x.parameters]
            block += 0.1 * block.mean() if damped else 0
            start += x.parameters
        return dense
    assert isinstance(curvature, EigenCurvature)
    blocks = []
    for x in curvature.layers:
        b = curvature.bases[x.name]
        q_a = torch.eye(x.inputs).double() if b.input_basis is None else b.input_basis.dense()
        q_s = torch.eye(x.outputs).double() if b.output_basis is None else b.output_basis.dense()
        Q = torch.kron(q_s.contiguous(), q_a.contiguous())
        eigenvalues = b.eigenvalues.flatten() + (0.1 * b.eigenvalues.mean() if damped else 0)
        blocks.append(Q @ torch.diag(eigenvalues) @ Q.t())
    return torch.block_diag(*blocks)


def _three_kinds(layer: TrackedLayer, gradient: FactoredGradient, damping: Damping):
    """EK-FAC, the dense Fisher and K-FAC of one layer from given factors, through the project's own reducers."""
    from headwater.corpus.batches import Batch

    n, tokens = gradient.activations.shape[:2]
    batch = Batch(
        rows=np.arange(n),
        ids=[str(i) for i in range(n)],
        keys=np.zeros(n, np.uint64),
        input_ids=np.zeros((n, tokens), np.int64),
        lengths=np.full(n, tokens),
        targets=np.ones((n, tokens), bool),
    )
    covariances, dense = Covariances([layer]), DenseFisher([layer])
    covariances.update(batch, {"x": gradient})
    dense.update(batch, {"x": gradient})
    tensors = {}
    for name in covariances.names:
        tensors[f"λ {name}"], tensors[f"Q {name}"] = eigendecompose(covariances.covariance(name))
    found = Eigenbases(tensors)
    pairs = found.pairs([layer])
    eigenvalues = Eigenvalues([layer], pairs)
    eigenvalues.update(batch, {"x": gradient})
    fitted = Eigenbasis(*pairs["x"], eigenvalues.mean("x"))
    factored = Eigenbasis(*pairs["x"], found.outer(layer) * covariances.tokens_per_example)
    return (
        EigenCurvature("ekfac", (layer,), {"x": fitted}, damping),
        ExactCurvature((layer,), dense.total / dense.examples, damping),
        EigenCurvature("kfac", (layer,), {"x": factored}, damping),
    )
