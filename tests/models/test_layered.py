"""Outlines: two layers where two motions meet, nothing changed where all moves alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from napari_flowmag.models.base import MaskedAlpha
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.models.layered import layered, outlines
from napari_flowmag.synthetic.clips import disk_coverage, disk_on_still_ground

SIZE, RADIUS, SHIFT = (128, 128), 30.0, 0.3


def layers(
    single: Tensor, reference: Tensor, frame: Tensor, field: Tensor, motion: Tensor, factor: Tensor
) -> Tensor:
    found = outlines(motion, factor)
    return layered(single, reference, frame, field, motion, factor, found)


def once(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


def picture(size: tuple[int, int] = SIZE, channels: int = 3, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(1, channels, *size, generator=rng)


def disk_clip(alpha: float) -> Tensor:
    """Return reference, frame and exact magnified frame (3, 3, H, W) of a disk."""
    shift = [(0, 0), (SHIFT, 0)]
    clip = disk_on_still_ground(shift, size=SIZE, radius=RADIUS)
    exact = disk_on_still_ground(shift, factor=alpha, size=SIZE, radius=RADIUS)[1:]
    return torch.from_numpy(np.concatenate([clip, exact])).movedim(-1, 1).contiguous()


def waves(shift: float, seed: int) -> NDArray[np.float64]:
    """Return a texture, exactly as it is when moved to the right."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ways = rng.uniform(-1, 1, (2, 40, 1, 1))
    phase = rng.uniform(0, 2 * np.pi, (40, 1, 1))
    return 0.5 + 0.02 * np.cos(ways[0] * (x - shift) + ways[1] * y + phase).sum(0)


def moving_ground(alpha: float) -> Tensor:
    """Return reference, frame and exact magnified frame of ground behind a brighter disk."""
    cover, disk = disk_coverage(SIZE, RADIUS), waves(0, 1) + 0.3
    frames = [cover * disk + (1 - cover) * waves(x, 2) for x in (0, SHIFT, alpha * SHIFT)]
    return torch.from_numpy(np.stack(frames)).float().unsqueeze(1)


