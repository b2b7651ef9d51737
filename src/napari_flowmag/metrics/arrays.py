"""Arrays and tensors as the metrics take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from torch import Tensor

Values = NDArray[np.float64]


def batches(a: ArrayLike | Tensor, b: ArrayLike | Tensor) -> tuple[Values, Values]:
    """Read two batches of one shape, (B, C, H, W).

    Raises
    ------
    FlowmagError
        If the shapes differ, or are not of four axes.
    """
    first, second = values_of(a), values_of(b)
    if first.shape != second.shape or first.ndim != 4:
        raise FlowmagError(
            "two batches of one shape (B, C, H, W) are compared, "
            f"not {first.shape} with {second.shape}"
        )
    return first, second


def values_of(x: ArrayLike | Tensor) -> Values:
    """Read an array or a tensor of any kind."""
    # A tensor that has gradients or lies on a GPU cannot be read as an array.
    detach = getattr(x, "detach", None)
    return np.asarray(detach().cpu() if detach else x, dtype=np.float64)
