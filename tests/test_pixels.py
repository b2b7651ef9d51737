"""What tensors make of pixels must be what numpy makes of them, on any device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_flowmag.pixels import as_type, differ, put, take, to_array, to_tensor
from napari_flowmag.values import ValueRange, View

CPU = torch.device("cpu")
TYPES = [
    "?",
    "u1",
    "i1",
    "u2",
    "i2",
    "u4",
    "i4",
    "u8",
    "i8",
    "f2",
    "f4",
    "f8",
    ">u2",
    ">i4",
    ">f4",
    ">f8",
]

types = st.sampled_from(TYPES).map(np.dtype)


def planes_of(dtype):
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else None
    shapes = hnp.array_shapes(min_dims=4, max_dims=4, max_side=4)
    return hnp.arrays(dtype, shapes, elements=finite)


@given(types.flatmap(planes_of), st.randoms(use_true_random=False))
def test_pixels_become_the_numbers_that_numpy_makes_of_them(planes, random):
    channels = random.choices(range(planes.shape[-1]), k=random.randint(1, 4))
    numbers = to_tensor(planes, channels, CPU)
    wide = np.result_type(planes.dtype, np.float32)
    exact = np.moveaxis(planes[..., channels].astype(wide), -1, 1)
    assert numbers.numpy().dtype == wide
    np.testing.assert_array_equal(numbers.numpy(), exact)


@given(
    types,
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=4, max_dims=4, max_side=4),
        elements=st.one_of(
            st.floats(-1e30, 1e30),
            st.floats(-300, 300),
            st.integers(-70000, 70000).map(lambda n: n / 2),  # halves are rounded to even
            st.sampled_from([float(2**b + k) for b in (15, 31, 32) for k in (-1, 0, 1)]),
        ),
    ),
)
def test_numbers_become_the_pixels_that_numpy_makes_of_them(dtype, values):
    if dtype == "f2":
        values = np.clip(values, -6e4, 6e4)
    exact = as_type(np.moveaxis(values, 1, -1), dtype)
    planes = to_array(torch.from_numpy(values.copy()), dtype)
    assert planes.dtype == dtype
    assert planes.tobytes() == np.ascontiguousarray(exact).tobytes()


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4", "f4", "f8"])
@given(data=st.data())
def test_planes_that_come_back_hold_what_the_range_plane_and_reference_allow(data, dtype):
    def array(*shape, low=-40, high=400):
        numbers = hnp.arrays(np.float64, shape, elements=st.floats(low, high))
        return data.draw(numbers)

    planes, reference = (as_type(array(2, 3, 4, 3), np.dtype(dtype)) for _ in range(2))
    reference = reference[: data.draw(st.integers(1, 2))]
    reference = reference if data.draw(st.booleans()) else reference / 3  # a mean is no integer
    low, width = array(3, low=0, high=10), array(3, low=1, high=300)
    limits, moved = ValueRange(low, low + width), (2, 0)
    black = np.zeros(2, np.float32)
    view = View((1, 0, 2), moved, (0, 1), low, width, black, black + 1)
    picture = array(2, 3, 3, 4, low=-1, high=3).astype(np.float32)

    allowed = view.allowed(limits, view.numbers(planes), view.numbers(reference))
    found = view.planes(torch.from_numpy(picture), allowed, planes.dtype)

    values = np.moveaxis(picture, 1, -1).astype(np.float64) * width + low
    index = [view.channels[m] for m in moved]
    both = planes, np.broadcast_to(reference, planes.shape)
    least = np.minimum(limits.low, np.minimum(*(x.min((1, 2), keepdims=True) for x in both)))
    most = np.maximum(limits.high, np.maximum(*(x.max((1, 2), keepdims=True) for x in both)))
    exact = np.clip(values[..., moved], least[..., index], most[..., index])
    np.testing.assert_array_equal(found, as_type(exact, planes.dtype))


def test_pixels_that_nobody_may_write_to_are_read_without_a_warning(recwarn):
    planes = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    planes.flags.writeable = False
    assert to_tensor(planes, (0,), CPU).flatten().tolist() == [0, 3, 6, 9]
    assert not recwarn


@given(st.integers(1, 70), st.data())
def test_a_difference_is_found_wherever_it_is(height, data):
    plane = np.zeros((height, 3, 2), np.uint8)
    other = plane.copy()
    assert not differ(plane, other)
    other[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, 2)), 1] = 1
    assert differ(plane, other)
    assert not differ(take(plane, [0]), take(other, [0]))
    assert differ(take(plane, [1, 0]), take(other, [1, 0]))


@pytest.mark.parametrize("channels", [[0, 1, 2], [2, 0], [1, 2, 0]])
def test_channels_are_taken_and_put_back(channels):
    plane = np.arange(24).reshape(2, 4, 3)
    np.testing.assert_array_equal(take(plane, channels), plane[..., channels])
    found = np.zeros_like(plane)
    put(found, channels, plane[..., channels])
    np.testing.assert_array_equal(found[..., channels], plane[..., channels])
    assert (found != 0).sum() <= plane[..., channels].size