def soft_disk() -> NDArray[np.float64]:
    """Return how much of a disk's motion is measured: it fades over some px, mostly outside."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] - 63.5
    return np.clip((RADIUS + 4 - np.hypot(x, y)) / 7, 0, 1)


def to_the_right(share: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.stack([SHIFT * share, 0 * share])[None]).float()


def soft_motion() -> Tensor:
    return to_the_right(soft_disk())


def psnr(found: Tensor, exact: Tensor) -> float:
    return float(-10 * (found - exact).square().mean().log10())


def rendered(
    prediction: Tensor, frames: Tensor, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor]:
    """Return the magnified frame, and what it is without layers."""
    factor, magnifier = torch.tensor([alpha]), FieldMagnifier()
    shown = magnifier.show(frames[:1])
    found = magnifier.render(prediction, shown, frames[1:2], factor)
    monkeypatch.setattr("napari_flowmag.models.field.layered", lambda single, *_: 0 * single)
    return found, magnifier.render(prediction, shown, frames[1:2], factor)


@torch.inference_mode()
@pytest.mark.parametrize("alpha", [10.0, 20.0])
def test_an_object_keeps_its_outline(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = disk_clip(alpha)
    prediction = torch.cat([soft_motion(), torch.zeros(1, 1, *SIZE)], 1)
    found, single = rendered(prediction, frames, alpha, monkeypatch)
    assert psnr(found, frames[2:]) > psnr(single, frames[2:]) + 1


@torch.inference_mode()
@pytest.mark.parametrize("alpha", [10.0, 20.0])
def test_so_does_one_that_stays_where_it_is(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """What moves farther is behind, as the still outline shows."""
    frames = moving_ground(alpha)
    prediction = torch.cat([to_the_right(1 - soft_disk()), torch.zeros(1, 1, *SIZE)], 1)
    found, single = rendered(prediction, frames, alpha, monkeypatch)
    inner = (..., slice(12, -12), slice(12, -12))
    assert psnr(found[inner], frames[2:][inner]) > psnr(single[inner], frames[2:][inner]) + 1


@torch.inference_mode()
def test_far_from_outlines_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = disk_clip(10)
    prediction = torch.cat([soft_motion(), torch.zeros(1, 1, *SIZE)], 1)
    found, single = rendered(prediction, frames, 10.0, monkeypatch)
    changed = (found != single).any(1)[0].numpy()
    assert changed.any()
    near = disk_coverage(SIZE, RADIUS + 24) - disk_coverage(SIZE, RADIUS - 24) > 0.01
    assert not (changed & ~near).any()


@torch.inference_mode()
@pytest.mark.parametrize(
    ("motion", "factor"),
    [
        ("still", 50.0),
        ("together", 50.0),
        ("bending", 20.0),
        ("smoothly", 20.0),
        ("disk", 0.0),  # magnified once: the frame itself
        ("disk", -0.5),  # made smaller
        ("disk", 2.0),  # outlines that move by less than a px
        ("far", 10.0),  # too far apart to know
    ],
)
def test_there_is_one_layer_where(motion: str, factor: float) -> None:
    y, x = torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")
    motions = {
        "still": torch.zeros(1, 2, *SIZE),
        "together": torch.full((1, 2, *SIZE), 0.7),
        # by less than 1 px over what is looked at
        "bending": torch.stack([0.001 * y, 0.001 * x])[None],
        # by 10 px over what is looked at, when magnified: no outline is so soft
        "smoothly": torch.stack([0.02 * x, 0 * y])[None],
        "disk": soft_motion(),
        "far": 10 * soft_motion(),
    }
    shown = picture()
    change = layers(shown, shown, shown, torch.zeros(1, 2, *SIZE), motions[motion], once(factor))
    if motion == "smoothly":  # at the border there is less to tell outlines by
        change = change[..., 16:-16, 16:-16]
    assert not change.any()


@torch.inference_mode()
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.floats(0, 30), st.integers(0, 9)
)
def test_nothing_is_drawn_that_is_not_near(
    height: int, width: int, channels: int, factor: float, seed: int
) -> None:
    single, before, shown = (picture((height, width), channels, seed + k) for k in range(3))
    motion = 2 * picture((height, width), 2, seed + 3) - 1
    found = single + layers(single, before, shown, -factor * motion, motion, once(factor))
    assert found.shape == single.shape
    rows, columns = np.pad(single[0].numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge"), (3, 3)
    near = np.lib.stride_tricks.sliding_window_view(rows, columns, (1, 2))
    assert (found[0].numpy() <= near.max((-2, -1)) + 1e-5).all()
    assert (found[0].numpy() >= near.min((-2, -1)) - 1e-5).all()


@torch.inference_mode()
def test_samples_of_a_batch_do_not_mix() -> None:
    shown = torch.cat([picture(seed=1), picture(seed=2)])
    motion = torch.cat([soft_motion(), -0.5 * soft_motion()])
    factor = torch.tensor([8.0, 19.0]).view(2, 1, 1, 1)
    field = -factor * motion
    both = layers(shown, shown, shown, field, motion, factor)
    assert both.flatten(1).any(1).all()
    for i in range(2):
        alone = layers(*(x[i : i + 1] for x in (shown, shown, shown, field, motion, factor)))
        torch.testing.assert_close(both[i : i + 1], alone, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_channels_are_layered_alike() -> None:
    shown, motion = picture(channels=1), soft_motion()
    twice = torch.cat([shown, 1000 * shown], 1)
    change = layers(twice, twice, twice, -9 * motion, motion, once(9))
    torch.testing.assert_close(1000 * change[:, :1], change[:, 1:], atol=0.01, rtol=1e-3)


@torch.inference_mode()
def test_a_map_of_factors_is_a_factor_in_each_place() -> None:
    shown, motion = picture(), soft_motion()
    field = -9 * motion
    whole = layers(shown, shown, shown, field, motion, once(9))
    factors = torch.full((1, 1, *SIZE), 9.0)
    everywhere = layers(shown, shown, shown, field, motion, factors)
    torch.testing.assert_close(whole, everywhere, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_what_lies_outside_a_mask_is_the_frame() -> None:
    frames = disk_clip(10)
    prediction = torch.cat([soft_motion(), torch.zeros(1, 1, *SIZE)], 1)
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., :64] = 1  # half of the disk
    alpha = MaskedAlpha(torch.tensor([10.0]), mask)
    magnifier = FieldMagnifier()
    found = magnifier.render(prediction, magnifier.show(frames[:1]), frames[1:2], alpha)
    torch.testing.assert_close(found[..., 70:], frames[1:2, ..., 70:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("front", ["disk", "ground"])
def test_gradients_say_what_motion_changes(front: str) -> None:
    frames = (disk_clip(19) if front == "disk" else moving_ground(19)).double()
    towards = to_the_right(soft_disk() if front == "disk" else 1 - soft_disk()).double()

    def error(times: Tensor) -> Tensor:
        field, motion = -18 * towards, times * towards
        single = frames[2:] + 0.1 * picture(channels=frames.shape[1]).double()
        change = layers(single, frames[:1], frames[1:2], field, motion, once(18).double())
        return (single + change - frames[2:]).square().sum()

    times = once(1).double().requires_grad_()
    error(times).backward()
    assert times.grad is not None
    with torch.no_grad():
        slope = (error(once(1.01)) - error(once(0.99))) / 0.02
    torch.testing.assert_close(times.grad.view(()), slope.view(()), rtol=0.1, atol=0)


def test_gradients_of_torn_motion_are_finite() -> None:
    shown = picture()
    motion = (2 * picture(channels=2, seed=1) - 1).requires_grad_()
    motion.data[..., :40] = 0
    layers(shown, shown, shown, -9 * motion, motion, once(9)).square().sum().backward()
    assert motion.grad is not None
    assert motion.grad.isfinite().all()
    assert motion.grad.any()
