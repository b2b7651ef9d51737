from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from napari_flowmag import FlowmagError
from napari_flowmag.metrics import magnification_error, motion_error, psnr, ssim


@pytest.fixture
def stored(data: Path) -> dict[str, np.ndarray]:
    with np.load(data / "authors_losses_metrics.npz") as file:
        return dict(file)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("metric", [motion_error, magnification_error])
def test_motion_metrics_are_the_authors(stored, metric, kind) -> None:
    output, given = stored["flow_pred"][:, 0], stored["flow_src"][:, 0]
    error = metric(kind(output), kind(given), kind(stored["alphas"]))
    assert_allclose(error, stored[metric.__name__], atol=1e-5)


@pytest.mark.parametrize("metric", [motion_error, magnification_error])
def test_alpha_may_be_a_number_or_a_map(metric) -> None:
    rng = np.random.default_rng(0)
    output, given = rng.normal(size=(2, 3, 2, 8, 9))
    expected = metric(output, given, [4.0, 4.0, 4.0])
    assert_allclose(metric(output, given, 4), expected)
    assert_allclose(metric(output, given, np.full((3, 1, 8, 9), 4.0)), expected)


def test_exact_magnification_has_no_error() -> None:
    flow = np.random.default_rng(0).normal(size=(2, 2, 8, 9)) + 3
    assert_allclose(motion_error(5 * flow, flow, 5), 0, atol=1e-12)
    # The authors' 1e-4 in the denominator leaves a little.
    assert_allclose(magnification_error(5 * flow, flow, 5), 0, atol=1e-3)


def test_tensors_with_gradients_are_read() -> None:
    flow = torch.ones(1, 2, 4, 4, requires_grad=True)
    assert motion_error(flow, flow, 3) == pytest.approx([2])


def test_psnr_of_a_known_difference() -> None:
    truth = np.zeros((2, 3, 4, 5))
    picture = truth + np.array([0.1, 10]).reshape(2, 1, 1, 1)
    assert_allclose(psnr(picture, truth), [20, -20])
    assert_allclose(psnr(picture, truth, value_range=100), [60, 20])
    assert psnr(truth, truth).tolist() == [np.inf, np.inf]


def test_ssim_orders_pictures() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((1, 3, 24, 20))
    noise = rng.normal(size=truth.shape)
    same, near, far = (ssim(truth + s * noise, truth)[0] for s in (0, 0.05, 0.5))
    assert same == pytest.approx(1)
    assert 1 > near > far
    assert ssim(1000 * (truth + 0.05 * noise), 1000 * truth, 1000)[0] == pytest.approx(near)


def test_ssim_by_its_formula() -> None:
    # For flat pictures only the means count: (2ab + c) / (a² + b² + c), c = (0.01 range)².
    a, b, c = 0.3, 0.5, 1e-4
    flat = ssim(np.full((1, 1, 12, 12), a), np.full((1, 1, 12, 12), b))
    assert flat == pytest.approx([(2 * a * b + c) / (a * a + b * b + c)])


def test_what_cannot_be_compared_is_refused() -> None:
    picture = np.zeros((1, 3, 12, 12))
    for metric in (ssim, psnr):
        with pytest.raises(FlowmagError, match=r"not \(1, 3, 12, 12\) with \(1, 3, 12, 11\)"):
            metric(picture, picture[..., 1:])
    with pytest.raises(FlowmagError, match=r"not \(3, 12, 12\)"):
        motion_error(picture[0], picture[0], 2)
    with pytest.raises(FlowmagError, match="11×11"):
        ssim(picture[..., :8], picture[..., :8])
