"""Labels on the pixels of clips, wherever both lie in the world."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_flowmag._clicks import new_boxes, new_clicks, new_labels, prompt_of
from napari_flowmag._labels import key_frames, labels_on, mask_on
from napari_flowmag.errors import FlowmagError

layers = pytest.importorskip("napari.layers")

TURN = np.deg2rad(10)
TURNED = np.array([[1, 0, 0], [0, np.cos(TURN), -np.sin(TURN)], [0, np.sin(TURN), np.cos(TURN)]])
PLACES = {
    "scaled": {"scale": (1, 0.5, 2), "translate": (0, 10, 5)},
    "mirrored": {"scale": (1, -1, 1)},
    "turned by a right angle": {"rotate": [[1, 0, 0], [0, 0, -1], [0, 1, 0]]},
    "turned": {"rotate": TURNED, "scale": (1, 2, 3), "translate": (0, 4, 5)},
    "sheared": {"shear": (0, 0, 0.4)},
    "moved by an affine": {"affine": [[1, 0, 0, 0], [0, 1, 0, 10], [0, 0, 1, -6], [0, 0, 0, 1]]},
    "stretched by an affine": {"affine": np.diag([1, 2.0, 2.0, 1])},
}


def clip(frames=4, height=20, width=30, **place):
    return layers.Image(np.zeros((frames, height, width), np.uint16), **place)


def pixel_by_pixel(labels, image):
    """What each pixel of an image finds in the labels beneath it."""
    found = np.zeros(image.data.shape[-2:], labels.data.dtype)
    for place in np.ndindex(found.shape):
        world = image.data_to_world((0, *place))[-2:]
        nearest = np.rint(labels.world_to_data(world)).astype(int)
        if (nearest >= 0).all() and (nearest < labels.data.shape).all():
            found[place] = labels.data[tuple(nearest)]
    return found


@pytest.mark.parametrize("name", PLACES)
def test_labels_lie_where_they_are_seen(name):
    image = clip(**PLACES[name])
    top, left = image.extent.world[0, 1:]
    drawn = np.zeros((90, 90), np.uint8)
    drawn[5:9, 6:15] = 1
    drawn[20:40, 30:70] = 2
    labels = layers.Labels(drawn, translate=(top - 0.317, left - 1.231))
    expected = pixel_by_pixel(labels, image)
    assert expected.any()
    np.testing.assert_array_equal(labels_on(labels, image), expected)


@pytest.mark.parametrize("name", PLACES)
def test_what_is_drawn_on_a_clip_lies_on_it(name):
    image = clip(**PLACES[name])
    labels = new_labels(image)
    np.testing.assert_allclose(labels.extent.world, image.extent.world[:, 1:], atol=1e-9)
    labels.data[3:7, 4:9] = 1
    np.testing.assert_array_equal(labels_on(labels, image), labels.data)
    np.testing.assert_array_equal(
        mask_on(labels, image, labels.data == 1, {"T": 2})[1], labels.data == 1
    )
    clicks, boxes = new_clicks(image), new_boxes(image)
    clicks.add([[5, 7]])
    boxes.add_rectangles([[2, 3], [10, 12]])
    prompt = prompt_of(clicks, boxes, image)
    np.testing.assert_allclose(prompt.boxes, [(2, 3, 10, 12)], atol=1e-6)
    world = clicks.data_to_world((5, 7))
    np.testing.assert_allclose(world, image.data_to_world((0, 5, 7))[1:], atol=1e-9)


def test_labels_in_other_units():
    um, nm = ("s", "um", "um"), ("ms", "nm", "nm")
    image = clip(scale=(0.1, 0.5, 0.5), units=um, axis_labels=("t", "y", "x"))
    drawn = np.zeros((4, 20, 30), np.uint8)
    drawn[2, 3:6, 4:9] = 1
    labels = layers.Labels(drawn, scale=(100, 500, 500), units=nm, axis_labels=("t", "y", "x"))
    np.testing.assert_array_equal(labels_on(labels, image), drawn)


MICRONS = {"scale": (0.05, 0.3, 0.3), "units": ("s", "um", "um"), "axis_labels": ("t", "y", "x")}


def test_labels_of_one_size_without_common_units_lie_pixel_on_pixel():
    drawn = np.zeros((4, 20, 30), np.uint8)
    drawn[3, 15, 20:25] = 1
    found = labels_on(layers.Labels(drawn, axis_labels=("t", "y", "x")), clip(**MICRONS))
    np.testing.assert_array_equal(found, drawn)


def test_labels_of_any_array(tmp_path):
    zarr = pytest.importorskip("zarr")
    stored = zarr.create_array(store=tmp_path / "labels", shape=(20, 30), dtype="uint8")
    assert not labels_on(layers.Labels(stored), clip()).any()
    stored[5, 6] = 3
    assert labels_on(layers.Labels(stored), clip())[5, 6] == 3


def test_labels_beside_the_clip_are_told_from_empty_ones():
    drawn = np.zeros((40, 40), np.uint8)
    assert not labels_on(layers.Labels(drawn), clip(**MICRONS)).any()
    drawn[35, 35] = 1
    with pytest.raises(FlowmagError, match="'drawn' lie beside the clip"):
        labels_on(layers.Labels(drawn, name="drawn"), clip(**MICRONS))


# depth


def deep(axes="tzyx"):
    sizes = {"t": 4, "z": 3, "c": 2, "y": 20, "x": 30}
    shape = tuple(sizes[a] for a in axes)
    scale = tuple({"z": 2.0}.get(a, 1.0) for a in axes)
    image = layers.Image(np.zeros(shape, np.uint16), scale=scale, axis_labels=tuple(axes))
    labels = layers.Labels(np.zeros(shape, np.uint8), scale=scale, axis_labels=tuple(axes))
    return image, labels


@pytest.mark.parametrize("axes", ["tzyx", "ztyx"])
@pytest.mark.parametrize("z", [None, 0, 1, 2])
def test_labels_drawn_in_one_slice_serve_for_all(axes, z):
    image, labels = deep(axes)
    drawn = np.zeros((20, 30), np.uint8)
    drawn[2:5, 6:11] = 3
    labels.data[2] = drawn if axes == "ztyx" else 0
    if axes == "tzyx":
        labels.data[:, 2] = drawn
    found = labels_on(labels, image, z)
    assert found.shape == (4, 20, 30)
    assert (found == drawn).all()


def test_each_slice_has_its_labels_or_the_nearest_ones():
    image, labels = deep()
    labels.data[:, 0, :5] = 1
    labels.data[:, 2, 10:] = 2
    assert np.unique(labels_on(labels, image, 0)).tolist() == [0, 1]
    assert np.unique(labels_on(labels, image, 1)).tolist() == [0, 1]
    assert np.unique(labels_on(labels, image, 2)).tolist() == [0, 2]
    with pytest.raises(FlowmagError, match="Only the slice in view"):
        labels_on(labels, image)
    labels.data[:, 0] = labels.data[:, 2]
    assert np.unique(labels_on(labels, image)).tolist() == [0, 2]


def test_depth_counts_by_its_place_in_the_world():
    image, _ = deep()
    data = np.zeros((4, 2, 20, 30), np.uint8)
    data[:, 0, :5], data[:, 1, 10:] = 1, 2
    labels = layers.Labels(data, scale=(1, 2, 1, 1), translate=(0, 2, 0, 0))  # from slice 1 on
    assert np.unique(labels_on(labels, image, 1)).tolist() == [0, 1]
    assert np.unique(labels_on(labels, image, 2)).tolist() == [0, 2]


def test_labels_drawn_in_one_channel_serve_for_all():
    image, labels = deep("tcyx")
    labels.data[1, 1, 3:6, 4:9] = 1
    assert np.argwhere(labels_on(labels, image)).tolist() == np.argwhere(labels.data[:, 1]).tolist()
    labels.data[1, 0, 10:12] = 1
    with pytest.raises(FlowmagError, match="one channel"):
        labels_on(labels, image)


# from a clip to labels


def test_a_mask_lands_in_its_frame_and_slice():
    image, labels = deep("ztyx")
    mask = np.zeros((20, 30), bool)
    mask[2:5, 6:11] = True
    place, inside = mask_on(labels, image, mask, {"T": 3, "Z": 2})
    assert place == (2, 3)
    np.testing.assert_array_equal(inside, mask)


def test_a_mask_on_labels_of_another_grid():
    mask = np.zeros((20, 30), bool)
    mask[4:8, 10:16] = True
    coarse = layers.Labels(np.zeros((10, 15), np.uint8), scale=(2, 2), translate=(0.5, 0.5))
    place, inside = mask_on(coarse, clip(), mask, {"T": 0})
    assert place == ()
    np.testing.assert_array_equal(np.argwhere(inside).min(axis=0), (2, 5))
    np.testing.assert_array_equal(np.argwhere(inside).max(axis=0), (3, 7))
    elsewhere = layers.Labels(np.zeros((20, 30), np.uint8), translate=(100, 0))
    with pytest.raises(FlowmagError, match="do not reach"):
        mask_on(elsewhere, clip(), mask, {"T": 0})
    early = layers.Labels(np.zeros((2, 20, 30), np.uint8))
    with pytest.raises(FlowmagError, match="do not reach"):
        mask_on(early, clip(), mask, {"T": 3})


def test_labels_on_another_grid():
    image = layers.Image(np.zeros((4, 20, 30)), scale=(1, 0.5, 0.5), translate=(0, 10, 5))
    drawn = np.zeros((10, 15), np.uint8)
    drawn[2:4, 5:8] = 3
    same = labels_on(layers.Labels(drawn, scale=(1, 1), translate=(10.25, 5.25)), image)
    assert same.shape == (20, 30)
    np.testing.assert_array_equal(np.argwhere(same == 3).min(axis=0), (4, 10))
    np.testing.assert_array_equal(np.argwhere(same == 3).max(axis=0), (7, 15))
    over_time = np.zeros((4, 20, 30), np.uint8)
    over_time[2, 5, 6] = 1
    exact = layers.Labels(over_time, scale=image.scale, translate=image.translate)
    np.testing.assert_array_equal(labels_on(exact, image), over_time)
    with pytest.raises(FlowmagError, match="axes"):
        labels_on(layers.Labels(np.zeros((2, 2, 20, 30), np.uint8)), image)


@given(hnp.arrays(np.uint8, (5, 2, 3), elements=st.integers(0, 2)))
def test_frames_without_labels_take_the_nearest(labels):
    drawn = [t for t in range(5) if labels[t].any()]
    found = key_frames(labels)
    if len(drawn) < 2:
        np.testing.assert_array_equal(found, labels[drawn[0]] if drawn else labels[0])
        return
    for t in range(5):
        nearest = min(drawn, key=lambda d: (abs(d - t), d))
        np.testing.assert_array_equal(found[t], labels[nearest])
