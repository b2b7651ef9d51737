"""How much the motion of every pixel is magnified, and in how many passes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.frames import as_frames
from napari_flowmag.masks import dilate, feather
from napari_flowmag.settings import check_alpha

if TYPE_CHECKING:
    import torch

    from napari_flowmag.models.base import Alpha


@dataclass(frozen=True, eq=False)
class Strength:
    """Magnification, everywhere the same or not.

    Attributes
    ----------
    alpha : float or ndarray
        A number, or a map (H, W) float32.
    mask : ndarray, optional
        (H, W) float32 in [0, 1]: share of the magnification that a pixel gets; 0 leaves its
        motion as it is.
    """

    alpha: float | NDArray[np.float32]
    mask: NDArray[np.float32] | None = None

    def constant(self) -> float | None:
        """Magnification of all pixels if it is one number, else None."""
        low, high = float(np.min(self.alpha)), float(np.max(self.alpha))
        if low == high and (self.mask is None or high == 1 or bool((self.mask == 1).all())):
            return low
        return None

    def passes(self, alpha_range: tuple[float, float]) -> int:
        """Count the passes of a magnifier that together reach the largest magnification.

        ``n`` passes magnify by ``alpha ** (1 / n)`` each; every pass measures motion from the
        same reference and takes the picture of the pass before as its frame.

        Parameters
        ----------
        alpha_range : (float, float)
            What the magnifier can do in one pass, both ends included.

        Raises
        ------
        FlowmagError
            If a magnification is below what the magnifier can do.
        """
        low, high = float(np.min(self.alpha)), float(np.max(self.alpha))
        if low < alpha_range[0]:
            raise FlowmagError(
                f"alpha {low:g}: this model cannot go below {alpha_range[0]:g}; "
                "take a larger alpha or another model"
            )
        count = 1
        # The slack lets rounding not cost a pass: the 5th root of 16 ** 5 is not quite 16.
        while high ** (1 / count) > alpha_range[1] * (1 + 1e-9):
            count += 1
        return count

    def tensor(self, batch: int, passes: int, device: torch.device) -> Alpha:
        """Magnification of one of ``passes`` passes, as magnifiers take it.

        Returns
        -------
        Tensor or MaskedAlpha
            (batch,) or (batch, 1, H, W), with the mask where there is one.
        """
        import torch

        from napari_flowmag.models.base import MaskedAlpha

        each = torch.as_tensor(self.alpha, dtype=torch.float64) ** (1 / passes)
        shape = (batch, 1, *each.shape) if each.ndim else (batch,)
        alpha = each.to(device, torch.float32).expand(shape)
        if self.mask is None:
            return alpha
        return MaskedAlpha(alpha, torch.as_tensor(self.mask).to(device)[None, None])


def strength(
    alpha: float | ArrayLike,
    size: tuple[int, int],
    mask: ArrayLike | None = None,
    soft: float = 0.0,
    feather_px: float = 0.0,
) -> Strength:
    """Check and combine what was asked for.

    Parameters
    ----------
    alpha : float or array-like
        A number or a map (H, W).
    size : (int, int)
        Height and width of the frames.
    mask : array-like, optional
        (H, W). Whole numbers and booleans: inside where not 0. Floats: weights in [0, 1],
        unless the mask is to be grown or feathered.
    soft, feather_px : float
        See :class:`~napari_flowmag.settings.MagnifySettings`.

    Raises
    ------
    FlowmagError
        If sizes or values do not fit.
    """
    amount = _alpha(alpha, size)
    if mask is None:
        return Strength(amount)
    weights = np.asarray(mask)
    if weights.shape != size:
        raise FlowmagError(
            f"the mask has shape {weights.shape}, the frames have {size[0]} × {size[1]} pixels"
        )
    if weights.dtype.kind not in "buif":
        raise FlowmagError(f"a mask of {weights.dtype} values: give booleans or numbers")
    if weights.dtype.kind == "f" and not bool(((weights >= 0) & (weights <= 1)).all()):
        raise FlowmagError("a mask of floats holds weights from 0 to 1; this one holds others")
    if not weights.any():
        raise FlowmagError("the mask is empty: no pixel of it differs from 0")
    if weights.dtype.kind != "f" or soft or feather_px:
        weights = feather(dilate(weights, soft), feather_px)
    return Strength(amount, weights.astype(np.float32))


def read_mask(path: str | Path) -> NDArray[Any]:
    """Read a mask from a file with one picture.

    Returns
    -------
    ndarray
        (H, W); of a colour picture, the largest of the samples, opacity aside.

    Raises
    ------
    FlowmagError
        If the file cannot be read or holds more than one picture.
    """
    from napari_flowmag.io import read_clip

    clip = read_clip(Path(path))
    if any(clip.sizes[a] > 1 for a in clip.axes if a in "TZC"):
        raise FlowmagError(f"mask {path} has shape {clip.shape} ({clip.axes}): give one picture")
    picture = as_frames(clip.frames, clip.axes)
    return np.asarray(picture.planes(0)[0][..., list(picture.channels)].max(axis=-1))


def _alpha(alpha: float | ArrayLike, size: tuple[int, int]) -> float | NDArray[np.float32]:
    values = np.asarray(alpha)
    if values.ndim and values.shape != size:
        raise FlowmagError(
            f"the alpha map has shape {values.shape}, the frames have {size[0]} × {size[1]} pixels"
        )
    bad = values[~(np.isfinite(values) & (values >= 0))]
    if bad.size:
        check_alpha(float(bad[0]))
    return values.astype(np.float32) if values.ndim else float(values)
