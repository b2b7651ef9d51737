"""Our own metrics: achieved factor, stillness, sharpness kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from napari_flowmag.errors import FlowmagError
from napari_flowmag.measure import Factor, factor_between
from napari_flowmag.metrics.arrays import Values, batches, values_of

if TYPE_CHECKING:
    from torch import Tensor


def achieved_factors(
    output_flow: ArrayLike | Tensor,
    input_flow: ArrayLike | Tensor,
    labels: ArrayLike | None = None,
    *,
    floor: float = 0.01,
) -> dict[int, Factor]:
    """Measure by what factor each region was magnified, from flows.

    The robust slope through the origin of output over input motion: the median over a region's
    pixels of the ratio along the input motion, weighted by the square of the input motion, as
    `napari_flowmag.measure.achieved_factor` takes it over the frames of a region that moves as
    one. Use that one where it applies; this one is as good as the flows.

    Parameters
    ----------
    output_flow, input_flow : array_like or Tensor
        (2, H, W) px from the reference to the magnified frame and to the frame.
    labels : array_like
        (H, W) bool or whole numbers: the region of each pixel of the reference, 0 for none. By
        default the whole picture is one region.
    floor : float
        Smallest input motion that counts, px. Where flows are estimated, it should lie above
        their error: noise in the input motion pulls the slope down.

    Returns
    -------
    dict of int to Factor
        For each region with a pixel that moves by the floor or more: its slope, the 16th and 84th
        percentile of the ratios around it, its largest input motion, and the number of pixels.

    Raises
    ------
    FlowmagError
        If shapes do not fit.
    """
    output, given = batches(values_of(output_flow)[None], values_of(input_flow)[None])
    regions = np.ones(given.shape[2:], dtype=int) if labels is None else np.asarray(labels)
    if given.shape[1] != 2 or regions.shape != given.shape[2:]:
        raise FlowmagError(
            f"flows (2, H, W) with labels (H, W) are needed, not {given.shape[1:]} with "
            f"{regions.shape}"
        )
    moves = np.hypot(given[0, 0], given[0, 1]) >= floor
    factors = {}
    for label in np.unique(regions[moves & (regions != 0)]):
        pixels = moves & (regions == label)
        before, after = given[0][:, pixels].T, output[0][:, pixels].T
        factors[int(label)] = factor_between(before, after, floor=floor)
    return factors


def stillness(
    magnified: ArrayLike | Tensor,
    reference: ArrayLike | Tensor,
    still: ArrayLike,
    value_range: float = 1.0,
) -> Values:
    """Mean absolute change where nothing moves, in grey levels of 255.

    Lower is better; 0 is a picture that stays as it is. In noisy data, even the input changes: see
    `relative_stillness`.

    Parameters
    ----------
    magnified, reference : array_like or Tensor
        (B, C, H, W).
    still : array_like
        (H, W) or (B, 1, H, W), not 0 where nothing moves.
    value_range : float
        Value of white minus that of black.

    Returns
    -------
    ndarray
        (B,) grey levels of 255; NaN where nothing is still.

    Raises
    ------
    FlowmagError
        If shapes do not fit.
    """
    pictures, references = batches(magnified, reference)
    return _mean_where(np.abs(pictures - references), still) * 255 / value_range


def relative_stillness(
    magnified: ArrayLike | Tensor,
    frame: ArrayLike | Tensor,
    reference: ArrayLike | Tensor,
    still: ArrayLike,
) -> Values:
    """Change of the magnified picture where nothing moves, over that of the input itself.

    1 leaves the input's noise as it is, α is what a magnifier that amplifies values makes of it,
    and below 1 it has become less. Parameters as in `stillness`.

    Returns
    -------
    ndarray
        (B,); NaN where nothing is still, or the input does not change at all.

    Raises
    ------
    FlowmagError
        If shapes do not fit.
    """
    before, after = stillness(frame, reference, still), stillness(magnified, reference, still)
    changes = before > 0
    return np.divide(after, before, out=np.full_like(after, np.nan), where=changes)


def sharpness_kept(
    magnified: ArrayLike | Tensor, reference: ArrayLike | Tensor, mask: ArrayLike | None = None
) -> Values:
    """Energy of the magnified picture's gradient over that of the reference's.

    1 keeps the picture as sharp as it is, below 1 it is blurred, above 1 something was added, such
    as noise or ringing. Gradients are differences of neighbouring pixels.

    Parameters
    ----------
    magnified, reference : array_like or Tensor
        (B, C, H, W), H and W from 2 px.
    mask : array_like
        (H, W) or (B, 1, H, W), not 0 where it is measured; everywhere by default.

    Returns
    -------
    ndarray
        (B,); NaN where the mask is empty or the reference has no gradient.

    Raises
    ------
    FlowmagError
        If shapes do not fit.
    """
    pictures, references = batches(magnified, reference)
    inside = np.ones(pictures.shape[2:]) if mask is None else mask
    after, before = (_mean_where(_energy(x), inside) for x in (pictures, references))
    return np.divide(after, before, out=np.full_like(after, np.nan), where=before > 0)


def _energy(pictures: Values) -> Values:
    """Squared length of the gradient, (B, C, H, W): differences to the right and downwards."""
    energy = np.zeros_like(pictures)
    energy[..., :, :-1] += np.diff(pictures, axis=-1) ** 2
    energy[..., :-1, :] += np.diff(pictures, axis=-2) ** 2
    return energy


def _mean_where(values: Values, mask: ArrayLike) -> Values:
    """Return the mean over channels and the masked pixels, (B,); NaN for an empty mask."""
    inside = np.asarray(mask) != 0
    if inside.shape[-2:] != values.shape[-2:] or inside.ndim not in (2, 4):
        raise FlowmagError(
            f"a mask (H, W) or (B, 1, H, W) is needed for {values.shape}, not {inside.shape}"
        )
    weight = np.broadcast_to(inside, (len(values), 1, *values.shape[2:]))
    total = (values.mean(1, keepdims=True) * weight).sum((1, 2, 3))
    count = weight.sum((1, 2, 3))
    mean: Values = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return mean
