"""Where outlines are drawn: halves of a picture that hold all of them, or all of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.models import field
from napari_flowmag.models.area import Area, area_of
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.synthetic.clips import disk_on_still_ground

CONTEXT, ALIGN = 48, 32


def test_nothing_to_draw_is_no_area() -> None:
    small = torch.zeros(2, 1, 150, 200)
    assert area_of(small, small + 5, (300, 400)) is None


@given(st.data(), st.integers(8, 700), st.integers(8, 700), st.integers(0, 40))
def test_it_holds_all_that_is_drawn_and_its_surroundings(data, height, width, reach) -> None:
    small = torch.zeros(2, 1, (height + 1) // 2, (width + 1) // 2)
    row, column = (data.draw(st.integers(0, side - 1)) for side in small.shape[-2:])
    small[data.draw(st.integers(0, 1)), 0, row, column] = 0.1
    area = area_of(small, torch.full_like(small, float(reach)), (height, width))
    assert area is not None
    for part, at, length in zip(area, (row, column), (height, width), strict=True):
        assert part.start <= max(0, 2 * at - CONTEXT - reach)
        assert part.stop >= min(length, 2 * at + 2 + CONTEXT + reach)
        assert part.start % ALIGN == 0
        assert part == slice(0, length) or length / 2 <= part.stop - part.start < 2 * length / 3


@given(st.integers(257, 700), st.integers(257, 700))
def test_there_are_two_sizes_a_side(height: int, width: int) -> None:
    """Operations are recorded for each."""
    sizes = set()
    for row in range(0, height // 2, 7):
        small = torch.zeros(1, 1, (height + 1) // 2, (width + 1) // 2)
        small[..., row, 0] = 1
        area = area_of(small, small, (height, width))
        assert area is not None
        sizes.add(area.rows.stop - area.rows.start)
    assert len(sizes) <= 2


def test_how_far_things_move_counts_where_they_are() -> None:
    small, reach = torch.zeros(1, 1, 256, 256), torch.zeros(1, 1, 256, 256)
    small[..., 20:60, 20:60] = 1
    reach[..., 200:, 200:] = 300  # of what is not drawn
    assert area_of(small, reach, (512, 512)) == (slice(0, 256), slice(0, 256))
    reach[..., 30, 30] = float("inf")
    assert area_of(small, reach, (512, 512)) == (slice(0, 512), slice(0, 512))


@given(st.integers(300, 421), st.integers(300, 421))
def test_what_is_cut_is_put_back(height: int, width: int) -> None:
    picture = torch.rand(1, 2, height, width)
    area = Area(slice(32, height - 90), slice(64, width))
    back = area.put(area.cut(picture), picture)
    assert torch.equal(area.cut(back), area.cut(picture))
    assert back.shape == picture.shape
    assert back.count_nonzero() <= area.cut(picture).numel()
    assert area.cut(torch.ones(1, 1, 1, 1)).shape == (1, 1, 1, 1)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(512, 640), (613, 587)])
def test_a_part_is_drawn_as_in_the_whole(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = disk_on_still_ground([(0, 0), (0.4, 0.2)], size=size, radius=24)
    frames = np.roll(frames, (-size[0] // 5, size[1] // 5), (1, 2))
    reference, frame = torch.from_numpy(frames).movedim(-1, 1).contiguous().split(1)
    y, x = np.mgrid[: size[0], : size[1]]
    y, x = y - (size[0] - 1) / 2 + size[0] // 5, x - (size[1] - 1) / 2 - size[1] // 5
    inside = torch.from_numpy(np.clip((28 - np.hypot(x, y)) / 7, 0, 1)).float()
    prediction = torch.stack([0.4 * inside, 0.2 * inside, 0 * inside])[None]
    magnifier, alpha, areas = FieldMagnifier(), torch.tensor([12.0]), []
    plain = field.drawn_in

    def noted(*seen):
        areas.append(plain(*seen))
        return areas[-1]

    monkeypatch.setattr(field, "drawn_in", noted)
    found = magnifier.render(prediction, magnifier.show(reference), frame, alpha)
    assert areas[0] is not None
    assert all(part.stop - part.start < side for part, side in zip(areas[0], size, strict=True))
    everywhere = Area(slice(0, size[0]), slice(0, size[1]))
    monkeypatch.setattr(field, "drawn_in", lambda *seen: everywhere)
    whole = magnifier.render(prediction, magnifier.show(reference), frame, alpha)
    torch.testing.assert_close(found, whole, atol=2e-3, rtol=0)
    monkeypatch.setattr(field, "drawn_in", lambda *seen: None)
    single = magnifier.render(prediction, magnifier.show(reference), frame, alpha)
    assert (whole - single).abs().max() > 0.05
