"""Pictures of a pair: from the frames of a clip to files, tensors and thumbnails."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_WIDTH, _QUALITY = 144, 80
"""Width of a thumbnail in px, and its quality as a JPEG."""

STILL = 0.2
"""Motion in px that thumbnails draw brightest if there is no larger one: less is mostly noise."""

_HEAT = np.array([[0, 0, 0], [60, 20, 110], [190, 50, 90], [250, 150, 40], [255, 250, 180]])
"""Colours of no motion to most motion, evenly spaced."""


def planes(frame: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return the pictures of one time point as (N, H, W) or (N, H, W, 3): each Z and channel."""
    if axes.endswith("S"):
        return frame[..., :3].reshape(-1, *frame.shape[-3:-1], 3)
    return frame.reshape(-1, *frame.shape[-2:])


def scaled(picture: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Return 8-bit pictures as they are, others as uint16 with `low` … `high` on 0 … 65535."""
    if picture.dtype == np.uint8:
        return picture
    share = (picture.astype(np.float64) - low) / max(high - low, 1e-12)
    return np.round(np.nan_to_num(share).clip(0, 1) * 65535).astype(np.uint16)


def to_tensor(picture: NDArray[Any]) -> Tensor:
    """Return a uint8 or uint16 picture (H, W) or (H, W, 3) as (1 or 3, H, W) in [0, 1]."""
    values = torch.from_numpy(picture.astype(np.float32) / np.iinfo(picture.dtype).max)
    return values[None] if values.ndim == 2 else values.movedim(-1, 0).contiguous()


def suffix(picture_type: np.dtype[Any]) -> str:
    """Return the suffix of the files that :func:`encoded` makes of pictures of a type."""
    return ".png" if picture_type == np.uint8 else ".tif"


def encoded(picture: NDArray[Any]) -> bytes:
    """Return a picture as a file: PNG of 8 bits, else TIFF of 16; always the same bytes."""
    import imagecodecs
    import tifffile

    if picture.dtype == np.uint8:
        return bytes(imagecodecs.png_encode(np.ascontiguousarray(picture)))
    file = io.BytesIO()
    kind = "rgb" if picture.ndim == 3 else "minisblack"
    tifffile.imwrite(file, picture, photometric=kind, compression="zlib")
    return file.getvalue()


def thumbnail(picture: NDArray[Any], low: float, high: float) -> str:
    """Return a small JPEG in base64.

    Parameters
    ----------
    picture
        (H, W) or (H, W, 3), of any number type.
    low, high
        Values that become black and white.
    """
    import PIL.Image

    share = (picture.astype(np.float32) - low) / max(high - low, 1e-12)
    image = PIL.Image.fromarray(np.round(share.clip(0, 1) * 255).astype(np.uint8))
    height = max(1, round(image.height * _WIDTH / image.width))
    image = image.resize((_WIDTH, height), PIL.Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return base64.b64encode(file.getvalue()).decode()


def pair_thumbnails(
    first: NDArray[Any], second: NDArray[Any], magnitude: NDArray[np.float32], p999: float
) -> tuple[str, str, str]:
    """Return thumbnails of both frames, stretched alike, and of the motion between them.

    Parameters
    ----------
    first, second
        Pictures that :func:`scaled` returned.
    magnitude
        (H, W) px.
    p999
        Its 99.9th percentile, which is drawn brightest.
    """
    # Deep pictures use a small part of their range where a few pixels are bright.
    low, high = (0.0, 255.0) if first.dtype == np.uint8 else np.percentile(first, (0.5, 99.8))
    place = (magnitude / max(p999, STILL)).clip(0, 1) * (len(_HEAT) - 1)
    heat = np.stack([np.interp(place, range(len(_HEAT)), c) for c in _HEAT.T], -1)
    return thumbnail(first, low, high), thumbnail(second, low, high), thumbnail(heat, 0, 255)
