"""How much the motion of every pixel is magnified, and in how many passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.frames import as_frames
from napari_flowmag.masks import dilate, distance, feather
from napari_flowmag.settings import MOST_ALPHA, check_alpha

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

    def at(self, index: int) -> Strength:
        """Magnification in a frame: the same in all."""
        return self

    def typical(self, selected: range) -> Strength:
        """Magnification that tells what is asked of a model in some frames: the same in all."""
        return self

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


@dataclass(frozen=True, eq=False)
class Strengths:
    """Magnification that differs from frame to frame, as the mask does.

    Attributes
    ----------
    masks : ndarray
        (T, H, W), a mask for each frame of the clip.
    make : callable
        Turns a mask (H, W) into a :class:`Strength`.
    """

    masks: NDArray[Any]
    make: Callable[[NDArray[Any]], Strength]

    def at(self, index: int) -> Strength:
        """Magnification in a frame of the clip; made anew at each call, nothing is kept."""
        return self.make(self.masks[index])

    def typical(self, selected: range) -> Strength:
        """Magnification in the first of some frames whose mask is not empty.

        In the first of all, where every mask is.
        """
        return self.at(next((t for t in selected if self.masks[t].any()), selected[0]))


def strength(
    alpha: float | ArrayLike,
    size: tuple[int, int],
    mask: ArrayLike | None = None,
    soft: float = 0.0,
    feather_px: float = 0.0,
    *,
    label_alphas: Iterable[tuple[int, float]] = (),
    outside: float = 1.0,
    frames: int | None = None,
) -> Strength | Strengths:
    """Check and combine what was asked for.

    Parameters
    ----------
    alpha : float or array-like
        A number or a map (H, W).
    size : (int, int)
        Height and width of the frames.
    mask : array-like, optional
        (H, W), or (T, H, W) with one for each frame. Whole numbers and booleans: inside where
        not 0. Floats: weights in [0, 1], unless the mask is to be grown or feathered.
    soft, feather_px, label_alphas, outside
        See :class:`~napari_flowmag.settings.MagnifySettings`.
    frames : int, optional
        Number of frames of the clip, for masks over time.

    Raises
    ------
    FlowmagError
        If sizes or values do not fit; if there is no mask, or no such label in any picture of it,
        for what is only about these.
    """
    amount, alphas = _alpha(alpha, size), dict(label_alphas)
    if mask is None:
        _refuse_without_mask(soft, feather_px, alphas, outside)
        return Strength(amount)
    masks = check_mask(np.asarray(mask), size, frames)
    if alphas:
        _check_labels(masks, alphas)

    def make(picture: NDArray[Any]) -> Strength:
        if alphas:
            return Strength(_alpha_of_labels(picture, amount, alphas, outside, soft, feather_px))
        weights = picture
        if weights.dtype.kind != "f" or soft or feather_px:
            weights = feather(dilate(weights, soft), feather_px)
        weights = weights.astype(np.float32)
        if outside == 1:
            return Strength(amount, weights) if weights.any() else Strength(1.0)
        mixed = outside + weights * (amount - np.float32(outside))
        return Strength(mixed.astype(np.float32))

    return make(masks) if masks.ndim == 2 else Strengths(masks, make)


def check_mask(masks: NDArray[Any], size: tuple[int, int], frames: int | None) -> NDArray[Any]:
    """Return a mask, (H, W) or (T, H, W), if it fits a clip.

    Parameters
    ----------
    masks : ndarray
        One picture, or one for each frame.
    size : (int, int)
        Height and width of the frames.
    frames : int, optional
        Number of frames.

    Raises
    ------
    FlowmagError
        If sizes or values do not fit, or nothing is inside.
    """
    if masks.ndim not in (2, 3) or masks.shape[-2:] != size:
        raise FlowmagError(
            f"the mask has shape {masks.shape}, the frames have {size[0]} × {size[1]} pixels"
        )
    if masks.ndim == 3 and len(masks) != frames:
        raise FlowmagError(
            f"the mask has {len(masks)} pictures, the clip has {frames} frames: "
            "give one picture, or one for each frame"
        )
    if masks.dtype.kind not in "buif":
        raise FlowmagError(f"a mask of {masks.dtype} values: give booleans or numbers")
    if masks.dtype.kind == "f" and not bool(((masks >= 0) & (masks <= 1)).all()):
        raise FlowmagError("a mask of floats holds weights from 0 to 1; this one holds others")
    if not masks.any():
        raise FlowmagError("the mask is empty: no pixel of it differs from 0")
    return masks


def labels_there(masks: NDArray[Any], labels: Iterable[int]) -> set[int]:
    """Return which of some labels a mask holds, in any of its pictures; 0 is no label.

    Parameters
    ----------
    masks : ndarray
        (H, W) or (T, H, W), whole numbers.
    labels : iterable of int
        What to look for.
    """
    missing = wanted = {label for label in labels if label != 0}
    for picture in masks.reshape(-1, *masks.shape[-2:]):
        if not missing:
            break
        missing = {label for label in missing if not (picture == label).any()}
    return wanted - missing


def _check_labels(masks: NDArray[Any], labels: Iterable[int]) -> None:
    if masks.dtype.kind not in "bui":
        raise FlowmagError(
            f"an alpha for single labels needs a mask of whole numbers, not of {masks.dtype}"
        )
    if 0 in labels:
        raise FlowmagError("label 0 is what lies outside of the objects: give `outside` instead")
    missing = sorted(set(labels) - labels_there(masks, labels))
    if missing:
        raise FlowmagError(
            f"an alpha for label {', '.join(map(str, missing))}: the mask has no such label"
        )


def _refuse_without_mask(
    soft: float, feather_px: float, alphas: Mapping[int, float], outside: float
) -> None:
    asked = {
        "soft": soft != 0,
        "feather": feather_px != 0,
        "label alphas": bool(alphas),
        "outside": outside != 1,
    }
    named = [name for name, given in asked.items() if given]
    if named:
        raise FlowmagError(f"{', '.join(named)} without a mask: give one, or leave this out")


def _alpha_of_labels(
    labels: NDArray[Any],
    alpha: float | NDArray[np.float32],
    alphas: Mapping[int, float],
    outside: float,
    soft: float,
    feather_px: float,
) -> NDArray[np.float32]:
    """Magnification (H, W) where each label has its own.

    Inside a label it is the label's own. Beyond, labels whose soft edges meet are mixed, the
    nearer one counting for more, and fade into the outside together.
    """
    total = np.zeros(labels.shape)
    weight = np.zeros(labels.shape)
    cover = np.zeros(labels.shape)
    core = np.full(labels.shape, outside, dtype=np.float64)
    for label in np.unique(labels[labels != 0]):
        own = alphas.get(int(label), alpha)
        inside = labels == label
        share = feather(dilate(inside, soft), feather_px)
        near = share / np.maximum(distance(inside), 1)
        total += near * own
        weight += near
        cover = np.maximum(cover, share)
        core[inside] = own if np.ndim(own) == 0 else np.asarray(own)[inside]
    mean = np.divide(total, weight, out=np.full(labels.shape, float(outside)), where=weight > 0)
    mixed = outside + cover * (mean - outside)
    return np.where(labels != 0, core, mixed).astype(np.float32)


def read_mask(path: str | Path) -> NDArray[Any]:
    """Read a mask from a file with one picture, or with one for each frame.

    Returns
    -------
    ndarray
        (H, W) or (T, H, W); of pictures with a palette, the numbers of the colours, which are
        labels; of a colour picture, the largest of the samples, opacity aside.

    Raises
    ------
    FlowmagError
        If the file cannot be read, has depth or channels, or is of a lossy format.
    """
    from napari_flowmag.io import LOSSY, palette_numbers, read_clip

    if Path(path).suffix.lower() in LOSSY:
        raise FlowmagError(
            f"mask {path}: this format changes values, and what was 0 is so no more: "
            "save the mask as .png or .tif"
        )
    numbers = palette_numbers(Path(path))
    if numbers is not None:
        return numbers
    clip = read_clip(Path(path))
    if any(clip.sizes[a] > 1 for a in clip.axes if a in "ZC"):
        raise FlowmagError(
            f"mask {path} has shape {clip.shape} ({clip.axes}): give pictures without depth and "
            "channels"
        )
    source = as_frames(clip.frames, clip.axes)
    channels = list(source.channels)
    pictures = [source.planes(t)[0][..., channels].max(axis=-1) for t in range(len(source))]
    return pictures[0] if len(pictures) == 1 else np.stack(pictures)


def _alpha(alpha: float | ArrayLike, size: tuple[int, int]) -> float | NDArray[np.float32]:
    values = np.asarray(alpha)
    if values.ndim and values.shape != size:
        raise FlowmagError(
            f"the alpha map has shape {values.shape}, the frames have {size[0]} × {size[1]} pixels"
        )
    bad = values[~((values >= 0) & (values <= MOST_ALPHA))]
    if bad.size:
        check_alpha(float(bad[0]))
    return values.astype(np.float32) if values.ndim else float(values)
