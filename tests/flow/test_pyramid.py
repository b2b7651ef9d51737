from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.flow.pyramid import shading, within


def test_what_is_read_outside_or_at_the_border_says_nothing() -> None:
    flow = torch.zeros(2, 2, 6, 8)
    flow[1, 0], flow[1, 1] = 2.5, -1.0
    still, moved = within(flow)[:, 0].bool()
    inside = torch.zeros(6, 8, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    assert torch.equal(still, inside)
    inside[:2] = inside[:, 4:] = False  # 5 + 2.5 px and 1 - 1 px lie beyond the last px but one
    assert torch.equal(moved, inside)


def test_shading_is_what_is_coarse_of_what_is_known() -> None:
    known = torch.ones(1, 1, 40, 53)
    known[..., 30:] = 0
    even = 0.7 * known
    torch.testing.assert_close((known * shading(even, known)), even)
    fine = torch.tensor([1.0, -1.0]).repeat(27)[:53].expand(1, 1, 40, 53)
    assert shading(known * fine, known)[..., 2:-2, 2:28].abs().max() < 0.05
    ramp = torch.linspace(0, 1, 53).expand(1, 1, 40, 53)
    rest = ramp - shading(ramp, torch.ones_like(ramp))
    assert rest[..., 8:-8].abs().max() < 0.01
    # It goes on towards the border, by half of its slope there: of 4 px no more than 3 are left.
    assert rest.abs().max() < 3 / 53


@given(st.integers(1, 40), st.integers(1, 40))
def test_even_light_is_all_shading_whatever_the_size(height: int, width: int) -> None:
    even = torch.full((1, 1, height, width), 0.3)
    torch.testing.assert_close(shading(even, torch.ones_like(even)), even)
