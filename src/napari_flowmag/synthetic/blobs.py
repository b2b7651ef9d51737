"""Gaussian spots that can be drawn anywhere between pixels, exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Blobs:
    """Axis-aligned Gaussian spots: specks, paint or stained structures, each moved as a whole.

    All arrays are (N,), positions and standard deviations in px, `brightness` at the middle.
    """

    x: FloatArray
    y: FloatArray
    sigma_x: FloatArray
    sigma_y: FloatArray
    brightness: FloatArray

    def draw(self, dx: FloatArray, dy: FloatArray, height: int, width: int) -> FloatArray:
        """Sum of all spots, each moved by its own displacement; exact, as Gaussians separate."""
        across = np.arange(width) - (self.x + dx)[:, None]
        down = np.arange(height) - (self.y + dy)[:, None]
        profile_x = np.exp(-0.5 * (across / self.sigma_x[:, None]) ** 2)
        profile_y = np.exp(-0.5 * (down / self.sigma_y[:, None]) ** 2)
        return np.asarray((self.brightness[:, None] * profile_y).T @ profile_x)

    def keep(self, which: NDArray[np.bool_]) -> Blobs:
        """Leave out all spots but these, (N,) bool."""
        return Blobs(**{name: values[which] for name, values in vars(self).items()})
