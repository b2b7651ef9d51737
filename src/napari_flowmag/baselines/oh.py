"""The learned magnifier of Oh et al., "Learning-based Video Motion Magnification" (ECCV 2018).

An encoder splits a picture into texture and shape, a manipulator enlarges the difference of two
shapes, and a decoder paints the picture that has the frame's texture and the enlarged shape. As
in the authors' published code the enlarged difference is added to the frame's shape, times
α - 1: with no magnification the network repaints the frame.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.baselines.common import keep_unmagnified
from napari_flowmag.checkpoint import read_pickle
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.frames import crop_to, pad_to_multiple
from napari_flowmag.models.base import Alpha, Magnifier, broadcast_alpha

_MULTIPLE, _SMALLEST = 4, 16  # texture is a quarter of the picture's size

_PUBLISHED = {
    "encoder.res_encoder.conv1": "features.first",
    "encoder.res_encoder.conv2": "features.second",
    "encoder.res_encoder.residual": "features.residual",
    "encoder.conv_tex": "texture.first",
    "encoder.texture_resblk": "texture.residual",
    "encoder.conv_sha": "shape.first",
    "encoder.shape_resblk": "shape.residual",
    "res_manipulator.conv1": "difference.first",
    "res_manipulator.conv2": "change.first",
    "res_manipulator.residual": "change.residual",
    "decoder.conv_tex_aft_upsample": "texture_up.first",
    "decoder.res_decoder.residual": "paint.residual",
    "decoder.res_decoder.conv_up_sample": "paint.extra",
    "decoder.res_decoder.conv1": "paint.first",
    "decoder.res_decoder.conv2": "paint.last",
}
"""Prefixes of weights in the PyTorch version of one of the authors' groups → ours."""


