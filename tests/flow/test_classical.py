from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

from napari_flowmag import FlowmagError, load_flow


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    noise = np.random.default_rng(0).random((80, 100))
    smooth = gaussian_filter(noise, 2)
    return (smooth - smooth.min()) / np.ptp(smooth)


@pytest.mark.parametrize("name", ["dis", "farneback"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_shift_is_found(texture: np.ndarray, name: str, channels: int) -> None:
    pytest.importorskip("cv2")
    dx, dy = 1.5, -0.5
    moved = shift(texture, (dy, dx), order=3, mode="nearest").clip(0, 1)
    back = shift(texture, (-dy, -dx), order=3, mode="nearest").clip(0, 1)
    first, second = (
        torch.from_numpy(np.stack(pictures)).float()[:, None].expand(-1, channels, -1, -1)
        for pictures in ((texture, texture), (moved, back))
    )
    flow = load_flow(name)(first, second)
    assert flow.shape == (2, 2, 80, 100)
    assert flow.dtype == torch.float32
    middle = flow[..., 16:-16, 16:-16].mean((2, 3))
    expected = torch.tensor([[dx, dy], [-dx, -dy]])
    torch.testing.assert_close(middle, expected, atol=0.15, rtol=0)


@pytest.mark.parametrize("name", ["dis", "farneback"])
def test_gradients_do_not_pass(name: str) -> None:
    pytest.importorskip("cv2")
    flow = load_flow(name)
    assert flow.differentiable is False
    picture = torch.rand(1, 1, 32, 32, requires_grad=True)
    assert not flow(picture, picture).requires_grad


@pytest.mark.parametrize("size", [(16, 16), (17, 40)])
@pytest.mark.parametrize("name", ["dis", "farneback"])
def test_small_frames(name: str, size: tuple[int, int]) -> None:
    pytest.importorskip("cv2")
    assert load_flow(name)(*torch.rand(2, 1, 3, *size)).shape == (1, 2, *size)


def test_without_opencv_it_says_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(FlowmagError, match="pip install opencv-python-headless"):
        load_flow("dis")


def test_unknown_preset() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(FlowmagError, match="medium, fast or ultrafast"):
        load_flow("dis", preset="perfect")
