"""Masks that say where motion is magnified: growing them, softening their edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import FlowmagError


def dilate(mask: ArrayLike, soft: float) -> NDArray[np.float32]:
    """Grow a mask: every pixel closer than ``soft`` to it counts as inside.

    Distances are city-block, |dx| + |dy|, as in the paper's published code, whose examples
    take ``soft = 25``; 0 and 1 leave the mask as it is.

    Parameters
    ----------
    mask : array_like
        (H, W), any type; what is not 0 is inside.
    soft : float
        Distance in px, 0 or more.

    Returns
    -------
    ndarray
        (H, W) float32, 0 or 1.

    Raises
    ------
    FlowmagError
        If the mask is not a picture or the distance is negative.
    """
    # Distances are whole numbers, so "closer than 1" is the mask itself.
    return (_checked(mask, soft) < max(soft, 1)).astype(np.float32)


def feather(mask: ArrayLike, px: float) -> NDArray[np.float32]:
    """Soften a mask's edge: from 1 inside it falls linearly to 0 at ``px`` outside it.

    The distance is city-block, so that ``feather(dilate(mask, soft - px), px)`` is 0
    wherever ``dilate(mask, soft)`` is.

    Parameters
    ----------
    mask : array_like
        (H, W), any type; what is not 0 is inside.
    px : float
        Width of the edge, 0 or more; 0 and 1 leave the mask as it is.

    Returns
    -------
    ndarray
        (H, W) float32 in [0, 1].

    Raises
    ------
    FlowmagError
        If the mask is not a picture or the width is negative.
    """
    return np.clip(1 - _checked(mask, px) / max(px, 1), 0, 1).astype(np.float32)


def distance(mask: ArrayLike) -> NDArray[np.float64]:
    """City-block distance of every pixel to a mask, (H, W) px; infinite if the mask is empty.

    Raises
    ------
    FlowmagError
        If the mask is not a picture.
    """
    from scipy.ndimage import distance_transform_cdt

    inside = np.asarray(mask) != 0
    if inside.ndim != 2:
        raise FlowmagError(f"a mask is one picture (H, W), not an array of shape {inside.shape}")
    if not inside.any():
        return np.full(inside.shape, np.inf)
    return np.asarray(distance_transform_cdt(~inside, metric="taxicab"), dtype=np.float64)


def _checked(mask: ArrayLike, px: float) -> NDArray[np.float64]:
    if px < 0:
        raise FlowmagError(f"a mask's edge of {px} px: give 0 or more")
    return distance(mask)
