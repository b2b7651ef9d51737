"""The weights that ship with the package. What the magnifier promises: test_default_model.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_flowmag import magnify
from napari_flowmag.checkpoint import Checkpoint, bundled_names, bundled_path, read_checkpoint
from napari_flowmag.flow import load_flow
from napari_flowmag.models import available_models
from napari_flowmag.synthetic.clips import (
    disk_coverage,
    disk_on_still_ground,
    sinusoid,
    translating_texture,
)
from napari_flowmag.warp import MARGIN, sample_spline, spline_coefficients

INNER = (..., slice(12, -12), slice(12, -12))


@pytest.fixture(scope="module")
def flow() -> nn.Module:
    return load_flow("default")


@pytest.fixture(scope="module")
def checkpoints() -> list[Checkpoint]:
    names = [(kind, name) for kind in ("flow", "magnifier") for name in bundled_names(kind)]
    assert {("flow", "default"), ("magnifier", "default")} <= set(names)
    return [read_checkpoint(bundled_path(kind, name), kind) for kind, name in names]


def pair(dx: float, dy: float, noise: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    frames = translating_texture([(0, 0), (dx, dy)], size=(96, 96), seed=seed)
    frames = frames + noise * np.random.default_rng(seed).standard_normal(frames.shape)
    first, second = torch.from_numpy(frames).float().permute(0, 3, 1, 2).split(1)
    return first, second


def test_weights_are_small_and_say_what_they_are(checkpoints: list[Checkpoint]) -> None:
    for checkpoint in checkpoints:
        assert sum(value.numel() for value in checkpoint.state.values()) <= 3_000_000
        assert all(value.isfinite().all() for value in checkpoint.state.values())
        facts = json.dumps(checkpoint.training)
        assert "settings" in checkpoint.training
        assert not re.search(r"(/[\w.-]+){2}", facts), "paths of the machine that trained them"
    files = {checkpoint.path for checkpoint in checkpoints}
    assert sum(path.stat().st_size for path in files) <= 12e6
    assert files == set(Path(bundled_path("flow", "default")).parent.glob("*.safetensors"))
    assert all(info.description for info in available_models())


@pytest.mark.parametrize(("dx", "dy"), [(0.02, -0.01), (0.05, 0.05), (-0.1, 0.03), (0.3, 0.2)])
@torch.inference_mode()
def test_sub_pixel_motion_is_measured_to_a_few_percent(
    flow: nn.Module, dx: float, dy: float
) -> None:
    found, length = flow(*pair(dx, dy))[INNER], float(np.hypot(dx, dy))
    error = torch.hypot(found[:, 0] - dx, found[:, 1] - dy)
    assert error.mean() < 0.08 * length
    np.testing.assert_allclose(found.mean((0, 2, 3)), [dx, dy], rtol=0, atol=0.04 * length)


@pytest.mark.parametrize(("dx", "dy"), [(1, -0.5), (4, 3), (-10, 6)])
@torch.inference_mode()
def test_larger_motion_is_followed(flow: nn.Module, dx: float, dy: float) -> None:
    found = flow(*pair(dx, dy))[INNER]
    error = torch.hypot(found[:, 0] - dx, found[:, 1] - dy)
    assert error.median() < 0.05 * float(np.hypot(dx, dy))


@torch.inference_mode()
def test_noise_is_not_taken_for_motion(flow: nn.Module) -> None:
    first, second = pair(0.1, 0, noise=4 / 255)
    found = flow(first, second)[INNER]
    assert torch.hypot(found[:, 0] - 0.1, found[:, 1]).mean() < 0.1
    np.testing.assert_allclose(found.mean((0, 2, 3)), [0.1, 0], rtol=0, atol=0.03)


@torch.inference_mode()
def test_light_is_not_taken_for_motion(flow: nn.Module) -> None:
    frames = translating_texture([(0, 0), (0.1, 0)], size=(192, 192))
    first, second = torch.from_numpy(frames).permute(0, 3, 1, 2).split(1)
    for slope in (0.3, -0.3):  # of the range, from one side to the other
        found = flow(first, second + slope * torch.linspace(-0.5, 0.5, 192))
        assert torch.hypot(found[:, 0] - 0.1, found[:, 1]).mean() < 0.03


@torch.inference_mode()
def test_equal_and_empty_frames_have_not_moved(flow: nn.Module) -> None:
    still, _ = pair(0, 0)
    assert flow(still, still)[INNER].abs().max() < 0.02
    for value in (0.0, 0.5):
        flat = torch.full_like(still, value)
        assert flow(flat, flat).abs().max() < 0.02


def test_its_gradients_are_true(flow: nn.Module) -> None:
    """What a loss by this flow learns from: moving the second frame moves the flow."""
    first, second = pair(0.3, 0.1)
    by = torch.zeros(2, requires_grad=True)
    coefficients = spline_coefficients(second)
    moved = sample_spline(coefficients, by.view(1, 2, 1, 1).expand(1, 2, 96, 96), MARGIN)
    mean = flow(first, moved)[INNER].mean((0, 2, 3))
    slopes = torch.stack([torch.autograd.grad(f, by, retain_graph=True)[0] for f in mean])
    torch.testing.assert_close(slopes, -torch.eye(2), atol=0.05, rtol=0)


def test_alpha_1_gives_the_clip_back() -> None:
    for frames in (
        disk_on_still_ground(sinusoid(4), size=(96, 96), radius=30),
        disk_on_still_ground([(0, 0), (1.0, 0.5)], size=(96, 96), radius=30),
    ):
        clip = np.round(255 * frames).astype(np.uint8)
        again = magnify(clip, 1, device="cpu").astype(int)
        np.testing.assert_allclose(again, clip.astype(int), atol=1)


def test_still_ground_keeps_its_values_beside_large_motion() -> None:
    motion = np.array([(0, 0), (1.0, 0.5)])
    frames = disk_on_still_ground(motion, size=(128, 128), radius=30)
    clip = np.round(255 * frames).astype(np.uint8)
    ground = disk_coverage((128, 128), 30 + 22) < 0.001
    again = magnify(clip, 10, device="cpu").astype(float)
    assert np.abs(again - clip)[:, ground].mean() < 1
