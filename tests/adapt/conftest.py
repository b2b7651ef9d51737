from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_flowmag import load_magnifier


def texture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    noise = rng.random((height + 32, width + 32))
    smooth = ndimage.gaussian_filter(noise, 1.5) * 4 + ndimage.gaussian_filter(noise, 5) * 10
    return (smooth - smooth.min()) / np.ptp(smooth)


def moved_texture(shifts, height=48, width=64, seed=0):
    """Frames (T, H, W) of one texture, each moved by (dy, dx) px."""
    picture = texture(height, width, seed)
    frames = [ndimage.shift(picture, s, order=5)[16:-16, 16:-16] for s in shifts]
    return np.stack(frames).astype(np.float32)


@pytest.fixture(scope="session")
def clip():
    """Beats sideways by up to 1.2 px, (16, 48, 64) float32."""
    return moved_texture([(0.0, 1.2 * np.sin(t)) for t in range(16)])


@pytest.fixture
def hurt():
    """The bundled model, its last convolutions disturbed: there is something to learn."""
    model = load_magnifier("default", "cpu")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "updates" in name and weight.ndim > 1:
                weight.mul_(1 + 1.5 * torch.randn_like(weight))
    return model
