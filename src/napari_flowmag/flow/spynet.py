"""SPyNet, a small flow network that has no part in any of flowmag's training: a judge.

Ranjan and Black, "Optical Flow Estimation using a Spatial Pyramid Network", CVPR 2017; the
variant with six levels that video restoration networks align frames with (BasicVSR, Chan et al.,
CVPR 2021), 1,440,300 parameters. It reads the weights of BasicSR and of MMagic, alone or as
the part of a restoration network that they are.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.checkpoint import read_weights
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.frames import shrink_to, stretch_to_multiple, to_rgb
from napari_flowmag.warp import sample

_LEVELS = 6
_STRIDE = 2 ** (_LEVELS - 1)
_CHANNELS = (8, 32, 64, 32, 16, 2)  # first picture, warped second one and flow → change of flow

# Names of a level's convolutions: BasicSR counts activations too, MMagic says "conv".
_NAME = re.compile(r"(?:.*\.)?basic_module\.(\d)\.basic_module\.(\d)\.(conv\.)?(weight|bias)")


class SPyNet(nn.Module):
    """Coarse-to-fine flow: at each of six levels (1/32 to 1) warp, and add what is still missing.

    Frames whose sides are not multiples of 32 are resized to the next ones, and the flow is
    resized and scaled back, as in BasicSR.
    """

    differentiable = True

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level() for _ in range(_LEVELS))
        # Colours of ImageNet's photographs: mean and spread
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Estimate the motion from ``first`` to ``second``.

        Parameters
        ----------
        first, second : Tensor
            (B, C, H, W) in [0, 1].

        Returns
        -------
        Tensor
            (B, 2, H, W) px.
        """
        return shrink_to(self._flow(self._pyramid(first), self._pyramid(second)), first)

    def _flow(self, firsts: list[Tensor], seconds: list[Tensor]) -> Tensor:
        flow = torch.zeros_like(firsts[0][:, :2])
        for level, first, second in zip(self.levels, firsts, seconds, strict=True):
            if flow.shape != first[:, :2].shape:
                flow = F.interpolate(2 * flow, scale_factor=2, mode="bilinear", align_corners=True)
            flow = flow + level(torch.cat([first, sample(second, flow), flow], 1))
        return flow

    def _pyramid(self, frame: Tensor) -> list[Tensor]:
        """Pictures at 1/32 to full resolution."""
        mean, std = cast("Tensor", self.mean), cast("Tensor", self.std)
        pictures = [(stretch_to_multiple(to_rgb(frame), _STRIDE) - mean) / std]
        for _ in range(_LEVELS - 1):
            pictures.insert(0, F.avg_pool2d(pictures[0], 2))
        return pictures


def load_spynet(path: str | Path) -> SPyNet:
    """Read SPyNet's weights from a file of BasicSR's or MMagic's.

    Parameters
    ----------
    path : str or Path
        A ``.pth``: of SPyNet itself, or of a network that has it as a part, such as BasicVSR.

    Raises
    ------
    FlowmagError
        If the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    stored = read_weights(path, "params", "state_dict")
    module = SPyNet()
    try:
        module.load_state_dict(dict(filter(None, map(_renamed, stored.items()))))
    except RuntimeError as error:
        raise FlowmagError(
            f"{path} does not hold SPyNet's six levels as BasicSR or MMagic store them"
        ) from error
    return module.eval()


def _renamed(item: tuple[str, Tensor]) -> tuple[str, Tensor] | None:
    """Name one of the authors' parameters as ours; None for what is not SPyNet's."""
    name, value = item
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    level, index, conv, kind = found.groups()
    return f"levels.{level}.{2 * int(index) if conv else index}.{kind}", value


def _level() -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(_CHANNELS):
        layers += [nn.Conv2d(inputs, outputs, 7, 1, 3), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
