from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_flowmag import load_magnifier
from napari_flowmag.checkpoint import save_checkpoint
from napari_flowmag.measure import displacement
from napari_flowmag.models.base import MaskedAlpha
from napari_flowmag.models.field import FieldMagnifier, sampling_field
from napari_flowmag.synthetic.clips import (
    disk_coverage,
    shift_periodic,
    texture,
    translating_texture,
)
from napari_flowmag.warp import identity_grid, sample


def make_learned() -> FieldMagnifier:
    torch.manual_seed(0)
    magnifier = FieldMagnifier()
    with torch.no_grad():
        for parameter in magnifier.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return magnifier.eval()


@pytest.fixture(scope="module")
def magnifier() -> FieldMagnifier:
    """Untrained: motion as Lucas-Kanade sees it, both pictures count alike."""
    torch.manual_seed(0)
    magnifier = FieldMagnifier()
    with torch.no_grad():
        magnifier.flow.matcher.head.bias[-1] = -20  # matches that mean nothing yet
    return magnifier.eval()


@pytest.fixture(scope="module")
def learned() -> FieldMagnifier:
    """Every part at work, as after some training."""
    return make_learned()


def a(*alpha: float) -> Tensor:
    return torch.tensor(alpha, dtype=torch.float32)


def clip(
    *motion: tuple[float, float], size: tuple[int, int] = (64, 64), seed: int = 0
) -> tuple[Tensor, ...]:
    """Frames (1, 3, H, W) of a texture: at rest, and moved."""
    frames = translating_texture([(0, 0), *motion], size=size, seed=seed)
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().split(1)


def moved(reference: Tensor, frame: Tensor) -> np.ndarray:
    return displacement(*(x[0].permute(1, 2, 0).numpy() for x in (reference, frame)))


# what is promised of the motion


