from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.errors import FlowmagError
from napari_flowmag.models.base import broadcast_alpha
from napari_flowmag.strength import Strength, read_mask, strength

SIZE = (20, 30)


@given(st.floats(0, 1e9), st.floats(1.5, 100))
def test_passes_reach_alpha_and_none_leaves_the_range(alpha, most):
    passes = Strength(alpha).passes((0.0, most))
    each = alpha ** (1 / passes)
    assert each <= most * (1 + 1e-6)
    assert each**passes == pytest.approx(alpha, rel=1e-6)
    assert passes == 1 or alpha ** (1 / (passes - 1)) > most


@pytest.mark.parametrize(
    ("alpha", "passes"), [(16, 1), (16.01, 2), (256, 2), (257, 3), (1000, 3), (16.0**5, 5)]
)
def test_passes_of_the_paper_s_range(alpha, passes):
    assert Strength(alpha).passes((1, 16)) == passes


def test_below_the_range_is_refused():
    with pytest.raises(FlowmagError, match=r"0\.5.*cannot go below 1"):
        Strength(0.5).passes((1, 16))
    with pytest.raises(FlowmagError, match="cannot go below"):
        Strength(np.array([[2.0, 0.5]], np.float32)).passes((1, 16))


def test_map_is_shared_out_pixel_by_pixel():
    alpha = np.linspace(0, 100, 600).reshape(SIZE)
    each = broadcast_alpha(strength(alpha, SIZE).tensor(3, 2, torch.device("cpu")))
    assert each.shape == (3, 1, *SIZE)
    np.testing.assert_allclose(each[1, 0] ** 2, alpha, rtol=1e-5)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_mask_says_inside_where_not_zero(dtype):
    mask = np.zeros(SIZE, dtype)
    mask[5:8, 5:8] = 3
    each = broadcast_alpha(strength(9, SIZE, mask).tensor(1, 2, torch.device("cpu")))[0, 0]
    np.testing.assert_allclose(each, np.where(mask, 3, 1))


def test_mask_grows_and_fades():
    mask = np.zeros(SIZE, bool)
    mask[10, 10] = True
    grown = strength(2, SIZE, mask, soft=4).mask
    assert grown[10, 13] == 1
    assert grown[10, 14] == 0
    faded = strength(2, SIZE, mask, soft=4, feather_px=4).mask
    assert faded[10, 13] == 1
    assert 1 > faded[10, 15] > faded[10, 16] > 0


def test_float_mask_is_taken_as_weights():
    weights = np.linspace(0, 1, 600, dtype=np.float32).reshape(SIZE)
    np.testing.assert_array_equal(strength(2, SIZE, weights).mask, weights)


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((20, 31)),
        np.zeros(SIZE),
        np.full(SIZE, 2.0),
        np.full(SIZE, np.nan),
        np.full(SIZE, 1j),
    ],
)
def test_wrong_masks(mask):
    with pytest.raises(FlowmagError, match="mask"):
        strength(2, SIZE, mask)


@pytest.mark.parametrize(
    "alpha", [np.ones((3, 3)), np.full(SIZE, -1.0), np.full(SIZE, np.nan), np.full(SIZE, 1e39)]
)
def test_wrong_alpha_maps(alpha):
    with pytest.raises(FlowmagError, match="alpha"):
        strength(alpha, SIZE)


def test_constant():
    mask = np.zeros(SIZE, bool)
    mask[0] = True
    assert strength(3, SIZE).constant() == 3
    assert strength(np.full(SIZE, 3.0), SIZE).constant() == 3
    assert strength(np.arange(600).reshape(SIZE), SIZE).constant() is None
    assert strength(0, SIZE, mask).constant() is None
    assert strength(1, SIZE, mask).constant() == 1
    assert strength(5, SIZE, ~np.zeros(SIZE, bool)).constant() == 5


