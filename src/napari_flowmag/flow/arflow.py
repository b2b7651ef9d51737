"""ARFlow's two-frame PWC-Lite, one of the two flow networks the paper trains with.

Liu et al., "Learning by Analogy: Reliable Supervision from Transformations for Unsupervised
Optical Flow Estimation", CVPR 2020; the variant with bilinear upsampling and reduced dense
connections, 2,236,660 parameters. It reads ARFlow's published weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.checkpoint import read_pickle
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.frames import shrink_to, stretch_to_multiple, to_rgb
from napari_flowmag.warp import sample

_FEATURES = (16, 32, 64, 96, 128, 192)  # at 1/2, 1/4, … 1/64 of the frame
_REDUCED = 32
_REACH = 4  # px that the correlation looks to each side, at every level
_STRIDE = 64


class ARFlow(nn.Module):
    """Coarse-to-fine flow: at each of five levels (1/64 to 1/4) warp, correlate, refine.

    Frames whose sides are not multiples of 64 are resized to the next ones, and the flow is
    resized and scaled back. ARFlow's own inference resizes too (to one fixed size); a padded
    border would be part of the coarse levels, which see 64 px as one.
    """

    differentiable = True

    def __init__(self) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        self.features = nn.ModuleList(
            nn.Sequential(_conv(i, o, stride=2), _conv(o, o))
            for i, o in zip((3, *_FEATURES), _FEATURES, strict=False)
        )
        self.reduce = nn.ModuleList(_conv(c, _REDUCED, size=1) for c in reversed(_FEATURES[1:]))
        self.estimate = _Estimator((2 * _REACH + 1) ** 2 + _REDUCED + 2)
        self.context = nn.Sequential(
            _conv(_Estimator.outputs + 2, 128),
            _conv(128, 128, dilation=2),
            _conv(128, 128, dilation=4),
            _conv(128, 96, dilation=8),
            _conv(96, 64, dilation=16),
            _conv(64, 32),
            _conv(32, 2, active=False),
        )

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
        frames = (stretch_to_multiple(to_rgb(frame), _STRIDE) for frame in (first, second))
        return shrink_to(self._flow(*frames), first)

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        firsts, seconds = self._pyramid(first), self._pyramid(second)
        flow = firsts[0].new_zeros(first.shape[0], 2, *firsts[0].shape[-2:])
        for level, (a, b) in enumerate(zip(firsts, seconds, strict=True)):
            if level > 0:
                flow = _enlarge(flow, 2)
                b = sample(b, flow)
            matches = F.leaky_relu(correlate(a, b), 0.1)
            hidden, change = self.estimate(torch.cat([matches, self.reduce[level](a), flow], 1))
            flow = flow + change
            flow = flow + self.context(torch.cat([hidden, flow], 1))
        return _enlarge(flow, 4)

    def _pyramid(self, frame: Tensor) -> list[Tensor]:
        """Features from 1/64 to 1/4 of the frame."""
        levels = []
        for level in self.features:
            frame = level(frame)
            levels.append(frame)
        return levels[:0:-1]


class _Estimator(nn.Module):
    """Convolutions of which each sees the outputs of the two before it."""

    outputs = 32

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                _conv(inputs, 128),
                _conv(128, 128),
                _conv(128 + 128, 96),
                _conv(128 + 96, 64),
                _conv(96 + 64, self.outputs),
                _conv(64 + self.outputs, 2, active=False),
            ]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last hidden features and the change of flow."""
        x = self.convs[0](x)
        before, x = x, self.convs[1](x)
        for conv in self.convs[2:]:
            before, x = x, conv(torch.cat([before, x], 1))
        return before, x


def correlate(first: Tensor, second: Tensor, reach: int = _REACH) -> Tensor:
    """Similarity of each pixel to its neighbours in the other picture.

    Parameters
    ----------
    first, second : Tensor
        Features (B, C, H, W).
    reach : int
        Largest displacement in px along each axis.

    Returns
    -------
    Tensor
        (B, (2 reach + 1)², H, W): mean over C of the products with the pixel displaced by
        (dx, dy), dx varying fastest; 0 outside the picture.
    """
    height, width = first.shape[-2:]
    padded = F.pad(second, (reach,) * 4)
    # Each product is dropped once it is summed; the graph keeps views of two tensors only.
    shifts = range(2 * reach + 1)
    return torch.stack(
        [
            (first * padded[..., y : y + height, x : x + width]).mean(1)
            for y in shifts
            for x in shifts
        ],
        1,
    )


def load_arflow(path: str | Path) -> ARFlow:
    """Read ARFlow's published weights.

    Parameters
    ----------
    path : str or Path
        Its ``.tar``: ``{"epoch": …, "state_dict": {…}}``, of a two-frame model.

    Raises
    ------
    FlowmagError
        If the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    stored = read_pickle(path).get("state_dict")
    if not isinstance(stored, dict):
        raise FlowmagError(f"{path} is not a checkpoint of ARFlow")
    module = ARFlow()
    try:
        module.load_state_dict({key: stored[_authors_key(key)] for key in module.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise FlowmagError(
            f"{path} does not fit ARFlow's two-frame network: take pwclite_ar.tar, not the "
            "multi-frame pwclite_ar_mv.tar"
        ) from error
    return module.eval()


def _authors_key(key: str) -> str:
    """Name of one of our parameters in ARFlow's checkpoints."""
    part, _, rest = key.partition(".")
    if part == "features":
        return f"feature_pyramid_extractor.convs.{rest}"
    if part == "reduce":
        return f"conv_1x1.{rest}"
    if part == "context":
        return f"context_networks.convs.{rest}"
    _, index, rest = rest.split(".", 2)
    name = "predict_flow" if index == "5" else f"conv{int(index) + 1}"
    return f"flow_estimators.{name}.{rest}"


def _conv(
    inputs: int,
    outputs: int,
    size: int = 3,
    stride: int = 1,
    dilation: int = 1,
    active: bool = True,
) -> nn.Sequential:
    padding = (size - 1) // 2 * dilation
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, size, stride, padding, dilation=dilation)]
    if active:
        layers.append(nn.LeakyReLU(0.1, inplace=True))
    return nn.Sequential(*layers)


def _enlarge(flow: Tensor, factor: int) -> Tensor:
    return F.interpolate(flow * factor, scale_factor=factor, mode="bilinear", align_corners=True)
