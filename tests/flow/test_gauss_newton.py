from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_flowmag.checkpoint import read_checkpoint, save_checkpoint
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow import load_flow
from napari_flowmag.flow.gauss_newton import GaussNewtonFlow
from napari_flowmag.flow.outlines import GRID, OUTLINES, Shares, neighbours, upsample
from napari_flowmag.synthetic.clips import translating_texture
from napari_flowmag.warp import MARGIN, sample_spline, spline_coefficients

INNER = (..., slice(12, -12), slice(12, -12))


def make_learned() -> GaussNewtonFlow:
    torch.manual_seed(0)
    flow = GaussNewtonFlow()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return flow.eval()


@pytest.fixture(scope="module")
def plain() -> GaussNewtonFlow:
    """Lucas-Kanade, as training starts, without the matches that mean nothing yet."""
    torch.manual_seed(0)
    flow = GaussNewtonFlow()
    with torch.no_grad():
        flow.matcher.head.bias[-1] = -20
    return flow.eval()


@pytest.fixture(scope="module")
def learned() -> GaussNewtonFlow:
    """Every part at work, as after some training."""
    return make_learned()


@pytest.fixture(params=["plain", "learned"])
def either(request: pytest.FixtureRequest) -> GaussNewtonFlow:
    return request.getfixturevalue(request.param)


def pair(
    dx: float, dy: float, size: tuple[int, int] = (96, 96), seed: int = 0
) -> tuple[Tensor, Tensor]:
    frames = translating_texture([(0, 0), (dx, dy)], size=size, seed=seed)
    first, second = torch.from_numpy(frames).permute(0, 3, 1, 2).split(1)
    return first.contiguous(), second.contiguous()


def error(flow: Tensor, dx: float, dy: float) -> float:
    """Mean end-point error relative to the motion, away from the picture's border."""
    wrong = flow - flow.new_tensor([dx, dy]).view(1, 2, 1, 1)
    return float(torch.hypot(*wrong[INNER].unbind(1)).mean()) / float(np.hypot(dx, dy))


def finite_gradients(module: torch.nn.Module, *inputs: Tensor) -> bool:
    gradients = [x.grad for x in (*inputs, *module.parameters())]
    return all(g is None or bool(g.isfinite().all()) for g in gradients)


# accuracy before any training


@pytest.mark.parametrize(
    ("dx", "dy"), [(0.01, 0), (0.03, 0.02), (0.1, -0.05), (-0.3, 0.2), (1, -0.5), (3, 2), (-8, 3)]
)
@torch.inference_mode()
def test_lucas_kanade_comes_with_the_architecture(
    plain: GaussNewtonFlow, dx: float, dy: float
) -> None:
    flow = plain(*pair(dx, dy))
    assert flow.shape == (1, 2, 96, 96)
    assert error(flow, dx, dy) < 0.08
    mean = flow[INNER].mean((0, 2, 3))
    np.testing.assert_allclose(mean, [dx, dy], rtol=0, atol=0.05 * np.hypot(dx, dy))


