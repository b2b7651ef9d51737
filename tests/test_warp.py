from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from napari_flowmag.synthetic.clips import shift_periodic, texture
from napari_flowmag.warp import (
    MARGIN,
    Padding,
    identity_grid,
    sample,
    sample_spline,
    splat,
    spline_coefficients,
    strips,
)

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
seeds = st.integers(0, 2**32)


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_spline(image: Tensor, flow: Tensor) -> Tensor:
    return sample_spline(spline_coefficients(image), flow, MARGIN)


def everywhere(dx: float, dy: float, like: Tensor) -> Tensor:
    return like.new_tensor([dx, dy]).view(1, 2, 1, 1).expand(len(like), 2, *like.shape[-2:])


def between(*shape: int, seed: int = 0) -> Tensor:
    """Displacements that lead between pixels, where linear interpolation has a slope."""
    flow = numbers(*shape, seed=seed)
    return flow.floor() + 0.2 + 0.6 * (flow - flow.floor())


def test_identity_grid_holds_x_then_y() -> None:
    grid = identity_grid(2, 3, torch.zeros((), dtype=torch.float64))
    assert grid.dtype == torch.float64
    assert grid.tolist() == [[[[0, 1, 2], [0, 1, 2]], [[0, 0, 0], [1, 1, 1]]]]


# strips


@given(st.tuples(st.integers(1, 3), st.integers(1, 90), st.integers(1, 90)), st.integers(1, 999))
def test_strips_are_all_rows_in_their_order(size: tuple[int, int, int], pixels: int) -> None:
    batch, height, width = size
    like = torch.zeros(batch, 2, height, width)
    with torch.no_grad():
        found = strips(like, pixels)
    assert [row for rows in found for row in range(height)[rows]] == list(range(height))
    assert all(rows.stop <= height for rows in found)
    assert max(rows.stop - rows.start for rows in found) * batch * width <= max(
        pixels, batch * width
    )
    assert strips(like, pixels) == [slice(0, height)]  # gradients are asked for


@settings(deadline=None, max_examples=5)
@given(seeds)
def test_reading_by_strips_is_reading_at_once(seed: int) -> None:
    image, flow = numbers(2, 3, 150, 170, seed=seed), 3 * numbers(2, 2, 150, 170, seed=seed + 1)
    at_once = by_spline(image, flow)  # for gradients
    with torch.no_grad():
        assert len(strips(flow)) > 1
        torch.testing.assert_close(by_spline(image, flow), at_once)


# reading


@settings(deadline=None, max_examples=40)
@given(sizes, seeds, st.sampled_from(["border", "reflection", "zeros"]))
def test_without_displacement_every_pixel_is_returned(
    size: tuple[int, int], seed: int, padding: Padding
) -> None:
    image, still = numbers(2, 3, *size, seed=seed), torch.zeros(2, 2, *size, dtype=torch.float64)
    torch.testing.assert_close(sample(image, still, padding=padding), image, atol=1e-12, rtol=0)
    torch.testing.assert_close(by_spline(image, still), image, atol=1e-7, rtol=0)
    coarse = by_spline(image.float(), still.float())
    torch.testing.assert_close(coarse, image.float(), atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=40)
