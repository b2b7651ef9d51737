"""Masks of objects from clicks and boxes on one frame.

A segmenter looks at a picture once (:meth:`Segmenter.prepare`, which may take seconds) and then
answers as many prompts as the user makes (:meth:`Segmenter.segment`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Prompt:
    """What the user says about one object.

    Attributes
    ----------
    inside, outside : tuple of (float, float)
        Points (row, column), px, that belong to the object, and that do not.
    boxes : tuple of (float, float, float, float)
        (top, left, bottom, right), px, around the object or parts of it.

    Raises
    ------
    FlowmagError
        If nothing says where the object is.
    """

    inside: tuple[tuple[float, float], ...] = ()
    outside: tuple[tuple[float, float], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.inside and not self.boxes:
            raise FlowmagError("no prompt: click on the object, or draw a box around it")

    def within(self, height: int, width: int) -> Prompt:
        """Return the same with boxes cut to a picture.

        Raises
        ------
        FlowmagError
            Naming the first point or box that lies outside of it.
        """
        for row, column in (*self.inside, *self.outside):
            if not (0 <= row < height and 0 <= column < width):
                raise FlowmagError(
                    f"the point ({column:.0f}, {row:.0f}) lies outside of the picture of "
                    f"{width} × {height} px"
                )
        boxes = []
        for top, left, bottom, right in self.boxes:
            cut = max(top, 0), max(left, 0), min(bottom, height - 1), min(right, width - 1)
            if not (cut[0] <= cut[2] and cut[1] <= cut[3]):
                raise FlowmagError(
                    f"the box from ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f}) lies "
                    f"outside of the picture of {width} × {height} px"
                )
            boxes.append(cut)
        return replace(self, boxes=tuple(boxes))


class Segmenter(Protocol):
    """Finds the object that a prompt means."""

    def prepare(self, image: NDArray[Any], check: Callable[[], None]) -> Any:
        """Look at a picture.

        Parameters
        ----------
        image
            (H, W) or (H, W, 3), any numeric type.
        check
            Called now and then; may raise to stop.

        Returns
        -------
        Any
            What :meth:`segment` needs of it.
        """

    def segment(self, prepared: Any, prompt: Prompt) -> NDArray[np.bool_]:
        """Return the object's mask, (H, W).

        Raises
        ------
        FlowmagError
            If the prompt does not fit the picture.
        """


class Outline:
    """A mask that is grown and shrunk; how far each pixel is from its edge is found out once.

    Parameters
    ----------
    mask
        (H, W).
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.mask = mask

    def moved(self, px: float) -> NDArray[np.bool_]:
        """Return the mask grown by `px`, or shrunk by `-px`; Euclidean distances."""
        if px == 0 or not self.mask.any():
            return self.mask
        return np.asarray(self._outside <= px if px > 0 else self._inside > -px)

    @cached_property
    def _outside(self) -> NDArray[np.float32]:
        from scipy.ndimage import distance_transform_edt

        return np.asarray(distance_transform_edt(~self.mask), np.float32)

    @cached_property
    def _inside(self) -> NDArray[np.float32]:
        from scipy.ndimage import distance_transform_edt

        # Padded, so that the picture's edge does not count as the object's.
        padded = np.pad(self.mask, 1, mode="edge")
        return np.asarray(distance_transform_edt(padded)[1:-1, 1:-1], np.float32)


def to_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return any picture as 8-bit RGB, contrast stretched from the 0.5 to the 99.5 percentile."""
    values = np.asarray(image, dtype=np.float32)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=-1)
    if image.dtype == np.uint8:
        return values[..., :3].astype(np.uint8)
    low, high = np.nanpercentile(values, (0.5, 99.5))
    scaled = (values[..., :3] - low) / max(float(high - low), 1e-12)
    return np.asarray(np.round(np.nan_to_num(scaled).clip(0, 1) * 255), dtype=np.uint8)
