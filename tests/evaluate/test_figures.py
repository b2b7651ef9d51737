from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.case import Sample
from napari_flowmag.evaluate.figures import input_flows, judge, rigid_pieces
from napari_flowmag.measure import displacement
from napari_flowmag.synthetic.clips import (
    disk_coverage,
    disk_on_still_ground,
    translating_texture,
)

SIZE = (96, 96)
MOVES = np.array([(0.0, 0.0), (0.3, 0.0), (-0.2, 0.25)])
ALPHA = 10.0


class WholeFlow:
    """Knows only motions of a picture as a whole, but those to a hundredth of a pixel."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        assert first.shape == second.shape == (1, 3, *SIZE)
        assert 0 <= float(first.min()) < float(first.max()) <= 1
        found = displacement(*(x[0].mean(0).numpy() for x in (first, second)))
        return torch.from_numpy(found).view(1, 2, 1, 1).expand(1, 2, *SIZE)


def no_flow(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.zeros(1, 2, *SIZE)


def _whole(factor: float = ALPHA) -> Sample:
    clip, ideal = (translating_texture(MOVES, factor=f, size=SIZE) for f in (1.0, factor))
    motion = np.broadcast_to(MOVES[:, :, None, None], (3, 2, *SIZE)).astype(np.float32)
    return Sample(clip, truth=ideal, motion=motion, moving=np.ones(SIZE, dtype=bool))


def _disk(factor: float = ALPHA, noise: float = 0.0) -> Sample:
    clip, ideal = (
        disk_on_still_ground(MOVES, factor=f, size=SIZE, radius=30) for f in (1.0, factor)
    )
    clip = clip + noise * np.random.default_rng(0).standard_normal(clip.shape, dtype=np.float32)
    moving = disk_coverage(SIZE, 30) > 0.5
    motion = (MOVES[:, :, None, None] * moving).astype(np.float32)
    still = disk_coverage(SIZE, 44) < 0.01
    return Sample(clip, truth=ideal, motion=motion, moving=moving, still=still)


def test_the_truth_has_no_fault() -> None:
    sample = _disk(noise=4 / 255)
    figures = judge(sample, sample.truth, ALPHA, {"none": no_flow})
    assert figures["factor"] == pytest.approx(ALPHA, rel=0.01)
    assert figures["factor_low"] <= figures["factor"] <= figures["factor_high"]
    assert figures["ssim"] == 1
    assert figures["psnr"] == np.inf
    assert figures["leak"] == 0
    # The reference has noise, of which the truth is free.
    assert figures["stillness_relative"] == pytest.approx(np.sqrt(0.5), abs=0.01)
    assert figures["sharpness"] == pytest.approx(1, abs=0.02)


def test_the_truth_by_a_flow_that_is_right() -> None:
    sample = _whole()
    figures = judge(sample, sample.truth, ALPHA, {"whole": WholeFlow()})
    assert figures["factor"] == pytest.approx(ALPHA, rel=0.01)
    assert figures["factor[whole]"] == pytest.approx(ALPHA, rel=0.01)
    assert figures["motion_error[whole]"] < 0.03
    assert figures["magnification_error[whole]"] < 0.1
    assert figures["motion_error_true[whole]"] < 0.03
    assert figures["flow_error[whole]"] < 0.003
    assert np.isnan(figures["leak"])


def test_the_input_itself_has_a_factor_of_one() -> None:
    sample = _disk(noise=4 / 255)
    figures = judge(sample, sample.frames, ALPHA, {"none": no_flow})
    assert figures["factor"] == pytest.approx(1, abs=0.05)
    assert figures["stillness"] == figures["stillness_input"] > 3
    assert figures["stillness_relative"] == 1
    assert figures["ssim"] < 0.95
    assert 20 < figures["psnr"] < 40
    # Nothing moves by this flow, so all that was asked for is missing.
    wanted = ALPHA * np.abs(MOVES[1:]).mean()
    assert figures["motion_error_true[none]"] == pytest.approx(wanted)
    assert figures["flow_error[none]"] == pytest.approx(wanted / ALPHA)


@pytest.mark.parametrize("factor", [9.0, 11.0])
def test_a_tenth_too_little_or_too_much(factor: float) -> None:
    sample = _whole()
    figures = judge(sample, _whole(factor).truth, ALPHA, {"whole": WholeFlow()})
    assert figures["factor"] == pytest.approx(factor, rel=0.01)
    assert figures["factor[whole]"] == pytest.approx(factor, rel=0.01)
    missing = np.abs(MOVES[1:]).mean()  # times the difference of 1
    assert figures["motion_error_true[whole]"] == pytest.approx(missing, rel=0.1)
    assert figures["motion_error[whole]"] == pytest.approx(missing, rel=0.1)
    assert figures["magnification_error[whole]"] == pytest.approx(1, rel=0.05)


def test_what_leaks_into_the_still_part_is_counted_there_only() -> None:
    sample = _disk()
    leaky = sample.truth + 5 / 255 * sample.still[..., None]
    leaky[0] = sample.truth[0]
    figures = judge(sample, leaky, ALPHA, {})
    assert figures["leak"] == pytest.approx(5, rel=1e-4)
    assert figures["stillness"] == pytest.approx(5, rel=1e-4)
    assert figures["stillness_input"] == 0
    assert np.isnan(figures["stillness_relative"])
    assert figures["factor"] == pytest.approx(ALPHA, rel=0.01)


def test_names_do_not_depend_on_what_is_known() -> None:
    sample = _disk()
    flows = {"whole": WholeFlow(), "none": no_flow}
    unknown = Sample(sample.frames)
    known = judge(sample, sample.frames, ALPHA, flows)
    blind = judge(unknown, sample.frames, ALPHA, flows)
    assert list(known) == list(blind)
    for name in ("ssim", "psnr", "leak", "stillness", "flow_error[none]", "factor[none]"):
        assert np.isnan(blind[name])
    assert blind["factor[whole]"] == blind["factor"] == pytest.approx(1)
    assert blind["sharpness"] == pytest.approx(1, abs=0.02)
    assert all(isinstance(value, float) for value in (*known.values(), *blind.values()))


@pytest.mark.parametrize("channels", [1, 3])
def test_counts_of_a_camera_are_judged_as_pictures_are(channels: int) -> None:
    grey = {} if channels == 3 else {"axis": -1}
    sample = _disk()
    if grey:
        sample = replace(sample, frames=sample.frames.mean(-1), truth=sample.truth.mean(-1))
    frames, truth = (200 + 40_000 * x for x in (sample.frames, sample.truth))
    counts = replace(
        sample, frames=frames.round().astype(np.uint16), truth=truth, value_range=(200.0, 40_200.0)
    )
    flows = {"whole": WholeFlow()}
    first = judge(sample, sample.frames, ALPHA, flows)
    second = judge(counts, counts.frames, ALPHA, flows)
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=0.01, abs=0.003, nan_ok=True), name


def test_flows_of_the_input_can_be_kept() -> None:
    sample, flow = _whole(), WholeFlow()
    inputs = input_flows(sample, {"whole": flow})
    assert inputs["whole"].shape == (2, 2, *SIZE)
    assert flow.calls == 2
    kept = judge(sample, sample.truth, ALPHA, {"whole": flow}, inputs)
    assert flow.calls == 4
    assert kept == pytest.approx(judge(sample, sample.truth, ALPHA, {"whole": flow}), nan_ok=True)


def test_figures_are_means_over_the_frames_but_the_reference() -> None:
    sample = _whole()
    flows = {"whole": WholeFlow()}
    together = judge(sample, sample.frames, ALPHA, flows)
    each = [judge(_pick(sample, t), sample.frames[[0, t]], ALPHA, flows) for t in (1, 2)]
    for name in ("motion_error[whole]", "motion_error_true[whole]", "ssim", "sharpness"):
        mean = np.mean([figures[name] for figures in each])
        assert together[name] == pytest.approx(mean), name


def _pick(sample: Sample, t: int) -> Sample:
    return replace(
        sample,
        frames=sample.frames[[0, t]],
        truth=sample.truth[[0, t]],
        motion=sample.motion[[0, t]],
    )


def test_things_that_move_as_wholes() -> None:
    motion = np.zeros((3, 2, *SIZE), dtype=np.float32)
    motion[1, :, :40, :40] = 0.2
    motion[1:, 1, 50:, 60:] = 0.3
    sample = Sample(np.zeros((3, *SIZE)), motion=motion, moving=motion.any((0, 1)))
    pieces = rigid_pieces(sample)
    assert sorted(int(piece.sum()) for piece in pieces) == [1600, 46 * 36]
    bending = motion * np.linspace(0.5, 1, SIZE[1], dtype=np.float32)
    assert rigid_pieces(replace(sample, motion=bending)) == []
    thin = motion.copy()
    thin[1, 0, 42:44, :40] = 0.7
    assert rigid_pieces(replace(sample, motion=thin, moving=thin.any((0, 1)))) == []
    assert rigid_pieces(replace(sample, motion=0 * motion)) == []
    assert rigid_pieces(replace(sample, motion=None)) == []


def test_what_cannot_be_correlated_is_left_to_the_flow() -> None:
    sample = _whole()
    blank = np.full_like(sample.frames, 0.1)
    flat = replace(sample, frames=blank, truth=blank)
    assert np.isnan(judge(flat, blank, ALPHA, {})["factor"])
    assert judge(flat, blank, ALPHA, {"none": no_flow})["factor"] == 0


def test_an_answer_of_another_shape_is_named() -> None:
    sample = _disk()
    with pytest.raises(FlowmagError, match="magnified frames are"):
        judge(sample, sample.frames[:2], ALPHA, {})