@given(sizes, seeds, st.integers(-6, 6), st.integers(-6, 6))
def test_whole_pixels_copy_pixels_and_repeat_the_border(
    size: tuple[int, int], seed: int, dx: int, dy: int
) -> None:
    image = numbers(1, 2, *size, seed=seed)
    rows = (torch.arange(size[0]) + dy).clamp(0, size[0] - 1)
    columns = (torch.arange(size[1]) + dx).clamp(0, size[1] - 1)
    expected = image[:, :, rows][..., columns]
    flow = everywhere(dx, dy, image)
    torch.testing.assert_close(sample(image, flow), expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(by_spline(image, flow), expected, atol=1e-7, rtol=0)


def test_outside_is_black_or_a_mirror_when_asked() -> None:
    image = torch.arange(1.0, 5).view(1, 1, 1, 4)
    flow = everywhere(2, 0, image)
    assert sample(image, flow, padding="zeros").flatten().tolist() == [3, 4, 0, 0]
    assert sample(image, flow, padding="reflection").flatten().tolist() == [3, 4, 3, 2]
    assert sample(image, flow, padding="border").flatten().tolist() == [3, 4, 4, 4]


def test_nearest_makes_no_new_values() -> None:
    image = numbers(1, 1, 9, 11)
    found = sample(image, numbers(1, 2, 9, 11, seed=1), mode="nearest")
    assert set(found.flatten().tolist()) <= set(image.flatten().tolist())


@pytest.mark.parametrize("shift", [0.03, 0.1, 0.3, 0.5, 1.37])
@pytest.mark.parametrize("size", [(64, 80), (61, 79)])
def test_splines_move_a_texture_as_far_as_asked(shift: float, size: tuple[int, int]) -> None:
    image = torch.from_numpy(texture(size, np.random.default_rng(0)))[None].double()
    flow = everywhere(shift, -0.4 * shift, image)
    exact = torch.from_numpy(shift_periodic(image.numpy(), -shift, 0.4 * shift)).double()
    inner = (..., slice(12, -12), slice(12, -12))
    change = (exact - image)[inner].std()
    assert (by_spline(image, flow) - exact)[inner].std() < 0.015 * change
    # What they are there for: linear reads lose a tenth of the detail's motion.
    if shift < 1:
        assert (sample(image, flow) - exact)[inner].std() > 0.15 * change


def test_splines_without_coefficients_smooth() -> None:
    image = numbers(1, 1, 20, 24)
    expected = image
    for axis in (2, 3):
        side = torch.cat([expected.narrow(axis, 0, 1), expected], axis)
        side = torch.cat([side, expected.narrow(axis, expected.shape[axis] - 1, 1)], axis)
        length = expected.shape[axis]
        expected = sum(
            weight * side.narrow(axis, start, length)
            for start, weight in enumerate((1 / 6, 2 / 3, 1 / 6))
        )
    found = sample_spline(image, torch.zeros(1, 2, 20, 24, dtype=torch.float64))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("read", [sample, by_spline])
def test_any_memory_layout(read) -> None:
    image, flow = numbers(2, 3, 17, 33), 3 * numbers(2, 2, 17, 33, seed=1)
    expected = read(image, flow)
    last = {"memory_format": torch.channels_last}
    assert torch.equal(read(image.contiguous(**last), flow.contiguous(**last)), expected)
    wide = torch.stack([image, -image], 2)[:, :, 0]
    turned = flow.transpose(2, 3).contiguous().transpose(2, 3)
    assert not wide.is_contiguous()
    assert not turned.is_contiguous()
    assert torch.equal(read(wide, turned), expected)


@pytest.mark.parametrize("read", [sample, by_spline])
def test_a_smaller_flow_reads_the_upper_left(read) -> None:
    image, flow = numbers(1, 2, 20, 30), numbers(1, 2, 20, 30, seed=1)
    part = read(image, flow[..., :7, :9])
    torch.testing.assert_close(part, read(image, flow)[..., :7, :9])


def test_pictures_keep_their_precision_under_autocast() -> None:
    image, flow = torch.rand(1, 1, 20, 24), torch.rand(1, 2, 20, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sample(image, flow), by_spline(image, flow)
    torch.testing.assert_close(found, (sample(image, flow), by_spline(image, flow)))


@pytest.mark.parametrize("padding", ["border", "reflection", "zeros"])
def test_gradients_of_linear_reads(padding: Padding) -> None:
    image = numbers(1, 2, 5, 6).requires_grad_()
    flow = between(1, 2, 5, 6, seed=1).requires_grad_()
    assert gradcheck(lambda i, f: sample(i, f, padding=padding), (image, flow))


def test_gradients_of_spline_reads() -> None:
    image = numbers(1, 2, 5, 6).requires_grad_()
    flow = numbers(1, 2, 5, 6, seed=1).requires_grad_()
    assert gradcheck(by_spline, (image, flow))


# pushing


@settings(deadline=None, max_examples=40)
@given(st.tuples(st.integers(2, 40), st.integers(2, 40)), seeds, st.floats(0, 30))
def test_pushing_is_the_transpose_of_reading(
    size: tuple[int, int], seed: int, length: float
) -> None:
    image, values = numbers(2, 3, *size, seed=seed), numbers(2, 3, *size, seed=seed + 1)
    flow = length * numbers(2, 2, *size, seed=seed + 2)
    total, _ = splat(values, flow, torch.ones_like(values[:, :1]))
    # What leaves the picture is lost, as a read outside it finds nothing.
    there = sample(image, flow, padding="zeros")
    torch.testing.assert_close((there * values).sum(), (image * total).sum(), atol=1e-8, rtol=1e-8)


@settings(deadline=None, max_examples=30)
@given(st.tuples(st.integers(5, 30), st.integers(5, 30)), seeds)
def test_nothing_is_lost_that_stays_inside(size: tuple[int, int], seed: int) -> None:
    values = numbers(1, 2, *size, seed=seed)
    weight = numbers(1, 1, *size, seed=seed + 1).abs()
    weight[..., [0, 1, -1, -2], :] = weight[..., [0, 1, -1, -2]] = 0
    flow = numbers(1, 2, *size, seed=seed + 2).clamp(-2, 2)
    total, share = splat(values, flow, weight)
    assert float(share.sum()) == pytest.approx(float(weight.sum()))
    torch.testing.assert_close(total.sum((2, 3)), (values * weight).sum((2, 3)))
    assert share.min() >= 0


def test_whole_pixels_push_pixels_and_leave_holes() -> None:
    values = numbers(1, 1, 4, 6)
    total, share = splat(values, everywhere(2, -1, values), torch.ones_like(values))
    torch.testing.assert_close(total[..., :3, 2:], values[..., 1:, :4])
    assert (share[..., :3, 2:] == 1).all()
    assert (share[..., 3, :] == 0).all()
    assert (share[..., :2] == 0).all()


def test_weights_decide_where_several_arrive() -> None:
    values = torch.tensor([1.0, 5.0]).view(1, 1, 1, 2)
    flow = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    total, share = splat(values, flow, torch.tensor([3.0, 1.0]).view(1, 1, 1, 2))
    assert (total / share)[0, 0, 0, 1] == 2


def test_gradients_of_pushing() -> None:
    values, weight = numbers(1, 2, 5, 6), numbers(1, 1, 5, 6, seed=1).abs()
    flow = between(1, 2, 5, 6, seed=2)
    inputs = tuple(x.requires_grad_() for x in (values, flow, weight))
    assert gradcheck(splat, inputs)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("moved", [True, False])
@pytest.mark.parametrize("read", ["zeros", "border", "reflection", "spline"])
def test_displacements_that_are_not_finite_crash_nothing(
    read: Padding, bad: float, moved: bool
) -> None:
    image = numbers(2, 3, 64, 64, dtype=torch.float32).requires_grad_()
    flow = numbers(2, 2, 64, 64, dtype=torch.float32)
    flow[:, :, ::3, ::5] = bad
    flow.requires_grad_(moved)
    for _ in range(20):
        out = by_spline(image, flow) if read == "spline" else sample(image, flow, padding=read)  # type: ignore[comparison-overlap]
        out.sum().backward()  # it used to be a segmentation fault
    assert out.shape == image.shape
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()
