"""Forward warping: each pixel of the reference is pushed along α times the flow.

What nothing reaches is filled by OpenCV's inpainting (Telea 2004), as in the comparison of the
paper, whose strongest baseline this is.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_flowmag.baselines.common import CLOSE, FlowMagnifier, keep_unmagnified
from napari_flowmag.errors import FlowmagError
from napari_flowmag.models.base import Alpha, broadcast_alpha
from napari_flowmag.warp import identity_grid, splat

_HOLE = 0.05
"""Share of a pixel that must arrive for it to count as reached."""

_RADIUS = 3.0
"""Surroundings in px that inpainting looks at."""

_STEPS = 65535.0
"""Range that values are stretched to for inpainting."""


class _Warp(FlowMagnifier):
    """Pushes the reference along α × flow, see :class:`NearestWarp` and :class:`BilinearWarp`.

    Parameters
    ----------
    flow : str
        Flow estimator, a name or path that :func:`napari_flowmag.load_flow` takes.

    Raises
    ------
    FlowmagError
        If OpenCV is missing, or there is no such flow.
    """

    def __init__(self, flow: str = "default") -> None:
        from napari_flowmag.flow import load_flow

        _opencv()  # says at once if it is missing
        super().__init__(load_flow(flow))
        self.config = {"flow": flow}

    @abstractmethod
    def push(self, values: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Push values (B, C, H, W): what arrives, and how much of it (B, 1, H, W)."""

    def render(self, prediction: Tensor, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        """Push the reference, fill holes; any channels, any values."""
        factor = broadcast_alpha(alpha).to(frame).expand(len(frame), 1, *frame.shape[-2:])
        pushed, share = self.push(torch.cat([reference, factor], 1), factor * prediction)
        holes = share < _HOLE
        arrived = torch.where(holes, factor, pushed[:, -1:])
        # Pixels of the frame itself are no holes: they need not be invented.
        kept = keep_unmagnified(pushed[:, :-1], frame, arrived)
        return self._filled(kept, holes & ((arrived - 1).abs() > CLOSE))

    def _filled(self, pictures: Tensor, holes: Tensor) -> Tensor:
        """Inpaint each channel by itself: OpenCV takes floats of one channel only."""
        cv2, out = _opencv(), pictures.clone()
        for picture, hole in zip(out, holes[:, 0], strict=True):
            if not hole.any() or hole.all():
                continue
            mask = hole.cpu().numpy().astype(np.uint8)
            for channel in picture:
                low, high = (float(v) for v in torch.aminmax(channel[~hole]))
                # OpenCV adds up to 2 to what it fills in, whatever the unit of the values.
                scale = _STEPS / (high - low) if high > low else 1.0
                values = (scale * (channel - low)).cpu().numpy()
                filled = torch.from_numpy(cv2.inpaint(values, mask, _RADIUS, cv2.INPAINT_TELEA))
                filled = filled.to(channel)
                channel.copy_(torch.where(hole, (filled / scale + low).clamp(low, high), channel))
        return out


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise FlowmagError(
            'warps fill holes with OpenCV, which is missing: pip install "flowmag[eval]"'
        ) from error
    return cv2


class BilinearWarp(_Warp):
    """Each pixel is shared among the four around the place that it is pushed to."""

    architecture = "warp-bilinear"

    def push(self, values: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Push values (B, C, H, W): their mean where they arrive, and the sum of shares."""
        total, share = splat(values, displacement, torch.ones_like(values[:, :1]))
        return total / share.clamp_min(1e-6), share


class NearestWarp(_Warp):
    """Each pixel goes to the pixel nearest to the place that it is pushed to.

    Of several that meet the one is seen that lands nearest to the pixel's middle; of equally
    near ones the first, row by row.
    """

    architecture = "warp-nearest"

    def push(self, values: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Push values (B, C, H, W): those of the pixel that wins, and 1 where there is one."""
        batch, _, height, width = values.shape
        count = height * width
        position = identity_grid(height, width, displacement) + displacement
        landing = position.round()
        x, y = landing.unbind(1)
        inside = ((x >= 0) & (x < width) & (y >= 0) & (y < height)).flatten(1)
        # Whole numbers first: float32 cannot count the pixels of very large pictures.
        target = y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
        target = torch.where(inside, target.flatten(1), count)  # a place that is cut off below
        distance = (position - landing).square().sum(1).flatten(1)
        best = distance.new_full((batch, count + 1), torch.inf)
        best = best.scatter_reduce(1, target, distance, "amin")
        number = torch.arange(count, device=values.device).expand(batch, -1)
        number = torch.where(distance == best.gather(1, target), number, count)
        winner = target.new_full((batch, count + 1), count)
        winner = winner.scatter_reduce(1, target, number, "amin")[:, :-1]
        reached = (winner < count).view(batch, 1, height, width)
        source = winner.clamp(max=count - 1).unsqueeze(1).expand(-1, values.shape[1], -1)
        return values.flatten(2).gather(2, source).view_as(values), reached.to(values.dtype)
