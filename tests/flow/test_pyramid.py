from __future__ import annotations

import torch

from napari_flowmag.flow.pyramid import within


def test_what_is_read_outside_or_at_the_border_says_nothing() -> None:
    flow = torch.zeros(2, 2, 6, 8)
    flow[1, 0], flow[1, 1] = 2.5, -1.0
    still, moved = within(flow)[:, 0].bool()
    inside = torch.zeros(6, 8, dtype=torch.bool)
    inside[1:-1, 1:-1] = True
    assert torch.equal(still, inside)
    inside[:2] = inside[:, 4:] = False  # 5 + 2.5 px and 1 - 1 px lie beyond the last px but one
    assert torch.equal(moved, inside)
