"""OpenCV's flows: no weights, no gradients, for metrics and comparisons."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_flowmag.errors import FlowmagError

# Weights of R, G and B in what the eye sees as brightness (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)

# OpenCV's estimators keep buffers between calls, and compute with all cores by themselves.
_one_at_a_time = threading.Lock()


class ClassicalFlow(nn.Module, ABC):
    """Flow of one pair of 8-bit grey pictures after the other, on the CPU.

    Raises
    ------
    FlowmagError
        If OpenCV is not installed.
    """

    differentiable = False

    def __init__(self) -> None:
        super().__init__()
        try:
            import cv2
        except ImportError as error:
            raise FlowmagError(
                "this flow needs OpenCV: pip install opencv-python-headless"
            ) from error
        self.cv2: Any = cv2

    @abstractmethod
    def calculate(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Motion between two grey pictures (H, W): (H, W, 2) px."""

    @torch.no_grad()
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Estimate the motion from ``first`` to ``second``.

        Parameters
        ----------
        first, second : Tensor
            (B, C, H, W) in [0, 1]. Of three channels the luma is used, else the mean.

        Returns
        -------
        Tensor
            (B, 2, H, W) px on the device of ``first``; no gradients.
        """
        pairs = zip(_grey(first), _grey(second), strict=True)
        with _one_at_a_time:
            flows = np.stack([self.calculate(a, b) for a, b in pairs])
        return torch.from_numpy(flows).to(first).movedim(-1, 1).contiguous()


class DISFlow(ClassicalFlow):
    """Dense inverse search (Kroeger et al., ECCV 2016).

    Parameters
    ----------
    preset : {"medium", "fast", "ultrafast"}
        From accurate to quick.
    """

    def __init__(self, preset: str = "medium") -> None:
        super().__init__()
        name = f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"
        if not hasattr(self.cv2, name):
            raise FlowmagError(f"DIS has no preset '{preset}': give medium, fast or ultrafast")
        self.engine = self.cv2.DISOpticalFlow_create(getattr(self.cv2, name))

    def calculate(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Motion between two grey pictures (H, W): (H, W, 2) px."""
        flow: NDArray[np.float32] = self.engine.calc(first, second, None)
        return flow


class FarnebackFlow(ClassicalFlow):
    """Polynomial expansion (Farnebäck, SCIA 2003).

    Parameters
    ----------
    levels : int
        Pyramid levels, each half the size of the one before.
    window : int
        Width in px of the neighbourhood that is averaged.
    iterations : int
        Refinements at each level.
    """

    def __init__(self, levels: int = 5, window: int = 15, iterations: int = 3) -> None:
        super().__init__()
        self.engine = self.cv2.FarnebackOpticalFlow_create(
            numLevels=levels, winSize=window, numIters=iterations, polyN=5, polySigma=1.2
        )

    def calculate(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Motion between two grey pictures (H, W): (H, W, 2) px."""
        flow: NDArray[np.float32] = self.engine.calc(first, second, None)
        return flow


def _grey(frames: Tensor) -> NDArray[np.uint8]:
    rgb = frames.shape[1] == 3
    grey = torch.einsum("bchw,c->bhw", frames, frames.new_tensor(_LUMA)) if rgb else frames.mean(1)
    return (grey.clamp(0, 1) * 255).round().byte().cpu().numpy()
