from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag import _sample_data
from napari_flowmag.synthetic.scenes import demo_clip

KINDS = {"cells": ("um", 0.325, 30.0, 0.35), "beam": ("mm", 0.8, 4000.0, 0.3)}


@pytest.fixture(scope="module", params=KINDS)
def sample(request):
    """Name of a sample, what its layers are, and the same clip from its renderer."""
    return (
        request.param,
        getattr(_sample_data, request.param)(),
        demo_clip(request.param, length=64),
    )


def test_a_sample_is_one_layer_in_memory_and_always_the_same(sample):
    _, ((data, _, layer_type),), known = sample
    assert layer_type == "image"
    assert type(data) is np.ndarray
    np.testing.assert_array_equal(data, known.frames)


def test_a_sample_has_its_scale(sample):
    kind, ((_, settings, _),), _ = sample
    unit, size, fps, _ = KINDS[kind]
    assert settings["scale"] == (1 / fps, size, size)
    assert settings["units"] == ("s", unit, unit)
    assert settings["rgb"] == (kind == "beam")
    assert settings["metadata"]["flowmag"]["fps"] == fps


def test_a_sample_tells_how_it_moves(sample):
    kind, ((data, settings, _),), _ = sample
    known = settings["metadata"]["flowmag"]
    motion, moving = known["displacement"], known["moving"]
    assert motion.shape == (len(data), 2, *moving.shape)
    assert moving.shape == data.shape[1:3]
    assert np.abs(motion).max() == pytest.approx(KINDS[kind][3], rel=0.1)
    assert not np.any(motion[:, :, ~moving])


@pytest.mark.parametrize("kind", KINDS)
def test_napari_opens_a_sample(kind):
    components = pytest.importorskip("napari.components")
    pytest.importorskip("npe2").PluginManager.instance().discover()
    viewer = components.ViewerModel()
    (layer,) = viewer.open_sample("flowmag", kind)
    assert layer.rgb == (kind == "beam")
    assert str(layer.units[0]) == "second"
