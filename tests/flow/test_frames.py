from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.flow.frames import crop_to, pad_to_multiple, to_rgb

sizes = st.integers(1, 40)


@given(sizes, sizes, st.sampled_from([1, 8, 16]), st.sampled_from([16, 32]))
def test_padding_repeats_the_border_and_is_undone(height, width, multiple, minimum) -> None:
    frame = torch.rand(2, 3, height, width)
    padded = pad_to_multiple(frame, multiple, minimum)
    for before, after in zip(frame.shape[2:], padded.shape[2:], strict=True):
        assert after % multiple == 0
        assert after >= minimum
        assert after == minimum or after - before < multiple
    assert torch.equal(crop_to(padded, frame), frame)
    assert torch.equal(padded[..., 0, 0], frame[..., 0, 0])
    assert torch.equal(padded[..., -1, -1], frame[..., -1, -1])


def test_any_channels_become_three() -> None:
    frame = torch.rand(2, 4, 5, 6)
    assert torch.equal(to_rgb(frame[:, :3]), frame[:, :3])
    assert torch.equal(to_rgb(frame[:, :1]), frame[:, [0, 0, 0]])
    torch.testing.assert_close(to_rgb(frame)[:, 1], frame.mean(1))
    assert to_rgb(torch.rand(2, 3, 2, 5, 6)[:, :, 0]).is_contiguous()
