from __future__ import annotations

import pytest
import torch

from napari_flowmag import MagnificationLoss, load_flow, load_magnifier
from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.objective import Objective, brightness_error, roughness
from napari_flowmag.adapt.pairs import Pairs


@pytest.fixture(scope="module")
def pair(clip):
    both = torch.from_numpy(clip[[0, 2]])[:, None]
    return both[:1].clone(), both[1:].clone()


def constant(dx, like):
    motion = torch.zeros(1, 2, *like.shape[-2:])
    motion[:, 0] = dx
    return motion


def test_the_true_motion_explains_a_frame_best(pair):
    reference, frame = pair
    true = 1.2 * 0.9092974  # the frame shows its texture this much further right
    errors = {dx: float(brightness_error(reference, frame, constant(dx, frame)))
              for dx in (true, true - 0.1, true + 0.1, 0.0)}  # fmt: skip
    assert errors[true] == min(errors.values()) < 0.02
    assert errors[0.0] > 10 * errors[true]
    drifted = float(brightness_error(reference, 0.8 * frame + 0.1, constant(true, frame)))
    assert drifted < 0.1 * errors[0.0]  # brightness may drift


def test_roughness_is_the_slope_of_the_motion():
    grey = torch.zeros(1, 1, 8, 8)
    assert float(roughness(grey, constant(3.0, grey))) == 0
    ramp = torch.arange(8.0).expand(1, 2, 8, 8) * 0.5
    assert float(roughness(grey, ramp)) == pytest.approx(0.5)
    edges = torch.arange(8.0).expand(1, 1, 8, 8) / 4  # motion may change where the picture does
    assert float(roughness(edges, ramp)) < 0.01


def test_without_a_motion_weight_it_is_the_papers_loss(pair):
    reference, frame = pair
    settings = AdaptSettings.of("paper", alpha=4)
    magnifier, alpha = load_magnifier("default", "cpu"), torch.tensor([4.0])
    pairs = Pairs(reference, frame, alpha, merge=False)
    ours = Objective.of(settings, load_flow("default"))(magnifier, pairs)
    papers = MagnificationLoss(load_flow("default"))(
        magnifier(reference, frame, alpha), reference, frame, alpha
    )
    torch.testing.assert_close(ours, papers.total)


def test_a_model_without_motion_is_judged_by_its_pictures_alone(pair, paint_magnifier):
    reference, frame = (side.expand(-1, 3, -1, -1).contiguous() for side in pair)
    pairs = Pairs(reference, frame, torch.tensor([2.0]), merge=True)
    flow = load_flow("default")
    with_motion = AdaptSettings.of(motion_weight=5.0, colour_weight=10.0)
    values = [
        float(Objective.of(s, flow)(paint_magnifier, pairs))
        for s in (with_motion, with_motion.replace(motion_weight=0.0))
    ]
    assert values[0] == values[1] > 0
