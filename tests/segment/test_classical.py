from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag.errors import FlowmagError
from napari_flowmag.segment import Outline, Prompt, to_rgb
from napari_flowmag.segment.classical import AppearanceSegmenter
from napari_flowmag.synthetic.scenes import demo_clip


def iou(found, known):
    return (found & known).sum() / (found | known).sum()


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(((120, 90),), ((120, 230),)),
        Prompt(((60, 60), (200, 60)), ((60, 225), (200, 225))),
        Prompt(boxes=((0, 0, 255, 190),)),
    ],
)
def test_a_sheet_of_cells(prompt):
    known = demo_clip("cells", length=2)
    segmenter = AppearanceSegmenter()
    found = segmenter.segment(segmenter.prepare(known.frames[0], lambda: None), prompt)
    assert found.shape == known.moving.shape
    assert iou(found, known.moving) > 0.85


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("rgb", [False, True])
def test_a_disk_in_any_type_and_odd_sizes(dtype, rgb):
    y, x = np.mgrid[:97, :133]
    disk = np.hypot(y - 40, x - 60) < 22
    noise = np.random.default_rng(0).normal(0, 6, disk.shape)
    picture = (np.where(disk, 180, 60) + noise).clip(0, 255)
    picture = picture.astype(np.uint8) if dtype == "u1" else (picture * 20).astype(dtype)
    if rgb:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    segmenter = AppearanceSegmenter()
    prepared = segmenter.prepare(picture, lambda: None)
    assert iou(segmenter.segment(prepared, Prompt(((40, 60),), ((80, 110),))), disk) > 0.85
    assert iou(segmenter.segment(prepared, Prompt(((40, 60),))), disk) > 0.85


def test_prompts_that_say_nothing():
    with pytest.raises(FlowmagError, match="no prompt"):
        Prompt(outside=((1, 1),))
    segmenter = AppearanceSegmenter()
    prepared = segmenter.prepare(np.zeros((20, 30)), lambda: None)
    with pytest.raises(FlowmagError, match=r"\(40, 5\) lies outside"):
        segmenter.segment(prepared, Prompt(((5, 40),)))


def test_growing_and_shrinking():
    mask = np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    grown = Outline(mask).moved(3)
    assert grown[7, 15]
    assert not grown[6, 15]
    np.testing.assert_array_equal(Outline(Outline(mask).moved(2)).moved(-2)[12:18, 12:18], True)
    assert Outline(mask).moved(-3).sum() == 16
    at_the_edge = np.zeros((30, 30), bool)
    at_the_edge[:10] = True
    assert Outline(at_the_edge).moved(-3)[0].all()


def test_pictures_for_networks():
    deep = np.linspace(0, 60000, 600).reshape(20, 30).astype(np.uint16)
    rgb = to_rgb(deep)
    assert (rgb.shape, rgb.dtype, rgb.min(), rgb.max()) == ((20, 30, 3), np.uint8, 0, 255)
