"""A clip's pixels as tensors and back, converted on the device that computes.

They travel in the clip's own type: a GPU converts them faster than a CPU does, and 8-bit pixels
are a quarter of what float32 would be on the way. Types that torch lacks are converted before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Types that older versions of torch lack, or do little with, are sent as another type of their
# size: with the mask that undoes the sign, and what to compute in meanwhile.
_SENT_AS = {"u2": ("i2", 0xFFFF, torch.int32), "u4": ("i4", 0xFFFFFFFF, torch.int64)}
_AS_THEY_ARE = {
    "u1": torch.uint8,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "f4": torch.float32,
    "f8": torch.float64,
}

_ROWS = 16  # of a plane, compared at once


def to_tensor(planes: NDArray[Any], channels: Sequence[int], device: torch.device) -> Tensor:
    """Bring some channels of planes to a device, as numbers to compute with.

    Parameters
    ----------
    planes : ndarray
        (B, Y, X, channels) of any real type.
    channels : sequence of int
        Which, and in what order.
    device : torch.device
        Where to.

    Returns
    -------
    Tensor
        (B, C, Y, X): float32 if it holds every number of the planes' type, else float64.
    """
    dtype = planes.dtype
    wide = torch.float32 if np.can_cast(dtype, np.float32) else torch.float64
    code = _code(dtype)
    if code == "b1":
        planes = planes.view(np.uint8)
    elif code in _SENT_AS:
        planes = planes.view(_SENT_AS[code][0])
    elif code not in _AS_THEY_ARE:
        planes = planes.astype(np.float32 if wide == torch.float32 else np.float64)
    if not planes.flags.writeable:  # torch warns of these
        planes = planes.copy()
    sent = torch.from_numpy(planes).to(device)
    values = torch.stack([sent[..., c] for c in channels], 1)
    if code in _SENT_AS:
        _, mask, meanwhile = _SENT_AS[code]
        values = values.to(meanwhile).bitwise_and_(mask)
    return values.to(wide)


def to_array(values: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Bring numbers back as planes: rounded and clipped for whole numbers, halved for booleans.

    Parameters
    ----------
    values : Tensor
        (B, C, Y, X) float64; may be written to.
    dtype : dtype
        Of the planes.

    Returns
    -------
    ndarray
        (B, Y, X, C): what :func:`as_type` makes of the values.
    """
    code = _code(dtype)
    if code not in _AS_THEY_ARE and code not in _SENT_AS and code != "b1":
        return as_type(values.movedim(1, -1).cpu().numpy(), dtype)
    if code == "b1":
        values = (values >= 0.5).to(torch.uint8)
    elif dtype.kind == "f":
        values = values.to(_AS_THEY_ARE[code])
    else:
        limits = np.iinfo(dtype)
        values = values.round_().clamp_(float(limits.min), float(limits.max))
        if code in _SENT_AS:
            sent_as, mask, meanwhile = _SENT_AS[code]
            values = values.to(meanwhile)
            values = torch.where(values > mask >> 1, values - mask - 1, values)
            code = sent_as
        values = values.to(_AS_THEY_ARE[code])
    planes = torch.stack([values[:, c] for c in range(values.shape[1])], -1)
    array: NDArray[Any] = planes.cpu().numpy()
    return array.view(dtype)


def as_type(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert values into a type: rounded and clipped for whole numbers, halved for booleans."""
    if values.dtype.newbyteorder("=") == dtype.newbyteorder("="):
        # also because float64 cannot hold every 64-bit number
        return values.astype(dtype, copy=False)
    if dtype.kind == "f":
        return values.astype(dtype)
    if dtype.kind == "b":
        return values >= 0.5
    limits = np.iinfo(dtype)
    # The largest 64-bit numbers have no float64 of their own; the next one up would overflow.
    top = float(limits.max)
    top = top if int(top) <= limits.max else np.nextafter(top, 0)
    rounded: NDArray[Any] = np.clip(np.rint(values), float(limits.min), top).astype(dtype)
    return rounded


def differ(plane: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two planes (Y, X, C) differ anywhere; mostly the first rows tell."""
    some = range(0, len(plane), _ROWS)
    return any(not np.array_equal(plane[y : y + _ROWS], other[y : y + _ROWS]) for y in some)


def take(plane: NDArray[Any], channels: list[int]) -> NDArray[Any]:
    """Return some channels of a plane (Y, X, C); itself, at no cost, where that is all of them."""
    return plane if channels == list(range(plane.shape[-1])) else plane[..., channels]


def put(plane: NDArray[Any], channels: list[int], values: NDArray[Any]) -> None:
    """Write some channels of a plane (Y, X, C); in one go where that is all of them."""
    if channels == list(range(plane.shape[-1])):
        plane[...] = values
    else:
        plane[..., channels] = values


def _code(dtype: np.dtype[Any]) -> str:
    """Kind and bytes of a type; with its order of bytes if that is not the machine's."""
    return f"{dtype.kind}{dtype.itemsize}" if dtype.isnative else dtype.str
