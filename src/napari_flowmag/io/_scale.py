"""Scale and time as files tell them: numbers that may be missing, nonsense, or of several units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from napari_flowmag import units


def number(told: Any) -> float:
    """Return a number that a file tells; 0 if it is none, NaN or infinite."""
    try:
        value = float(told)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return value if math.isfinite(value) else 0.0


def rate(interval: float) -> float | None:
    """Return the frames a second for a time between frames in seconds; None if that is unknown."""
    # Twelve digits: 1 / (1 / 30) is to be 30 again.
    fps = float(f"{1 / interval:.12g}") if interval > 0 else 0.0
    return fps if 0 < fps < math.inf else None


def pixel_size(
    sizes: Mapping[str, float], names: Mapping[str, str | None], axes: str
) -> tuple[tuple[float, ...] | None, str | None]:
    """Return the size of a pixel, and its unit, as a clip has them.

    Parameters
    ----------
    sizes, names
        Length along each axis, and what the file calls its unit. A length that is not a finite
        number above 0 is unknown.
    axes
        The axes of the result: ``"YX"`` or ``"ZYX"``.

    Returns
    -------
    size : tuple of float or None
        In the unit of X. None if Y or X is unknown; without Z if only that is.
    unit : str or None
        As :class:`~napari_flowmag.Clip` calls it.
    """
    unit = units.length(names.get("X"))
    if unit is None:
        return None, None
    lengths = {a: _converted(sizes.get(a, 0.0), names.get(a), unit) for a in axes}
    if not (lengths["Y"] and lengths["X"]):
        return None, None
    return tuple(lengths[a] for a in axes if lengths[a]), unit.symbol


def _converted(size: float, name: str | None, unit: units.Length) -> float:
    own = units.length(name)
    if own is None or not (math.isfinite(size) and size > 0):
        return 0.0
    if own is unit:
        return size
    # Twelve digits: 300 nm are to be 0.3 µm.
    return float(f"{size * (own.metres / unit.metres):.12g}")