class OhMagnifier(Magnifier):
    """Encoder, manipulator and decoder, 930,051 parameters.

    Parameters
    ----------
    extra : bool
        A further convolution after the last upsampling, as the weights have that are published
        for PyTorch.
    """

    architecture = "oh"
    alpha_range = (1.0, 100.0)
    channels = 3
    context = 96
    decoder = ("texture_up", "paint")

    def __init__(self, extra: bool = False) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"extra": extra}
        self.features = _stack(
            first=_conv(3, 16, 7),
            relu1=nn.ReLU(),
            second=_conv(16, 32, 3, stride=2),
            relu2=nn.ReLU(),
            residual=_residuals(32, 3),
        )
        self.texture = _stack(
            first=_conv(32, 32, 3, stride=2), relu=nn.ReLU(), residual=_residuals(32, 2)
        )
        self.shape = _stack(first=_conv(32, 32, 3), relu=nn.ReLU(), residual=_residuals(32, 2))
        self.difference = _stack(first=_conv(32, 32, 7), relu=nn.ReLU())
        self.change = _stack(first=_conv(32, 32, 3), residual=_residuals(32, 1))
        self.texture_up = _stack(
            up=nn.Upsample(scale_factor=2), first=_conv(32, 32, 3), relu=nn.ReLU()
        )
        more = {"extra": _conv(64, 64, 3), "relu0": nn.ReLU()} if extra else {}
        self.paint = _stack(
            residual=_residuals(64, 9),
            up=nn.Upsample(scale_factor=2),
            **more,
            first=_conv(64, 32, 3),
            relu=nn.ReLU(),
            last=_conv(32, 3, 7),
        )

    def encode(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Split pictures into texture and shape.

        Parameters
        ----------
        picture : Tensor
            (B, 3, H, W) in [0, 1], height and width multiples of 4.

        Returns
        -------
        texture, shape : Tensor
            (B, 32, H/4, W/4) and (B, 32, H/2, W/2).
        """
        features = self.features(2 * picture - 1)
        return self.texture(features), self.shape(features)

    def decode(self, texture: Tensor, shape: Tensor, other: Tensor, alpha: Tensor) -> Tensor:
        """Paint the frame of a texture and a shape, its difference from another one enlarged.

        Parameters
        ----------
        texture, shape : Tensor
            Of the frame, from :meth:`encode`.
        other : Tensor
            Shape of the reference.
        alpha : Tensor
            (B, 1, 1, 1) or (B, 1, H/2, W/2).

        Returns
        -------
        Tensor
            (B, 3, H, W), near [0, 1].
        """
        change = self.change(self.difference(shape - other) * (alpha - 1))
        painted: Tensor = self.paint(torch.cat([self.texture_up(texture), shape + change], 1))
        return (painted + 1) / 2

    def prepare(self, reference: Tensor) -> tuple[Tensor]:
        """Shape of the reference, see the base class.

        Raises
        ------
        FlowmagError
            If it has not three channels.
        """
        if reference.shape[1] != self.channels:
            raise FlowmagError(
                f"the network of Oh et al. takes RGB pictures, not {reference.shape[1]} channels: "
                "repeat one channel three times, or use the default model"
            )
        return (self.encode(_padded(reference))[1],)

    def predict(self, prepared: tuple[Tensor], frame: Tensor, alpha: Alpha) -> Tensor:
        """Paint the picture, (B, 3, H, W)."""
        texture, shape = self.encode(_padded(frame))
        factor = broadcast_alpha(alpha).to(frame)
        if factor.shape[-1] > 1:
            factor = F.avg_pool2d(_padded(factor.expand(-1, 1, *frame.shape[-2:])), 2)
        return crop_to(self.decode(texture, shape, *prepared, factor), frame)

    def render(self, prediction: Tensor, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        """Return the painted picture, and the frame's own pixels where α is 1."""
        return keep_unmagnified(prediction.clamp(0, 1), frame, alpha)


def read_published_weights(path: Path) -> OhMagnifier:
    """Read weights that are published for PyTorch by one of the authors' groups.

    Those of Deep-Motion-Mag-Pytorch (POSTECH), as its training writes them: a dictionary with
    ``model_state_dict``. Their factor of 0 changes nothing, as ours of 1 does.

    Raises
    ------
    FlowmagError
        If the file is missing, damaged, or holds something else.
    """
    content = read_pickle(path).get("model_state_dict")
    if not isinstance(content, dict):
        raise FlowmagError(f"{path} holds no 'model_state_dict': not weights of this network")
    state = {}
    for key, value in content.items():
        prefix, dot, rest = _split(str(key).removeprefix("module."))
        state[_PUBLISHED.get(prefix, prefix) + dot + rest] = value
    module = OhMagnifier(extra=True)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise FlowmagError(
            f"{path} does not fit the network of Oh et al.: {' '.join(str(error).split())[:200]}"
        ) from error
    return module


def without_weights() -> OhMagnifier:
    """Say where to get weights, as none ship with the package.

    Raises
    ------
    FlowmagError
        Always.
    """
    raise FlowmagError(
        "no weights of 'oh' ship with flowmag: train them (flowmag-train oh -o RUN) and give "
        "RUN/model.safetensors, or give the published .tar file"
    )


def _split(key: str) -> tuple[str, str, str]:
    """Divide a weight's name into the layers of :data:`_PUBLISHED` and what follows."""
    for prefix in _PUBLISHED:
        if key.startswith(prefix + "."):
            return prefix, ".", key[len(prefix) + 1 :]
    return key, "", ""


def _padded(picture: Tensor) -> Tensor:
    return pad_to_multiple(picture, _MULTIPLE, _SMALLEST)


def _stack(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def _conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, padding_mode="reflect")


def _residuals(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Residual(width) for _ in range(count)))


class _Residual(nn.Module):
    """Two convolutions whose result is added to what went in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv(width, width, 3), _conv(width, width, 3)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = features + self.conv2(self.conv1(features).relu())
        return out