def test_mask_from_files(tmp_path):
    from PIL import Image

    mask = np.zeros(SIZE, np.uint8)
    mask[3:9, 4:20] = 255
    Image.fromarray(mask).save(tmp_path / "grey.png")
    opaque = np.full(SIZE, 255, np.uint8)
    Image.fromarray(np.dstack([mask, mask * 0, mask * 0, opaque])).save(tmp_path / "red.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png"), mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "red.png"), mask)
    import tifffile

    labels = np.stack([mask // 255, mask // 255 * 2])
    tifffile.imwrite(tmp_path / "stack.tif", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "stack.tif"), labels)
    deep = np.zeros((2, 3, *SIZE), np.uint8)
    tifffile.imwrite(tmp_path / "deep.tif", deep, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(FlowmagError, match="without depth"):
        read_mask(tmp_path / "deep.tif")


def labelled():
    labels = np.zeros(SIZE, np.uint8)
    labels[2:8, 3:9] = 1
    labels[2:8, 12:18] = 2
    return labels


@pytest.mark.parametrize(("soft", "feather_px"), [(0, 0), (0, 3), (4, 0), (4, 4), (30, 6)])
def test_each_label_has_its_own_alpha(soft, feather_px):
    labels = labelled()
    made = strength(5, SIZE, labels, soft, feather_px, label_alphas={2: 20}.items(), outside=0.5)
    assert made.mask is None
    assert (made.alpha[labels == 1] == 5).all()
    assert (made.alpha[labels == 2] == 20).all()
    assert made.alpha.min() >= 0.5
    assert made.alpha.max() == 20
    if soft == feather_px == 0:
        assert (made.alpha[labels == 0] == 0.5).all()


def test_soft_edges_of_two_labels_meet_without_a_jump():
    made = strength(4, SIZE, labelled(), soft=8, label_alphas=[(2, 16)])
    between = made.alpha[5, 8:13]  # from the last pixel of one label to the first of the other
    assert (np.diff(between) > 0).all()
    assert np.diff(between).max() < 6


def test_one_alpha_by_labels_is_the_mask_itself():
    mask = labelled() > 0
    by_mask, by_label = (
        broadcast_alpha(s.tensor(1, 1, torch.device("cpu"))).numpy()
        for s in (
            strength(7, SIZE, mask, 3, 3),
            strength(7, SIZE, mask.astype(np.uint8), 3, 3, label_alphas=[(1, 7)]),
        )
    )
    np.testing.assert_allclose(by_label, by_mask, rtol=1e-6)


def test_the_surroundings_can_be_held_still():
    made = strength(3, SIZE, labelled(), outside=0)
    np.testing.assert_array_equal(made.alpha, np.where(labelled() > 0, 3, 0))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"label_alphas": {1: 20}.items()}, "label alphas"),
        ({"outside": 0}, "outside"),
        ({"soft": 3, "feather_px": 2}, "soft, feather"),
    ],
)
def test_what_is_about_a_mask_needs_one(options, named):
    with pytest.raises(FlowmagError, match=f"^{named} without a mask") as error:
        strength(2, SIZE, **options)
    assert "\n" not in str(error.value)


def test_labels_that_a_mask_does_not_have():
    with pytest.raises(FlowmagError, match="label 3: the mask has no such label"):
        strength(2, SIZE, labelled(), label_alphas=[(3, 4), (1, 5)])
    with pytest.raises(FlowmagError, match=r"label 0 is what lies outside .* give `outside`"):
        strength(2, SIZE, labelled(), label_alphas=[(1, 5), (0, 2)])
    later = np.stack([0 * labelled(), labelled()])
    assert strength(2, SIZE, later, label_alphas=[(2, 5)], frames=2).at(1).alpha.max() == 5


def test_masks_over_time():
    labels = np.stack([labelled(), 0 * labelled(), labelled()[::-1]])
    made = strength(3, SIZE, labels, frames=3)
    np.testing.assert_array_equal(made.at(2).mask, labels[2] > 0)
    assert made.at(1).constant() == 1
    assert made.typical(range(1, 3)).mask is not None
    assert made.typical(range(1, 2)).constant() == 1
    with pytest.raises(FlowmagError, match="3 pictures, the clip has 5 frames"):
        strength(3, SIZE, labels, frames=5)
    with pytest.raises(FlowmagError, match="whole numbers"):
        strength(3, SIZE, labels / 2, frames=3, label_alphas=[(1, 2)])
    with pytest.raises(FlowmagError, match="empty"):
        strength(3, SIZE, 0 * labels, frames=3)


@pytest.mark.parametrize("name", ["mask.png", "mask.tif"])
def test_labels_with_a_palette_are_its_numbers(tmp_path, name):
    labels = np.zeros((12, 16), np.uint8)
    labels[2:5, 3:6], labels[7:9, 1:12] = 1, 2
    picture = PIL.Image.fromarray(labels)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / name)
    np.testing.assert_array_equal(read_mask(tmp_path / name), labels)
