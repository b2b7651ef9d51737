"""Which frame pairs are fit to learn from (the paper's appendix: data)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_flowmag.train.prepare.config import SelectionConfig

_DECIMALS = 4
_BEYOND = 1e6


@dataclass(frozen=True)
class PairStatistics:
    """What decides whether a pair is fit.

    Attributes
    ----------
    p999, p80, p001 : float
        Percentiles 99.9, 80 and 0.01 of the motion's magnitude in px.
    mse : float
        Mean squared difference of the frames in grey levels of 255.
    """

    p999: float
    p80: float
    p001: float
    mse: float


def motion_magnitude(first: Tensor, second: Tensor, flow: nn.Module) -> NDArray[np.float32]:
    """Return how far each pixel moves, (H, W) px; what is not finite counts as a million.

    Parameters
    ----------
    first, second
        (C, H, W) in [0, 1], C = 1 or 3.
    flow
        From :func:`~napari_flowmag.flow.load_flow`.
    """
    with torch.no_grad():
        motion = flow(first[None], second[None])[0]
    magnitude: NDArray[np.float32] = torch.hypot(motion[0], motion[1]).numpy()
    return np.nan_to_num(magnitude, nan=_BEYOND, posinf=_BEYOND)


def measure_pair(first: Tensor, second: Tensor, magnitude: NDArray[np.float32]) -> PairStatistics:
    """Measure a pair.

    Parameters
    ----------
    first, second
        (C, H, W) in [0, 1].
    magnitude
        Of the motion between them, (H, W) px.

    Returns
    -------
    PairStatistics
        To four decimals, so that what is written is what decides.
    """
    mse = float((255 * (second - first)).square().mean())
    p999, p80, p001 = (float(p) for p in np.percentile(magnitude, (99.9, 80, 0.01)))
    return PairStatistics(*(round(value, _DECIMALS) for value in (p999, p80, p001, mse)))


def rejection(statistics: PairStatistics, config: SelectionConfig) -> str | None:
    """Say which of the paper's bounds a pair breaks; None if it is fit."""
    broken = [
        f"{name} {value:.4g} > {most:g}"
        for name, value, most in (
            ("p999", statistics.p999, config.max_p999),
            ("p80", statistics.p80, config.max_p80),
            ("p001", statistics.p001, config.max_p001),
        )
        if value > most
    ]
    if statistics.mse <= config.min_mse:
        broken.append(f"mse {statistics.mse:.4g} ≤ {config.min_mse:g}")
    return ", ".join(broken) or None
