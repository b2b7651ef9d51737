"""The preset `paper` draws what the paper's authors draw when they fine-tune on a clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.adaptation import Adaptation, learnt_alphas
from napari_flowmag.adapt.geometry import draw_cut
from napari_flowmag.adapt.pairs import PairSource
from napari_flowmag.frames import as_frames
from napari_flowmag.models.unet import UNetMagnifier
from napari_flowmag.train import augment

FRAMES = 12


def marked(height, width):
    """Frames (T, H, W, 3) that tell row, column and frame of each pixel, as shares from 0 to 1."""
    clip = np.empty((FRAMES, height, width, 3), np.float32)
    clip[..., 0] = (np.arange(height, dtype=np.float32)[:, None] + 1) / height
    clip[..., 1] = (np.arange(width, dtype=np.float32) + 1) / width
    clip[..., 2] = ((np.arange(FRAMES) + 1) / FRAMES)[:, None, None]
    return clip


def source(frames, **changes):
    settings = AdaptSettings.of("paper", value_range=(0.0, 1.0), **changes)
    return PairSource(as_frames(frames), settings, 3, learnt_alphas(settings, UNetMagnifier(4)))


def affine(picture, size):
    """Return (2, 2): rows and columns of the picture that a step down and right in it leads."""
    rows, columns = picture[0] * size[0], picture[1] * size[1]
    middle = slice(200, 300)
    return torch.stack([
        torch.stack([part[middle, middle].diff(dim=d).mean() for d in (0, 1)])
        for part in (rows, columns)
    ]).double()  # fmt: skip


def stretch_and_angle(matrix):
    """Split (2, 2), picture of crop, into factors along height and width and a turn in degrees."""
    turned = np.asarray(matrix)
    factors = 1 / np.linalg.norm(turned, axis=0)
    return factors, math.degrees(math.atan2(turned[1, 0], turned[0, 0]))


def test_stretch_and_rotation_fill_their_ranges_independently():
    settings, rng = AdaptSettings.of("paper"), np.random.default_rng(0)
    cuts = [draw_cut((700, 900), settings, rng) for _ in range(3000)]
    drawn = [stretch_and_angle(cut.matrix) for cut in cuts]
    stretch, angle = np.array([s for s, _ in drawn]), np.array([a for _, a in drawn])
    exponent = np.log(stretch) / math.log(1.1)
    for values in (exponent[:, 0], exponent[:, 1], angle / 5):
        # U(-1, 1)
        assert np.abs(values).max() <= 1 + 1e-9
        assert values.min() < -0.99
        assert values.max() > 0.99
        assert abs(values.mean()) < 0.05
        assert values.std() == pytest.approx(1 / math.sqrt(3), abs=0.02)
    assert stretch.min() == pytest.approx(1 / 1.1, abs=0.002)
    assert stretch.max() == pytest.approx(1.1, abs=0.002)
    assert np.abs(np.corrcoef(np.c_[exponent, angle].T) - np.eye(3)).max() < 0.06
    assert {cut.shape for cut in cuts} == {(512, 512)}
    assert {cut.flips for cut in cuts} == {()}


def test_a_pair_is_the_first_frame_and_another_cut_alike():
    size = (540, 600)
    pairs = source(marked(*size), jitter=(0.0, 0.0, 0.0, 0.0))
    seen = []
    for step in range(2):
        drawn = pairs.draw(step)
        assert drawn.reference.shape == (8, 3, 512, 512)
        for reference, frame in zip(drawn.reference, drawn.frame, strict=True):
            assert torch.equal(reference[:2], frame[:2])
            assert float(reference[2].max()) * FRAMES == pytest.approx(1, abs=1e-3)
            seen.append(round(float(frame[2].max()) * FRAMES) - 1)
            factors, angle = stretch_and_angle(affine(frame, size))
            assert 1 / 1.1 - 1e-3 <= factors.min() <= factors.max() <= 1.1 + 1e-3
            assert abs(angle) <= 5.01
    assert set(seen[: len(pairs.learnt)]) == set(pairs.learnt)
    assert set(pairs.learnt) | set(pairs.held_back) == set(range(1, FRAMES))


def test_smaller_frames_are_padded_with_0_up_to_512():
    size = (300, 200)
    pairs = source(np.ones((4, *size, 3), np.float32), jitter=(0.0, 0.0, 0.0, 0.0))
    for frame in pairs.draw(0).frame:
        assert frame.shape == (3, 512, 512)
        assert float(frame.min()) == 0
        inside = frame[0] > 0.5
        factor = float(inside.sum()) / math.prod(size)
        assert 1.1**-2 - 0.01 <= factor <= 1.1**2 + 0.01
        # The picture lies in the middle; the corners are black.
        rows, columns = (torch.where(inside.any(d))[0].double().mean() for d in (1, 0))
        assert float(rows) == pytest.approx(255.5, abs=1)
        assert float(columns) == pytest.approx(255.5, abs=1)
        assert not frame[:, :60, :60].any()


def test_colours_change_within_the_published_ranges_and_in_both_frames_alike(monkeypatch):
    drawn = {name: [] for name in ("brightness", "contrast", "saturation", "hue")}
    order = []
    for name, amounts in drawn.items():

        def spy(picture, amount, name=name, amounts=amounts):
            assert picture.shape == (3, 64, 32)  # both frames at once
            amounts.append(amount)
            order.append(name)
            return picture

        monkeypatch.setattr(augment.TF, f"adjust_{name}", spy)
    pairs = source(np.ones((9, 40, 40, 3), np.float32), crop=32)
    for step in range(60):
        pairs.draw(step)
    for name, amounts in drawn.items():
        middle, most = (0.0, 0.3) if name == "hue" else (1.0, 0.5)
        assert len(amounts) == 8 * 60
        assert middle - most <= min(amounts) < middle - 0.97 * most
        assert middle + most >= max(amounts) > middle + 0.97 * most
        assert np.mean(amounts) == pytest.approx(middle, abs=0.12 * most)
    assert len({tuple(order[i : i + 4]) for i in range(0, len(order), 4)}) == 24


def test_magnifications_are_2_to_the_power_of_0_to_4():
    pairs = source(np.zeros((9, 40, 40, 3), np.float32), crop=32, jitter=(0.0, 0.0, 0.0, 0.0))
    power = torch.cat([pairs.draw(step).alpha.log2() for step in range(120)]).numpy()
    assert 0 <= power.min() < 0.05
    assert 3.95 < power.max() <= 4
    assert np.histogram(power, 4, (0, 4))[0] == pytest.approx(np.full(4, 240), rel=0.2)


def test_adam_takes_steps_of_1e_4_for_3_epochs_of_8_pairs(clip, monkeypatch):
    steps = []

    class Spy(torch.optim.Adam):
        def step(self, closure=None):
            (group,) = self.param_groups
            steps.append((group["lr"], group["betas"], group["eps"], group["weight_decay"]))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "Adam", Spy)
    settings = AdaptSettings.of("paper", crop=32, device="cpu", held_back=1)
    magnifier = UNetMagnifier(4)
    batches = []
    magnifier.register_forward_pre_hook(lambda m, x: batches.append(len(x[0])))
    adapted = Adaptation(clip, settings, magnifier=magnifier).run()
    assert adapted.steps == math.ceil(3 * 14 / 8)  # 16 frames: a reference, and one held back
    assert steps == [(1e-4, (0.9, 0.999), 1e-8, 0)] * adapted.steps
    assert batches.count(8) == adapted.steps
