from __future__ import annotations

import json

import pytest

from napari_flowmag.adapt import PRESETS, AdaptSettings
from napari_flowmag.errors import FlowmagError
from napari_flowmag.settings import MagnifySettings


def test_the_paper_preset_is_the_published_recipe():
    paper = AdaptSettings.of("paper", alpha=10)
    assert (paper.lr, paper.batch, paper.crop, paper.epochs, paper.steps) == (1e-4, 8, 512, 3, None)
    assert (paper.rotation, paper.stretch, paper.pad, paper.flip) == (5.0, 1.1, True, 0.0)
    assert paper.jitter == (0.5, 0.5, 0.5, 0.3)
    assert (paper.magnification_weight, paper.colour_weight, paper.normalise) == (1, 10, None)
    assert (paper.alpha_range, paper.reference, paper.schedule) == ((1, 16), "first", "constant")
    assert (paper.what, paper.clip_gradient, paper.warmup, paper.focus) == ("all", 0, 0, 0)
    assert paper.total_steps(20) == 9  # 3 epochs of 20 pairs, 8 at a time


def test_a_budget_replaces_that_of_the_preset():
    assert AdaptSettings.of("paper", steps=7).epochs is None
    assert AdaptSettings.of("paper", minutes=2).total_steps(100) is None
    both = AdaptSettings.of(minutes=2, steps=7)
    assert (both.steps, both.minutes) == (7, 2)


@pytest.mark.parametrize("preset", PRESETS)
def test_settings_fit_into_json(preset):
    settings = AdaptSettings.of(preset)
    again = AdaptSettings(**json.loads(json.dumps(settings.to_dict())))
    assert again.to_dict() == settings.to_dict()


def test_what_a_magnification_asks_is_taken_over():
    asked = MagnifySettings(
        alpha=8, label_alphas={1: 20, 2: 1}, mask="m.tif", reference=3, start=2, stop=9, z=1
    )
    settings = AdaptSettings.for_magnification(asked, steps=5)
    assert (settings.alpha, settings.mask, settings.reference, settings.z) == (20, "m.tif", 3, 1)
    assert settings.alpha_range == pytest.approx((8 / settings.spread, 20 * settings.spread))
    assert (settings.start, settings.stop, settings.steps) == (2, 9, 5)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"preset": "best"}, "preset 'best': give default, paper"),
        ({"alpha": 0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"steps": 0}, "steps 0: give 1 or more"),
        ({"steps": 3, "epochs": 1}, "give one of the two"),
        ({"minutes": -1}, "minutes -1"),
        ({"lr": 0}, "lr 0"),
        ({"flows": ()}, "at least one"),
        ({"what": "head"}, "give all, decoder, affine"),
        ({"schedule": "step"}, "schedule"),
        ({"crop": 8}, "give 32 px or more"),
        ({"rotation": 90}, "rotation"),
        ({"spread": 0.5}, "spread"),
        ({"alpha_range": (4, 2)}, "two rising numbers"),
        ({"jitter": (0, 0, 0, 1)}, "jitter"),
        ({"flip": 2}, "flip"),
        ({"reference": "last"}, "reference 'last'"),
        ({"reference": True}, "reference True"),
        ({"start": 5, "stop": 4}, "leaves no frame"),
    ],
)
def test_senseless_settings_are_refused(changes, line):
    with pytest.raises(FlowmagError, match=line):
        AdaptSettings.of(changes.pop("preset", "default"), **changes)
