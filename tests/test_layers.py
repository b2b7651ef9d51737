from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag._layers import (
    axes_of,
    clip_of,
    in_plane,
    in_view,
    is_clip_layer,
    result_settings,
    to_layer_order,
)
from napari_flowmag.errors import FlowmagError

layers = pytest.importorskip("napari.layers")


@pytest.mark.parametrize(
    ("shape", "labels", "rgb", "axes"),
    [
        ((5, 8, 9), None, False, "TYX"),
        ((5, 8, 9, 3), None, True, "TYXS"),
        ((5, 4, 8, 9), None, False, "TZYX"),
        ((5, 2, 8, 9), ("t", "c", "y", "x"), False, "TCYX"),
        ((4, 5, 8, 9), ("z", "t", "y", "x"), False, "ZTYX"),
        ((5, 2, 4, 8, 9), ("t", "c", "z", "y", "x"), False, "TCZYX"),
        ((5, 8, 9), ("z", "y", "x"), False, "TYX"),
    ],
)
def test_axes_and_clip(shape, labels, rgb, axes):
    data = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    layer = layers.Image(data, axis_labels=labels, rgb=rgb)
    assert axes_of(layer) == axes
    clip = clip_of(layer)
    assert clip.axes == "".join(a for a in "TZCYXS" if a in axes)
    back = to_layer_order(np.asarray(clip.frames), clip.axes, axes)
    np.testing.assert_array_equal(back, data)


def test_what_is_no_clip():
    assert not is_clip_layer(layers.Image(np.zeros((8, 9))))
    assert not is_clip_layer(layers.Image(np.zeros((1, 8, 9))))
    assert not is_clip_layer(layers.Labels(np.zeros((3, 8, 9), int)))
    preview = layers.Image(np.zeros((3, 8, 9)), metadata={"flowmag": {"role": "preview"}})
    assert not is_clip_layer(preview)
    with pytest.raises(FlowmagError, match="name its axes"):
        axes_of(layers.Image(np.zeros((2, 3, 4, 8, 9))))


def test_scale_becomes_physical():
    layer = layers.Image(
        np.zeros((5, 4, 8, 9)),
        scale=(40, 2, -0.5, 0.25),
        units=("ms", "um", "um", "um"),
        axis_labels=("t", "z", "y", "x"),
    )
    clip = clip_of(layer)
    assert clip.fps == pytest.approx(25)
    assert clip.pixel_size == pytest.approx((2, 0.5, 0.25))
    assert clip.unit == "µm"
    plain = clip_of(layers.Image(np.zeros((5, 8, 9)), scale=(3, 2, 2)))
    assert (plain.fps, plain.pixel_size, plain.unit) == (None, None, None)


def test_layers_as_channels():
    first, second = np.zeros((4, 8, 9), np.uint16), np.ones((4, 8, 9), np.uint16)
    clip = clip_of(layers.Image(first, name="a"), layers.Image(second, name="b"))
    assert (clip.axes, clip.channel_names) == ("TCYX", ("a", "b"))
    np.testing.assert_array_equal(np.asarray(clip.frames)[:, 1], second)
    with pytest.raises(FlowmagError, match="shapes"):
        clip_of(layers.Image(first), layers.Image(second[:3]))
    with pytest.raises(FlowmagError, match="hold"):
        clip_of(layers.Image(first), layers.Image(second.astype(np.uint8)))


@given(
    scale=st.tuples(*[st.sampled_from([0.05, 0.5, 2.0, -1.5])] * 3),
    translate=st.tuples(*[st.floats(-50, 50)] * 3),
    start=st.integers(0, 4),
)
def test_results_lie_over_their_source(scale, translate, start):
    layer = layers.Image(np.zeros((6, 8, 9)), scale=scale, translate=translate)
    result = layers.Image(np.zeros((6 - start, 8, 9)), **result_settings(layer, start))
    np.testing.assert_allclose(
        result.data_to_world((0, 2, 3)), layer.data_to_world((start, 2, 3)), atol=1e-9
    )


def test_frame_in_view():
    layer = layers.Image(np.zeros((6, 3, 8, 9)), scale=(0.1, 2, 1, 1), translate=(1, 0, 0, 0))
    assert in_view((1.3, 3.9, 0, 0), layer) == {"T": 3, "Z": 2}
    assert in_view((99, -5, 0, 0), layer) == {"T": 5, "Z": 0}


def test_frame_in_view_where_another_layer_has_smaller_units():
    from napari.components import ViewerModel

    viewer = ViewerModel()
    axes = ("t", "y", "x")
    seconds = viewer.add_image(
        np.zeros((6, 8, 9)), scale=(0.1, 1, 1), units=("s", "um", "um"), axis_labels=axes
    )
    milliseconds = viewer.add_image(
        np.zeros((6, 8, 9)), scale=(100, 1000, 1000), units=("ms", "nm", "nm"), axis_labels=axes
    )
    viewer.dims.set_current_step(0, 3)
    for layer in (seconds, milliseconds):
        assert in_view(viewer.dims.point, layer, viewer.dims.units) == {"T": 3}


def test_a_single_picture_has_a_look_and_a_place():
    picture = layers.Image(np.zeros((8, 9)), scale=(2, 3), translate=(1, 5), colormap="magma")
    copy = layers.Image(np.zeros((8, 9)), **in_plane(result_settings(picture)))
    assert copy.colormap.name == "magma"
    np.testing.assert_allclose(copy.data_to_world((3, 4)), picture.data_to_world((3, 4)))