@pytest.mark.parametrize("shift", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("alpha", [4, 10])
@torch.inference_mode()
def test_motion_is_alpha_times_as_large(
    magnifier: FieldMagnifier, shift: float, alpha: float
) -> None:
    reference, frame = clip((shift, -0.5 * shift))
    found = moved(reference, magnifier(reference, frame, a(alpha)))
    np.testing.assert_allclose(found, [alpha * shift, -0.5 * alpha * shift], rtol=0.1)


@pytest.mark.parametrize("alpha", [0.5, 2, 5])
@torch.inference_mode()
def test_the_picture_is_that_of_the_magnified_motion(
    magnifier: FieldMagnifier, alpha: float
) -> None:
    reference, frame, exact = clip((0.3, 0.2), (0.3 * alpha, 0.2 * alpha))
    inner = (..., slice(12, -12), slice(12, -12))
    error = (magnifier(reference, frame, a(alpha)) - exact)[inner].std()
    assert error < 0.15 * (frame - exact)[inner].std()


@pytest.mark.parametrize("size", [(64, 64), (17, 33), (16, 61)])
@torch.inference_mode()
def test_one_is_the_frame_and_zero_the_reference(
    magnifier: FieldMagnifier, size: tuple[int, int]
) -> None:
    reference, frame = clip((0.3, -0.2), size=size)
    for alpha, expected in ((1, frame), (0, reference)):
        found = magnifier(reference, frame, a(alpha))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_still_pictures_stay_as_they_are(magnifier: FieldMagnifier) -> None:
    reference, _ = clip((0, 0))
    again = magnifier(reference, reference.clone(), a(10))
    # What it takes for motion is a hundredth of a pixel, ten times that moves the picture.
    assert moved(reference, again) == pytest.approx([0, 0], abs=0.01)
    flat = torch.full_like(reference, 0.5)
    torch.testing.assert_close(magnifier(flat, flat.clone(), a(100)), flat, atol=1e-5, rtol=0)


def disk(dx: float) -> Tensor:
    """A bright disk of radius 22 px, moved by dx px, on dark ground; both textured."""
    size, rng = (96, 112), np.random.default_rng(0)
    top, ground = (0.3 * (texture(size, rng, channels=1) - 0.5) for _ in range(2))
    cover = disk_coverage(size, 22, dx)
    picture = cover * (0.75 + shift_periodic(top, dx, 0)) + (1 - cover) * (0.2 + ground)
    return torch.from_numpy(picture)[None]


def edges(picture: Tensor) -> tuple[float, float]:
    """Where the middle of the disk begins and ends, px."""
    line = picture[0, 0, 46:50].mean(0).numpy()
    bright = np.flatnonzero(line > 0.475)
    first, last = bright[0], bright[-1]
    rise = (0.475 - line[first - 1]) / (line[first] - line[first - 1])
    fall = (line[last] - 0.475) / (line[last] - line[last + 1])
    return first - 1 + rise, last + fall


@pytest.mark.parametrize(("shift", "alpha"), [(0.3, 10), (0.5, 8), (1.0, 4), (1.0, 8)])
@torch.inference_mode()
def test_an_object_leaves_its_own_outline(
    magnifier: FieldMagnifier, shift: float, alpha: float
) -> None:
    reference, frame, ideal = disk(0), disk(shift), disk(shift * alpha)
    found = magnifier(reference, frame, a(alpha))
    trailing, leading = edges(found)
    begins, ends = edges(reference)
    assert leading - ends == pytest.approx(shift * alpha, abs=0.1 + 0.1 * shift * alpha)
    assert trailing - begins == pytest.approx(shift * alpha, abs=0.1 + 0.1 * shift * alpha)
    assert (found - ideal).abs().mean() < 0.6 * (frame - ideal).abs().mean()


# alpha that differs from place to place


@torch.inference_mode()
def test_an_alpha_map_magnifies_inside_only(magnifier: FieldMagnifier) -> None:
    reference, frame = clip((0.3, -0.2), size=(96, 128))
    alpha = torch.ones(1, 1, 96, 128)
    alpha[..., 64:] = 8
    found = magnifier(reference, frame, alpha)
    outside, inside = (..., slice(0, 58)), (..., slice(72, None))
    torch.testing.assert_close(found[outside], frame[outside], atol=1e-4, rtol=0)
    whole = magnifier(reference, frame, a(8))
    torch.testing.assert_close(found[inside], whole[inside], atol=1e-5, rtol=0)
    mask = (alpha - 1) / 7
    torch.testing.assert_close(magnifier(reference, frame, MaskedAlpha(a(8), mask)), found)


@torch.inference_mode()
def test_samples_of_a_batch_do_not_mix(learned: FieldMagnifier) -> None:
    pairs, alphas = [clip((0.3, 0.1)), clip((-1, 0.5), seed=1)], (3.0, 7.0)
    both = learned(*(torch.cat(frames) for frames in zip(*pairs, strict=True)), a(*alphas))
    for found, single, alpha in zip(both, pairs, alphas, strict=True):
        torch.testing.assert_close(found[None], learned(*single, a(alpha)), atol=1e-4, rtol=0)


# pictures that are rendered


@torch.inference_mode()
def test_motion_seen_in_one_channel_moves_all(
    learned: FieldMagnifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is in front is decided by all channels together: by fewer, it may be decided otherwise.
    monkeypatch.setattr(
        "napari_flowmag.models.layered._shorter_in_front", lambda *seen: seen[-1] < 0
    )
    reference, frame = clip((0.3, -0.2))
    other_reference, other_frame = clip((0.3, -0.2), seed=1)
    many = [torch.cat([x, y], 1) for x, y in ((reference, other_reference), (frame, other_frame))]
    seen = learned.prepare(reference[:, :1])
    prediction = learned.predict(seen, frame[:, :1], a(5))
    found = learned.render(prediction, learned.show(many[0]), many[1], a(5))
    assert found.shape == (1, 6, 64, 64)
    for k in range(6):
        shown = learned.show(many[0][:, [k]])
        single = learned.render(prediction, shown, many[1][:, [k]], a(5))
        torch.testing.assert_close(found[:, [k]], single)
    np.testing.assert_allclose(moved(many[0], found), [1.5, -1.0], rtol=0.1)


@torch.inference_mode()
def test_values_are_those_of_the_camera(learned: FieldMagnifier) -> None:
    """Whatever they are: nothing is cut off at 0 or 1, and steps of 16 bits survive."""
    reference, frame = clip((0.3, -0.2))
    prediction = learned.predict(learned.prepare(reference), frame, a(5))
    expected = learned.render(prediction, learned.show(reference), frame, a(5))
    shown = learned.show(60_000 * reference - 500)
    counts = learned.render(prediction, shown, 60_000 * frame - 500, a(5))
    torch.testing.assert_close(counts, 60_000 * expected - 500, atol=0.1, rtol=0)
    shown = learned.show(reference.double())
    double = learned.render(prediction.double(), shown, frame.double(), a(5).double())
    torch.testing.assert_close(double.float(), expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_memory_layout_does_not_matter(learned: FieldMagnifier) -> None:
    frames = clip((0.3, -0.2), size=(33, 46))
    expected = learned(*frames, a(5))
    last = [x.contiguous(memory_format=torch.channels_last) for x in frames]
    torch.testing.assert_close(learned(*last, a(5)), expected, atol=1e-4, rtol=0)
    together = torch.stack(frames, 2)
    cut = learned(together[:, :, 0], together[:, :, 1], a(5))
    torch.testing.assert_close(cut, expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_mixed_precision_keeps_the_picture(learned: FieldMagnifier) -> None:
    reference, frame = clip((0.3, -0.2))
    exact = learned(reference, frame, a(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = learned(reference, frame, a(5))
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert (found - exact).abs().mean() < 0.1 / 255


@torch.inference_mode()
def test_checkpoints_bring_the_same_magnifier_back(tmp_path: Path, learned: FieldMagnifier) -> None:
    path, config = tmp_path / "a.safetensors", learned.config
    facts = {"kind": "magnifier", "architecture": "field", "training": {}}
    save_checkpoint(path, learned, config=config, **facts)
    again = load_magnifier(path, "cpu")
    assert again.config == config
    pair = clip((0.3, -0.2), size=(40, 48))
    assert torch.equal(again(*pair, a(5)), learned(*pair, a(5)))


# learning


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_reach_what_learns(autocast: bool) -> None:
    magnifier = make_learned()
    reference, frame = (x.requires_grad_() for x in clip((0.5, -0.3), size=(144, 160)))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        found = magnifier(reference, frame, a(4))
        (found - 0.5).square().mean().backward()
    leaves = {"reference": reference, "frame": frame, **dict(magnifier.named_parameters())}
    assert [n for n, p in leaves.items() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in leaves.values())


def test_gradients_of_alpha_and_motion_point_the_right_way(magnifier: FieldMagnifier) -> None:
    """A picture that should have moved further asks for a larger α."""
    reference, frame, further, less = clip((0.2, 0.1), (1.2, 0.6), (0.4, 0.2))
    for wanted, sign in ((further, -1), (less, 1)):
        alpha = torch.tensor([4.0], requires_grad=True)
        (magnifier(reference, frame, alpha) - wanted).square().mean().backward()
        assert float(alpha.grad) * sign > 0


# the sampling field


def test_a_sampling_field_inverts_a_smooth_displacement() -> None:
    y, x = np.mgrid[:72, :96].astype(np.float32)
    bent = np.stack([3 * np.sin(x / 12) * np.cos(y / 15) + 2, -2 * np.cos(x / 14 + y / 17)])
    there = torch.from_numpy(np.stack([bent, -0.5 * bent]))
    back = sampling_field(there)
    left = torch.hypot(*(back + sample(there, back))[..., 8:-8, 8:-8].unbind(1))
    assert left.max() < 0.02


@pytest.mark.parametrize("size", [(40, 56), (17, 33), (16, 16)])
def test_a_translation_is_undone_everywhere(size: tuple[int, int]) -> None:
    there = torch.tensor([2.3, -4.1]).view(1, 2, 1, 1).expand(1, 2, *size).contiguous()
    torch.testing.assert_close(sampling_field(there), -there, atol=1e-4, rtol=0)


def test_growth_is_undone() -> None:
    grid = identity_grid(48, 64, torch.zeros(()))
    middle = torch.tensor([31.5, 23.5]).view(1, 2, 1, 1)
    there = 0.3 * (grid - middle)
    back = sampling_field(there)
    error = (back - (middle - grid) * (0.3 / 1.3))[..., 4:-4, 4:-4]
    assert error.abs().max() < 0.02


@pytest.fixture(scope="module")
def collision() -> Tensor:
    """A block of 16 px moves right by 12 px, over still ground."""
    there = torch.zeros(1, 2, 48, 80)
    there[:, 0, 16:32, 20:36] = 12
    return there


def test_what_moves_is_in_front(collision: Tensor) -> None:
    arrived, left = (..., slice(20, 28), slice(38, 44)), (..., slice(20, 28), slice(22, 28))
    front = sampling_field(collision)
    torch.testing.assert_close(front[arrived], -collision[:, :, 20:28, 24:30], atol=0.1, rtol=0)
    assert front[left].abs().max() < 6, "uncovered ground is filled from its surroundings"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_thin_object_leaves_no_specks_behind(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    there = torch.zeros(1, 2, 64, 64)
    there[:, 0, :, 28:36] = torch.tensor([0.9, 3.0, 5.4, 6.0, 6.0, 5.4, 3.0, 0.9])
    there *= 1 + 0.08 * torch.randn(64, 1, generator=generator)  # motion is never so even
    thing = torch.zeros(1, 1, 64, 64)
    thing[..., 30:34] = 1
    found = sample(thing, sampling_field(there))
    assert found[..., 37].mean() > 0.95, "it has moved"
    assert found[..., :33].max() < 0.5, "and nothing of it is drawn far from where it went"


def test_gradients_pass_as_if_rounds_had_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapting learns from places where motion is torn, too."""

    def gradient() -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        there = torch.zeros(1, 2, 64, 64)
        there[:, 0, :, 28:36] = 6 + torch.randn(8, generator=generator)
        field = sampling_field(there.requires_grad_())
        (field * torch.randn(field.shape, generator=generator)).sum().backward()
        return field.detach(), there.grad

    field, slopes = gradient()
    monkeypatch.setattr("napari_flowmag.models.field.SETTLED", 1e9)
    jumping, same = gradient()
    assert (field - jumping).abs().max() > 1
    torch.testing.assert_close(slopes, same)


@pytest.mark.parametrize("length", [0.0, 5, 500, 1e6])
def test_torn_motion_stays_finite(length: float) -> None:
    generator = torch.Generator().manual_seed(0)
    there = (length * torch.randn(2, 2, 37, 53, generator=generator)).requires_grad_()
    back = sampling_field(there)
    back.square().mean().backward()
    assert back.isfinite().all()
    assert back.abs().max() <= 1.01 * there.abs().max() + 3  # rounds reach 3 px from the start
    assert there.grad.isfinite().all()


@pytest.mark.parametrize("shrink", [lambda x: x, lambda x: 0 * x, lambda x: 0.5 + 0 * x])
def test_pictures_without_sense_stay_finite(
    learned: FieldMagnifier, shrink: Callable[[Tensor], Tensor]
) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(1, 3, 33, 47, generator=generator).requires_grad_() for _ in range(2)]
    found = learned(noise[0], shrink(noise[1]), a(200))
    found.mean().backward()
    assert found.isfinite().all()
    assert found.min() > -0.6
    assert found.max() < 1.6  # splines overshoot, as little as that
    assert all(x.grad.isfinite().all() for x in noise)


def test_a_reference_that_all_frames_share_is_read_as_if_each_had_its_own(learned):
    reference, *frames = clip((0.3, 0.1), (0.5, -0.2), (0, 0.4))
    frame, alpha = torch.cat(frames), a(4.0, 4.0, 4.0)
    own, shared = reference.repeat(3, 1, 1, 1), reference.expand(3, -1, -1, -1)
    with torch.inference_mode():
        prediction = learned.predict(learned.prepare(own), frame, alpha)
        exact = learned.render(prediction, learned.show(own), frame, alpha)
        found = learned.render(prediction, learned.show(shared), frame, alpha)
    torch.testing.assert_close(found, exact, rtol=0, atol=0)
