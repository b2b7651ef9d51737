"""The paper's magnifier: a U-Net that repaints the frame (Section 3 and appendix).

Its input is the reference, the frame and the encoding of α, its output the picture.
Checkpoints of the paper's authors are read and written.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_flowmag.atomic import write_atomically
from napari_flowmag.checkpoint import read_pickle
from napari_flowmag.errors import FlowmagError
from napari_flowmag.models.base import Alpha, Magnifier
from napari_flowmag.models.encoding import ENCODING_CHANNELS, encode_alpha

_IMAGE_CHANNELS = 3
_MINIMUM_SIZE = 16  # four times halved, a pixel must be left


class UNetMagnifier(Magnifier):
    """The U-Net of the paper; the published one has ``width=64``, 17,287,683 parameters.

    Five levels with ``width`` × 1, 2, 4, 8, 8 channels. It synthesises RGB in [0, 1] through
    a sigmoid, so it takes exactly three channels and cannot attenuate (α < 1).

    Parameters
    ----------
    width : int
        Channels of the finest level.
    """

    architecture = "unet"
    alpha_range = (1.0, 16.0)
    channels = _IMAGE_CHANNELS
    decoder = ("up", "head")
    context = 112

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"width": width}
        inputs = 2 * _IMAGE_CHANNELS + ENCODING_CHANNELS
        # The deepest level has half of 16 widths: bilinear upsampling keeps the channels.
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.down = nn.ModuleList(
            _conv_pair(i, o, o) for i, o in zip([inputs, *widths], widths, strict=False)
        )
        # On the way up a level takes its skip and what comes from below, equally wide.
        outputs = [4 * width, 2 * width, width, width]
        self.up = nn.ModuleList(
            _conv_pair(2 * skip, skip, out)
            for skip, out in zip(reversed(widths[:-1]), outputs, strict=True)
        )
        self.head = nn.Conv2d(width, _IMAGE_CHANNELS, 1)

    def prepare(self, reference: Tensor) -> tuple[Tensor]:
        """Check the reference; the network needs it as it is.

        Raises
        ------
        FlowmagError
            If it has not three channels or is smaller than 16 px.
        """
        if reference.shape[1] != _IMAGE_CHANNELS:
            raise FlowmagError(
                f"the U-Net takes RGB pictures, not {reference.shape[1]} channels: "
                "repeat one channel three times, or use the default model"
            )
        if min(reference.shape[-2:]) < _MINIMUM_SIZE:
            raise FlowmagError(
                f"the U-Net needs pictures of {_MINIMUM_SIZE}×{_MINIMUM_SIZE} px or more, "
                f"not {reference.shape[-2]}×{reference.shape[-1]}"
            )
        return (reference,)

    def predict(self, prepared: tuple[Tensor], frame: Tensor, alpha: Alpha) -> Tensor:
        """Paint the magnified frame, (B, 3, H, W) in [0, 1]."""
        (reference,) = prepared
        code = encode_alpha(alpha).to(frame.dtype)
        code = code.expand(frame.shape[0], -1, *frame.shape[-2:])
        # The published weights expect the channels in turn: reference's R, frame's R, G, G, B, B.
        x = torch.cat([torch.stack([reference, frame], 2).flatten(1, 2), code], 1)
        skips: list[Tensor] = []
        for level in self.down:
            x = level(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for level, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            x = level(torch.cat([skip, _upsample(x, skip)], 1))
        # Half precision has as many steps from 0.5 to 1 as a picture of 8 bits: too few.
        logits: Tensor = self.head(x)
        return torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))

    def render(self, prediction: Tensor, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        """Return the prediction: it is the picture."""
        return prediction


def _conv_pair(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, middle, 3, padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _upsample(x: Tensor, like: Tensor) -> Tensor:
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    # An odd size lost a row or column on the way down.
    dy, dx = (like.shape[d] - x.shape[d] for d in (-2, -1))
    return F.pad(x, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))


def read_authors_checkpoint(path: str | Path) -> UNetMagnifier:
    """Read a U-Net as the paper's authors publish it (``.pth``).

    Parameters
    ----------
    path : str or Path
        ``{"state_dict": {"module.generator.…": …}, …}``. The width is inferred.

    Raises
    ------
    FlowmagError
        If the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    stored = read_pickle(path).get("state_dict")
    first = _authors_key("down.0.0.weight")
    if not isinstance(stored, dict) or first not in stored:
        raise FlowmagError(f"{path} is not a checkpoint of the paper's U-Net")
    module = UNetMagnifier(width=stored[first].shape[0])
    try:
        module.load_state_dict({key: stored[_authors_key(key)] for key in module.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise FlowmagError(f"{path} holds weights that do not fit the paper's U-Net") from error
    return module.eval()


def write_authors_checkpoint(path: str | Path, module: UNetMagnifier, epoch: int = 0) -> None:
    """Write a U-Net in the format of the paper's authors, for their code to read.

    Parameters
    ----------
    path : str or Path
        Ends in ``.pth``.
    module : UNetMagnifier
        Whose weights are stored.
    epoch : int
        Number of epochs it was trained for.

    Raises
    ------
    FlowmagError
        If the file cannot be written.
    """
    state = {_authors_key(k): v.detach().cpu().clone() for k, v in module.state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "optimizer_state_dict": {}, "epoch": epoch}, buffer)
    write_atomically(Path(path), buffer.getvalue())


def _authors_key(key: str) -> str:
    """Name of one of our parameters in the authors' checkpoints."""
    part, _, rest = key.partition(".")
    if part == "head":
        return f"module.generator.up_layers.4.conv.{rest}"
    level, _, rest = rest.partition(".")
    if part == "up":
        return f"module.generator.up_layers.{level}.conv.double_conv.{rest}"
    # Every level but the first pools before it convolves.
    inner = "double_conv" if level == "0" else "maxpool_conv.1.double_conv"
    return f"module.generator.down_layers.{level}.{inner}.{rest}"