def natural(dx: float, dy: float, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures with more contrast the coarser the detail, as photographs have; exact motion."""
    rng = np.random.default_rng(seed)
    fy, fx = np.meshgrid(np.fft.fftfreq(256), np.fft.rfftfreq(256), indexing="ij")
    spectrum = np.fft.rfft2(rng.normal(size=(256, 256))) / np.maximum(np.hypot(fx, fy), 1 / 128)
    spectrum *= np.hypot(fx, fy) < 0.35
    frames = [
        np.fft.irfft2(spectrum * np.exp(-2j * np.pi * (fx * x + fy * y)))
        for x, y in ((0, 0), (dx, dy))
    ]
    scale = 6 * frames[0].std()
    cut = [torch.from_numpy(f[48:-48, 48:-48] / scale + 0.5).float() for f in frames]
    return cut[0][None, None], cut[1][None, None]


@pytest.mark.parametrize(("dx", "dy"), [(0.1, -0.05), (0.3, 0.2), (2.3, -0.5), (5.3, 2), (-12, 3)])
@torch.inference_mode()
def test_coarse_detail_moves_as_far_as_fine_detail(
    plain: GaussNewtonFlow, dx: float, dy: float
) -> None:
    """Shading that stays where it was in the frame would hold the motion back."""
    found = [plain(*natural(dx, dy, seed)) for seed in range(3)]
    assert max(error(flow, dx, dy) for flow in found) < 0.1
    mean = torch.cat(found)[INNER].mean((0, 2, 3))
    np.testing.assert_allclose(mean, [dx, dy], rtol=0, atol=0.03 * np.hypot(dx, dy))


@pytest.mark.parametrize(("dx", "dy"), [(0.3, 0.2), (1, -0.5), (3, 2), (-8, 3)])
@torch.inference_mode()
def test_untrained_matches_do_little_harm(dx: float, dy: float) -> None:
    torch.manual_seed(0)
    assert error(GaussNewtonFlow()(*pair(dx, dy)), dx, dy) < 0.2


@torch.inference_mode()
def test_equal_frames_have_not_moved(plain: GaussNewtonFlow) -> None:
    still, _ = pair(0, 0)
    assert plain(still, still).abs().max() < 1e-4


@torch.inference_mode()
def test_motion_may_differ_from_place_to_place(plain: GaussNewtonFlow) -> None:
    first, _ = pair(0, 0, (96, 128))
    x = torch.linspace(0, 2 * np.pi, 128).expand(96, 128)
    motion = 0.5 * torch.stack([x.sin(), x.cos()])[None]
    # first(x) = second(x + motion), by construction
    found = plain(sample_spline(spline_coefficients(first), motion, MARGIN), first)
    assert torch.hypot(*(found - motion)[INNER].unbind(1)).mean() < 0.1 * 0.5


# what must not matter


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0.2), (0.25, 0.7), (-1, 1)])
@torch.inference_mode()
def test_contrast_and_brightness_do_not_matter(
    plain: GaussNewtonFlow, gain: float, offset: float
) -> None:
    first, second = pair(0.3, -0.2)
    again = plain(gain * first + offset, gain * second + offset)
    torch.testing.assert_close(again, plain(first, second), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_flicker_is_not_motion(either: GaussNewtonFlow) -> None:
    first, second = pair(0.3, -0.2)
    flow = either(first, second)
    brighter = either(first, second + 0.1)
    torch.testing.assert_close(brighter, flow, atol=1e-4, rtol=0)
    # A lamp that is 2 % brighter raises the contrast, too: that costs accuracy, but no bias.
    stronger = either(first, 1.02 * second)
    assert (stronger - flow).abs().mean() < 0.1 * 0.36
    assert (stronger - flow).mean((2, 3)).abs().max() < 0.003


@torch.inference_mode()
def test_colours_count_by_their_mean(either: GaussNewtonFlow) -> None:
    first, second = pair(0.3, -0.2)
    grey = either(first.mean(1, keepdim=True), second.mean(1, keepdim=True))
    torch.testing.assert_close(either(first, second), grey)
    six = either(*(x[:, [2, 0, 1, 1, 0, 2]] for x in (first, second)))
    torch.testing.assert_close(six, grey, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_pairs_of_a_batch_do_not_mix(either: GaussNewtonFlow) -> None:
    pairs = [pair(0.3, -0.2), pair(2, 1, seed=1)]
    both = either(*(torch.cat(frames) for frames in zip(*pairs, strict=True)))
    for flow, single in zip(both, pairs, strict=True):
        torch.testing.assert_close(flow[None], either(*single), atol=1e-4, rtol=0)
        assert torch.equal(either(*single), either(*single))


@torch.inference_mode()
def test_memory_layout_does_not_matter(either: GaussNewtonFlow) -> None:
    frames = pair(0.3, -0.2, (33, 46))
    flow = either(*frames)
    last = [x.contiguous(memory_format=torch.channels_last) for x in frames]
    clip = torch.stack(frames, 2)  # (B, C, T, H, W), as clips are cut from
    assert not clip[:, :, 0].is_contiguous()
    torch.testing.assert_close(either(*last), flow, atol=1e-5, rtol=0)
    torch.testing.assert_close(either(clip[:, :, 0], clip[:, :, 1]), flow, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (16, 97), (31, 18), (47, 64), (1, 5)])
def test_any_size(either: GaussNewtonFlow, size: tuple[int, int]) -> None:
    first, second = (x.requires_grad_() for x in pair(0.3, -0.2, size))
    flow = either(first, second)
    assert flow.shape == (1, 2, *size)
    flow.square().sum().backward()
    assert flow.isfinite().all()
    assert finite_gradients(either, first, second)


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (31, 18)])
@torch.inference_mode()
def test_small_pictures_are_measured_too(plain: GaussNewtonFlow, size: tuple[int, int]) -> None:
    mean = plain(*pair(0.3, -0.2, size)).mean((0, 2, 3))
    np.testing.assert_allclose(mean, [0.3, -0.2], rtol=0, atol=0.1)


@torch.inference_mode()
def test_a_tile_with_its_surroundings_sees_what_the_whole_sees(plain: GaussNewtonFlow) -> None:
    first, second = pair(0.3, 0.1, (64, 320))
    whole, tile = plain(first, second), plain(first[..., :224], second[..., :224])
    # The contrast is the tile's own, which the solution hardly feels.
    torch.testing.assert_close(tile[..., :96], whole[..., :96], atol=3e-3, rtol=0)


# pictures that say little


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_pictures_do_not_move(plain: GaussNewtonFlow, value: float) -> None:
    first, second = (torch.full((1, 1, 33, 45), value, requires_grad=True) for _ in range(2))
    flow = plain(first, second)
    assert flow.abs().max() < 1e-6
    flow.sum().backward()
    assert finite_gradients(plain, first, second)


def test_flat_regions_give_finite_gradients(either: GaussNewtonFlow) -> None:
    first, second = (x.clone() for x in pair(1, 0.5, (48, 64)))
    for x in (first, second):
        x[..., 24:] = 0.5
        x.requires_grad_()
    flow = either(first, second)
    flow.square().sum().backward()
    assert flow.isfinite().all()
    assert finite_gradients(either, first, second)


@torch.inference_mode()
def test_noise_alone_stays_bounded(either: GaussNewtonFlow) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 1, 1, 64, 64, generator=generator)
    assert either(first, second).abs().max() < 64


# gradients, through which a loss learns


def shifted(second: Tensor, by: Tensor) -> Tensor:
    flow = by.view(1, 2, 1, 1).expand(1, 2, *second.shape[-2:])
    return sample_spline(spline_coefficients(second), flow, MARGIN)


# No whole px: there the frame's border comes into view, or leaves it, at once. Single px do so in
# between, each a jump; steps are so short that hardly any falls into one.
@pytest.mark.parametrize("motion", [(0.1, 0.1), (0.3, 0.1), (2.3, -1.2)])
@pytest.mark.parametrize("which", [0, 1])
def test_gradients_tell_how_the_flow_changes(
    either: GaussNewtonFlow, motion: tuple[float, float], which: int
) -> None:
    """Moving a frame's content by -s changes the mean flow by +s or -s, and autograd says so."""
    frames = list(pair(*motion))
    content = frames[which]

    def mean_flow(by: Tensor) -> Tensor:
        frames[which] = shifted(content, by)
        return either(*frames)[INNER].mean((0, 2, 3))

    by = torch.zeros(2, requires_grad=True)
    flow = mean_flow(by)
    slopes = torch.stack([torch.autograd.grad(f, by, retain_graph=True)[0] for f in flow])
    step = 0.001 * torch.eye(2)
    with torch.no_grad():
        measured = torch.stack([(mean_flow(s) - mean_flow(-s)) / 0.002 for s in step], 1)
    torch.testing.assert_close(slopes, measured, atol=0.01, rtol=0)
    sign = 1 if which == 0 else -1
    torch.testing.assert_close(slopes, sign * torch.eye(2), atol=0.15, rtol=0)


@pytest.mark.parametrize("detach", [True, False])
def test_every_step_can_learn(detach: bool) -> None:
    flow = make_learned()
    first, second = pair(1, 0.5, (160, 160))  # 5x5 px of the coarsest pictures
    estimate = flow.estimate(flow.prepare(first), second, detach)
    parts = (*estimate.steps, estimate.flow, estimate.matches.likely)
    sum(part.square().sum() for part in parts).backward()
    silent = [n for n, p in flow.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert finite_gradients(flow)
    assert len(estimate.steps) == sum(flow.schedule) + 2  # matching and averaging are some, too


def test_mixed_precision() -> None:
    flow = make_learned()
    first, second = (x.requires_grad_() for x in pair(1, 0.5, (48, 64)))
    exact = flow(first, second).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = flow(first, second)
        (found - 1).square().mean().backward()
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert (found - exact).abs().mean() < 0.02
    assert finite_gradients(flow, first, second)
    assert second.grad.any()


# from cells to pixels


@torch.inference_mode()
def test_upsampling_starts_as_linear_interpolation() -> None:
    torch.manual_seed(0)
    flow = GaussNewtonFlow(4, 4).eval()
    prepared = flow.prepare(torch.rand(1, 1, 33, 46))
    values, hidden = torch.randn(1, 3, 9, 12), torch.randn(1, 4, 9, 12)
    full = flow.shares(values, hidden, prepared.outlines)
    linear = torch.nn.functional.interpolate(
        values, scale_factor=GRID, mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(full, linear, atol=0.02, rtol=0)


def test_upsampling_by_strips_is_upsampling_at_once() -> None:
    torch.manual_seed(0)
    shares = Shares(4)
    torch.nn.init.normal_(shares[2].weight)
    seen = [torch.randn(2, channels, 57, 43) for channels in (3, 4, OUTLINES)]
    at_once = shares(*seen)  # for gradients
    with torch.no_grad():
        torch.testing.assert_close(shares(*seen), at_once)


def test_upsampling_can_draw_an_outline_within_a_cell() -> None:
    values = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    shares = torch.zeros(1, 9, GRID, GRID, 1, 2)
    shares[:, 4] = 1  # each cell's px are its own …
    shares[:, 4, :, -1, :, 0], shares[:, 5, :, -1, :, 0] = 0, 1  # … but the first one's last column
    full = upsample(neighbours(values), shares.flatten(2, 3))
    assert torch.equal(full[0, 0], torch.tensor([0.0] * 3 + [1.0] * 5).expand(GRID, 8))


# on disk


def save(path: Path, flow: GaussNewtonFlow, **changes: object) -> None:
    facts = {"kind": "flow", "architecture": "gauss_newton", "config": flow.config, "training": {}}
    save_checkpoint(path, flow, **(facts | changes))


@torch.inference_mode()
def test_checkpoints_bring_the_same_flow_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    flow = GaussNewtonFlow(4, 6, (0, 1, 0, 1, 2, 1)).eval()
    save(tmp_path / "flow.safetensors", flow)
    assert read_checkpoint(tmp_path / "flow.safetensors", "flow").config == {
        "width": 4,
        "context": 6,
        "steps": [0, 1, 0, 1, 2, 1],
    }
    again = load_flow(tmp_path / "flow.safetensors")
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    frames = pair(0.3, 0.1, (40, 40))
    assert torch.equal(again(*frames), flow(*frames))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    flow = GaussNewtonFlow(4, 4)
    save(tmp_path / "flow.safetensors", flow, config={**flow.config, "width": 8})
    with pytest.raises(FlowmagError, match="does not fit its architecture"):
        load_flow(tmp_path / "flow.safetensors")
