"""Metrics of our own, on pictures and flows whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose

from napari_flowmag import FlowmagError
from napari_flowmag.metrics import (
    achieved_factors,
    relative_stillness,
    sharpness_kept,
    stillness,
)
from napari_flowmag.synthetic.clips import shift_periodic, texture

SMALL = st.tuples(*(st.integers(low, high) for low, high in ((1, 3), (1, 3), (3, 12), (3, 12))))
quickly = settings(deadline=None, max_examples=30)


@pytest.fixture(scope="module")
def pattern() -> np.ndarray:
    return texture((40, 48), np.random.default_rng(0))[None]


@pytest.fixture
def flow() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 20, 24)) + 0.5


@pytest.mark.parametrize("factor", [-2.0, 0.0, 1.0, 9.0, 10.0])
def test_the_factor_of_an_exact_flow(flow: np.ndarray, factor: float) -> None:
    (found,) = achieved_factors(torch.from_numpy(factor * flow), flow).values()
    assert_allclose([found.value, found.low, found.high], factor, atol=1e-9)
    lengths = np.hypot(*flow)
    assert found.motion == pytest.approx(lengths.max())
    assert found.count == (lengths >= 0.01).sum()


def test_each_region_has_its_own_factor(flow: np.ndarray) -> None:
    labels = np.zeros((20, 24), dtype=np.uint8)
    labels[:, 4:12], labels[:, 12:] = 3, 7
    factor = np.select([labels == 3, labels == 7], [5.0, 9.0], 100.0)
    found = achieved_factors(factor * flow, flow, labels)
    assert list(found) == [3, 7]
    assert found[3].value == pytest.approx(5)
    assert found[7].value == pytest.approx(9)
    assert found[3].count == 160


def test_a_third_of_wrong_pixels_shows_in_the_spread_only(flow: np.ndarray) -> None:
    output = 10 * flow
    output[:, ::3] = 0
    (found,) = achieved_factors(output, flow).values()
    assert found.value == pytest.approx(10)
    assert found.low == pytest.approx(0, abs=0.1)
    assert found.high == pytest.approx(10)


def test_what_moves_too_little_does_not_count(flow: np.ndarray) -> None:
    given = np.zeros_like(flow)
    given[0, :2] = 0.5
    given[0, 2:] = 0.04
    (found,) = achieved_factors(np.full_like(flow, 5.0), given, floor=0.05).values()
    assert found.count == 48
    assert found.value == pytest.approx(10)
    assert achieved_factors(flow, 0 * flow) == {}
    assert achieved_factors(flow, flow, np.zeros((20, 24), dtype=bool)) == {}


@quickly
@given(
    labels=hnp.arrays(np.int8, (6, 7), elements=st.integers(-1, 3)),
    scale=st.floats(0.5, 100),
    turn=st.floats(0, 6.3),
)
def test_factors_do_not_depend_on_direction_or_unit(
    labels: np.ndarray, scale: float, turn: float
) -> None:
    rng = np.random.default_rng(0)
    given, output = rng.normal(size=(2, 2, 6, 7))
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    first = achieved_factors(output, given, labels, floor=1e-6)
    second = achieved_factors(
        np.einsum("ij,jhw->ihw", rotation, output),
        np.einsum("ij,jhw->ihw", rotation, given),
        labels,
        floor=1e-6,
    )
    assert first.keys() == second.keys() == set(np.unique(labels).tolist()) - {0}
    for label, factor in first.items():
        assert second[label].value == pytest.approx(factor.value, rel=1e-6, abs=1e-9)
        assert factor.low <= factor.value <= factor.high


def test_stillness_of_a_known_change() -> None:
    reference = np.full((2, 3, 6, 8), 100.0)
    magnified = reference.copy()
    magnified[1, :, :, 4:] += 51
    magnified[1, :, :, :4] -= 500  # where it may move
    still = np.zeros((6, 8), dtype=bool)
    still[:, 4:] = True
    assert_allclose(stillness(magnified, reference, still, 255), [0, 51])
    assert_allclose(stillness(magnified, reference, still, 510), [0, 25.5])
    frame = reference + 3
    assert_allclose(relative_stillness(magnified, frame, reference, still), [0, 17])


def test_noise_that_is_amplified_shows() -> None:
    rng = np.random.default_rng(0)
    reference, frame = 0.5 + rng.normal(size=(2, 1, 3, 12, 14)) / 50
    everywhere = np.ones((12, 14))
    for factor in (0.0, 1.0, 7.0):
        magnified = reference + factor * (frame - reference)
        assert relative_stillness(magnified, frame, reference, everywhere) == pytest.approx(factor)


def test_without_anything_to_compare_with_it_is_nan() -> None:
    picture = np.random.default_rng(0).random((1, 3, 5, 5))
    assert np.isnan(stillness(picture, picture, np.zeros((5, 5))))
    assert np.isnan(relative_stillness(picture + 1, picture, picture, np.ones((5, 5))))
    assert np.isnan(sharpness_kept(picture, picture, np.zeros((5, 5))))
    assert np.isnan(sharpness_kept(picture, np.ones_like(picture)))


def test_a_moved_picture_stays_as_sharp(pattern: np.ndarray) -> None:
    moved = shift_periodic(pattern, 2.3, -1.6)
    assert sharpness_kept(moved, pattern) == pytest.approx(1, abs=0.02)
    assert sharpness_kept(np.roll(pattern, (7, 3), (-1, -2)), pattern) == pytest.approx(1, abs=0.05)


def test_blur_loses_sharpness_and_noise_adds_to_it(pattern: np.ndarray) -> None:
    doubled = (pattern + shift_periodic(pattern, 3.0, 0.0)) / 2
    noisy = pattern + np.random.default_rng(0).normal(size=pattern.shape) / 20
    assert sharpness_kept(doubled, pattern) < 0.8
    assert sharpness_kept(noisy, pattern) > 1.2
    assert sharpness_kept(0.5 * pattern, pattern) == pytest.approx(0.25)


def test_sharpness_within_a_mask() -> None:
    ramp = np.tile(np.arange(8.0), (1, 1, 6, 1))
    other = ramp.copy()
    other[..., 4:] = 4 + 3 * (other[..., 4:] - 4)
    left = np.zeros((6, 8))
    left[:, :4] = 1
    assert sharpness_kept(other, ramp, left) == pytest.approx(1)
    # of the columns on the right, three have a slope of 3 and the last has no neighbour
    assert sharpness_kept(other, ramp, 1 - left) == pytest.approx(9)


@quickly
@given(shape=SMALL, offset=st.floats(-10, 10), gain=st.floats(0.1, 10))
def test_shapes_and_invariances(shape: tuple[int, ...], offset: float, gain: float) -> None:
    rng = np.random.default_rng(0)
    magnified, frame, reference = rng.random((3, *shape))
    still = rng.random(shape[2:]) < 0.7
    still[0, 0] = True
    change = stillness(magnified, reference, still)
    ratio = relative_stillness(magnified, frame, reference, still)
    sharp = sharpness_kept(magnified, reference, still)
    assert change.shape == ratio.shape == sharp.shape == (shape[0],)
    other = [gain * x + offset for x in (magnified, frame, reference)]
    batch = np.broadcast_to(still, (shape[0], 1, *shape[2:]))
    assert_allclose(stillness(other[0], other[2], batch, gain), change, rtol=1e-6)
    assert_allclose(relative_stillness(*other, batch), ratio, rtol=1e-6)
    assert_allclose(sharpness_kept(other[0], other[2], batch), sharp, rtol=1e-6)
    assert_allclose(sharpness_kept(reference, reference, still), 1)
    assert_allclose(stillness(reference, reference, still), 0)
    assert_allclose(relative_stillness(frame, frame, reference, still), 1)


def test_shapes_that_do_not_fit_are_named() -> None:
    picture = np.zeros((1, 3, 6, 8))
    with pytest.raises(FlowmagError, match=r"mask \(H, W\)"):
        stillness(picture, picture, np.ones((8, 6)))
    with pytest.raises(FlowmagError, match="two batches"):
        sharpness_kept(picture, picture[..., 1:])
    with pytest.raises(FlowmagError, match="labels"):
        achieved_factors(np.zeros((2, 6, 8)), np.zeros((2, 6, 8)), np.ones((8, 6)))
    with pytest.raises(FlowmagError, match="flows"):
        achieved_factors(np.zeros((3, 6, 8)), np.zeros((3, 6, 8)))
