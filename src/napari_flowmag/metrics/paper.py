"""The paper's metrics: motion and magnification errors and SSIM; and PSNR."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from napari_flowmag.errors import FlowmagError
from napari_flowmag.metrics.arrays import Values, batches, values_of

if TYPE_CHECKING:
    from torch import Tensor


def motion_error(
    output_flow: ArrayLike | Tensor, input_flow: ArrayLike | Tensor, alpha: ArrayLike | Tensor
) -> Values:
    """Distance from the asked motion: ``mean |F(I0, Ĩ) - α F(I0, I)|``.

    The mean is over pixels and both components (the paper's Section 4, motion error).

    Parameters
    ----------
    output_flow, input_flow : array_like or Tensor
        (B, 2, H, W) px from the reference to the magnified frame and to the frame.
    alpha : array_like or Tensor
        Magnification asked for: a number, (B,) or (B, 1, H, W).

    Returns
    -------
    ndarray
        (B,) px.

    Raises
    ------
    FlowmagError
        If the two flows differ in shape.
    """
    output, given = batches(output_flow, input_flow)
    error: Values = np.abs(output - _alpha(alpha) * given).mean((1, 2, 3))
    return error


def magnification_error(
    output_flow: ArrayLike | Tensor, input_flow: ArrayLike | Tensor, alpha: ArrayLike | Tensor
) -> Values:
    """Distance from the asked factor: ``mean | |F(I0, Ĩ)| / (|F(I0, I)| + 1e-4) - α |``.

    Lengths of the flow vectors; the mean is over pixels (the paper's Section 4).

    Parameters
    ----------
    output_flow, input_flow : array_like or Tensor
        (B, 2, H, W) px from the reference to the magnified frame and to the frame.
    alpha : array_like or Tensor
        Magnification asked for: a number, (B,) or (B, 1, H, W).

    Returns
    -------
    ndarray
        (B,).

    Raises
    ------
    FlowmagError
        If the two flows differ in shape.
    """
    output, given = batches(output_flow, input_flow)
    achieved = _length(output) / (_length(given) + 1e-4)
    error: Values = np.abs(achieved - _alpha(alpha)).mean((1, 2, 3))
    return error


def ssim(
    picture: ArrayLike | Tensor, truth: ArrayLike | Tensor, value_range: float = 1.0
) -> Values:
    """Structural similarity (Wang et al. 2004): 11 px Gaussian window, σ = 1.5.

    Parameters
    ----------
    picture, truth : array_like or Tensor
        (B, C, H, W), H and W from 11 px; the mean over the channels is taken.
    value_range : float
        Largest minus smallest possible value.

    Returns
    -------
    ndarray
        (B,), 1 for equal pictures.

    Raises
    ------
    FlowmagError
        If the pictures differ in shape or are too small.
    """
    from skimage.metrics import structural_similarity

    pictures, truths = batches(picture, truth)
    if min(pictures.shape[2:]) < 11:
        raise FlowmagError(f"SSIM needs pictures of 11×11 px or more, not {pictures.shape[2:]}")
    similarity = partial(
        structural_similarity,
        data_range=value_range,
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return np.array([similarity(a, b) for a, b in zip(pictures, truths, strict=True)])


def psnr(
    picture: ArrayLike | Tensor, truth: ArrayLike | Tensor, value_range: float = 1.0
) -> Values:
    """Peak signal-to-noise ratio: ``10 log10(range² / mean squared difference)``.

    Parameters
    ----------
    picture, truth : array_like or Tensor
        (B, C, H, W).
    value_range : float
        Largest minus smallest possible value.

    Returns
    -------
    ndarray
        (B,) dB; infinite for equal pictures.

    Raises
    ------
    FlowmagError
        If the pictures differ in shape.
    """
    pictures, truths = batches(picture, truth)
    with np.errstate(divide="ignore"):
        decibel: Values = 10 * np.log10(value_range**2 / ((pictures - truths) ** 2).mean((1, 2, 3)))
    return decibel


def _alpha(alpha: ArrayLike | Tensor) -> Values:
    values = values_of(alpha)
    return values.reshape(-1, 1, 1, 1) if values.ndim <= 1 else values


def _length(flow: Values) -> Values:
    return np.asarray(np.hypot(flow[:, :1], flow[:, 1:]))
