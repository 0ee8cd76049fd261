"""Sketches: what they keep of a dot product, against the exact one in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headwater.attribution.index.kernels import BLOCK, look_up
from headwater.attribution.index.planes import LARGEST, MOST_PLANES, Planes, hadamard
from headwater.attribution.index.sketch import sketch_of_width
from headwater.errors import HeadwaterError


def of_width(dimensions: int, width: int, seed: int = 0) -> Planes:
    sketch = sketch_of_width(dimensions, width, seed)
    assert isinstance(sketch, Planes)
    return sketch


def estimates(sketch: Planes, rows: NDArray[Any], query: NDArray[Any]) -> NDArray[np.float64]:
    codes = sketch.encode(rows)
    sums = np.zeros(len(rows), np.float32)
    look_up(codes.codes, np.arange(len(rows)), sketch.table(query), sums)
    return sums.astype(np.float64) * codes.scales


def decoded(sketch: Planes, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[n, blocks, 128] what the codes stand for, by the definition: a step along one signed row of a Hadamard matrix a
    plane."""
    total = np.zeros((len(codes), sketch.blocks, BLOCK))
    for plane, code in enumerate(codes.reshape(len(codes), sketch.planes, sketch.blocks).swapaxes(0, 1)):
        sign = np.where(code >= BLOCK, -1.0, 1.0)
        total += sketch.steps[plane] * sign[..., None] * hadamard()[code % BLOCK] * sketch.signs[plane]
    return total


shapes = st.tuples(st.integers(1, 3000), st.integers(64, 2048), st.integers(0, 5))


@given(shapes)
@settings(max_examples=25)
def test_an_estimate_is_the_dot_product_with_what_the_code_stands_for(shape: tuple[int, int, int]) -> None:
    dimensions, width, seed = shape
    sketch = of_width(dimensions, width, seed)
    assert sketch.bytes <= width
    rng = np.random.default_rng(seed)
    rows, query = rng.standard_normal((3, dimensions)), rng.standard_normal(dimensions)
    codes = sketch.encode(rows)
    standing = decoded(sketch, codes.codes)
    expected = np.einsum("nbj,bj->n", standing, sketch.fold(query[None])[0]) * codes.scales
    found = estimates(sketch, rows, query)
    scale = np.abs(rows).sum() / 3 * np.abs(query).max()
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale, rtol=1e-4)
    # Without bias: every row's estimate of its own folded squared norm is exact.
    folded = sketch.fold(rows)
    np.testing.assert_allclose(
        np.einsum("nbj,nbj->n", standing, folded) * codes.scales, np.square(rows).sum(axis=1), rtol=1e-3
    )


@given(shapes)
@settings(max_examples=25)
def test_every_byte_names_the_largest_rotated_coordinate_of_what_is_left(shape: tuple[int, int, int]) -> None:
    dimensions, width, seed = shape
    sketch = of_width(dimensions, width, seed)
    rows = np.random.default_rng(seed).standard_normal((2, dimensions))
    codes = sketch.encode(rows).codes.reshape(2, sketch.planes, sketch.blocks).astype(int)
    energy = np.square(rows).sum(axis=1)
    rest = sketch.fold(rows).astype(np.float64) * np.sqrt(sketch.coordinates / energy)[:, None, None]
    for plane in range(sketch.planes):
        turned = (rest * sketch.signs[plane]) @ hadamard()
        noted = np.take_along_axis(turned, codes[:, plane, :, None] % BLOCK, 2)[..., 0]
        np.testing.assert_allclose(np.abs(noted), np.abs(turned).max(axis=2), rtol=1e-3, atol=1e-4)
        sign = np.where(codes[:, plane] >= BLOCK, -1, 1)
        assert (noted * sign >= -1e-4).all()
        rest -= sketch.steps[plane] * sign[..., None] * hadamard()[codes[:, plane] % BLOCK] * sketch.signs[plane]


def test_folding_keeps_every_coordinate_once() -> None:
    sketch = Planes(dimensions=1000, blocks=3, planes=1)
    weights = np.stack([sketch.fold(row[None])[0].ravel() for row in np.eye(1000)])
    assert (np.abs(weights).sum(axis=1) == 1).all()
    assert np.abs(weights).sum(axis=0).max() <= -(-1000 // sketch.coordinates)


@pytest.mark.parametrize("width", [512, 2048, 8192])
def test_the_noise_of_an_estimate_is_what_the_sketch_says(width: int) -> None:
    """Gradients in general position: pairs at a known angle, whose estimates scatter as foretold, without bias."""
    rng = np.random.default_rng(width)
    dimensions = 40_000
    query = rng.standard_normal(dimensions)
    rows = 0.1 * query + rng.standard_normal((400, dimensions))
    sketch = of_width(dimensions, width)
    exact = rows @ query
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    errors = (estimates(sketch, rows, query) - exact) / norms
    assert errors.std() == pytest.approx(sketch.noise, rel=0.15)
    assert abs(errors.mean()) < 4 * sketch.noise / 20


def test_more_bytes_are_less_noise_and_the_same_seed_the_same_bytes() -> None:
    noises = [of_width(100_000, width).noise for width in (256, 512, 1024, 2048, 4096, 8192)]
    assert noises == sorted(noises, reverse=True)
    rows = np.random.default_rng(0).standard_normal((5, 5000))
    codes = [of_width(5000, 512, seed).encode(rows).codes for seed in (0, 0, 1)]
    assert (codes[0] == codes[1]).all()
    assert (codes[0] != codes[2]).any()


def test_a_width_gives_planes_up_to_sixteen_and_folds_what_has_no_room() -> None:
    assert of_width(1_000_000_000, 8192).coordinates == 8192 * BLOCK
    assert of_width(1000, 8192).planes == MOST_PLANES
    assert of_width(148_416, 8192).planes == 7
    with pytest.raises(HeadwaterError, match="between 64 and"):
        sketch_of_width(1000, 10)


def test_a_gradient_of_zeros_is_estimated_as_zero() -> None:
    sketch = of_width(1000, 256)
    rows = np.zeros((2, 1000))
    rows[1, 3] = 2.0
    found = estimates(sketch, rows, np.ones(1000))
    assert found[0] == 0
    assert np.isfinite(found).all()


def test_the_largest_of_128_is_as_large_as_the_constant_says() -> None:
    drawn = np.abs(np.random.default_rng(0).standard_normal((40_000, BLOCK))).max(axis=1)
    assert drawn.mean() == pytest.approx(LARGEST, abs=0.01)
