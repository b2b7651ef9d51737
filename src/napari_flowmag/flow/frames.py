"""Bringing frames into the form that a flow network takes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def to_rgb(frame: Tensor) -> Tensor:
    """Make three channels of any number.

    Parameters
    ----------
    frame : Tensor
        (B, C, H, W). Three channels stay; of any other number the mean is repeated.

    Returns
    -------
    Tensor
        (B, 3, H, W), contiguous: slices of a 5-D batch corrupted memory in torch's CPU
        backward passes.
    """
    if frame.shape[1] != 3:
        frame = frame.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return frame.contiguous()


def pad_to_multiple(frame: Tensor, multiple: int, minimum: int) -> Tensor:
    """Repeat the border, evenly on all sides, until a network can take the frame.

    Parameters
    ----------
    frame : Tensor
        (B, C, H, W).
    multiple : int
        Height and width of the result are multiples of it.
    minimum : int
        Smallest height and width of the result, a multiple of ``multiple``.

    Returns
    -------
    Tensor
        (B, C, H', W').
    """
    top, bottom = _margins(frame.shape[-2], multiple, minimum)
    left, right = _margins(frame.shape[-1], multiple, minimum)
    return F.pad(frame, (left, right, top, bottom), mode="replicate")


def crop_to(padded: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`pad_to_multiple`: the central (H, W) of ``like`` in ``padded``."""
    height, width = like.shape[-2:]
    top, left = (padded.shape[-2] - height) // 2, (padded.shape[-1] - width) // 2
    return padded[..., top : top + height, left : left + width].contiguous()


def stretch_to_multiple(frame: Tensor, multiple: int) -> Tensor:
    """Resize a frame (B, C, H, W) to the next multiples, where a padded border would disturb."""
    height, width = (-(-side // multiple) * multiple for side in frame.shape[-2:])
    return _resize(frame, (height, width))


def shrink_to(flow: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`stretch_to_multiple` for a flow, (B, 2, H', W') px, which is scaled with it."""
    (height, width), (tall, wide) = like.shape[-2:], flow.shape[-2:]
    scale = flow.new_tensor([width / wide, height / tall]).view(1, 2, 1, 1)
    return _resize(flow, (height, width)) * scale


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _margins(size: int, multiple: int, minimum: int) -> tuple[int, int]:
    missing = max(-(-size // multiple) * multiple, minimum) - size
    return missing // 2, missing - missing // 2
