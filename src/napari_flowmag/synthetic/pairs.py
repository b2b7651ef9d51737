"""Random frame pairs whose optical flow is known exactly.

A scene is a stack of layers: a textured background and up to two objects (blobs, thin
rods) in front of it. Each layer is a continuous function of position. The second frame
reads it on the pixel grid, the first frame at ``x + F(x)``; so F is by construction the
flow from the first frame to the second, at any sub-pixel size and without resampling
error that the two frames would not share. Shapes are signed distances, evaluated where
they are needed, so their edges are anti-aliased and move exactly, too.

Sensor effects (blur, photon and read noise, gain, rounding to grey levels) come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from napari_flowmag.errors import FlowmagError
from napari_flowmag.synthetic.layers import Random, RandomPicture, Shape
from napari_flowmag.warp import identity_grid

LAYERS = 3


@dataclass(frozen=True)
class PairSettings:
    """What random pairs look like.

    Attributes
    ----------
    size : int
        Height and width in px.
    motion : (float, float)
        Smallest and largest motion scale of a pair in px; drawn log-uniformly.
    noise : (float, float)
        Smallest and largest noise, standard deviation as a share of the pair's contrast
        (its grey-level standard deviation); drawn log-uniformly, in three pairs of four.
    still : float
        Share of layers (at most all but one in a scene) that do not move at all.
    """

    size: int = 128
    motion: tuple[float, float] = (0.01, 20.0)
    noise: tuple[float, float] = (0.003, 0.3)
    still: float = 0.35


@dataclass(frozen=True)
class Pairs:
    """A batch of frame pairs with exact flow.

    Attributes
    ----------
    first, second : Tensor
        (B, 3, H, W) in [0, 1].
    flow : Tensor
        (B, 2, H, W) px from first to second on the first frame's grid.
    occluded : Tensor
        (B, 1, H, W) bool: this point of the first frame is hidden in the second, or
        outside it.
    """

    first: Tensor
    second: Tensor
    flow: Tensor
    occluded: Tensor


def load_textures(folder: str | Path) -> list[Tensor]:
    """All PNG and JPEG pictures of a folder, as uint8 (3, H, W), in the order of their names.

    Raises
    ------
    FlowmagError
        When there is none, or one of them cannot be read.
    """
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms.v2.functional import to_dtype

    paths = sorted(
        p for p in Path(folder).glob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg"}
    )
    if not paths:
        raise FlowmagError(f"{folder}: no PNG or JPEG pictures to use as textures in this folder")
    textures = []
    for path in paths:
        try:
            picture = decode_image(str(path), mode=ImageReadMode.RGB)
        except RuntimeError as error:
            raise FlowmagError(f"{path}: damaged, or no PNG or JPEG picture") from error
        textures.append(to_dtype(picture, torch.uint8, scale=True))  # some PNGs have 16 bits
    return textures


def generator_of(seed: int, position: int) -> Generator:
    """Return the source of randomness of one pair in an endless sequence."""
    # Not the seed in the upper half: torch's generator takes 32 bits.
    return Generator().manual_seed((position + 1_000_003 * seed) % 2**32)


def random_pairs(
    count: int, textures: Sequence[Tensor], generator: Generator, settings: PairSettings
) -> Pairs:
    """Draw a batch of pairs.

    Parameters
    ----------
    count : int
        B.
    textures : sequence of Tensor
        uint8 (3, h, w) pictures; procedural textures are mixed in, and are all there is
        when the sequence is empty.
    generator : torch.Generator
        The only source of randomness: the same state gives the same pairs.
    settings : PairSettings
        What to draw.
    """
    size, rng = settings.size, Random(generator)
    grid = identity_grid(size, size, torch.zeros(())).expand(count, -1, -1, -1)
    scale = rng.log_uniform((count,), *settings.motion)
    still = rng.uniform((count, LAYERS)) < settings.still
    present = torch.ones(count, LAYERS, dtype=torch.bool)
    present[:, 1:] = rng.uniform((count, LAYERS - 1)) < 0.6
    still[:, 1:] &= ~still[:, :1]  # with a still background every object moves

    first = second = torch.zeros(count, 3, size, size)
    flow, hidden = torch.zeros(count, 2, size, size), torch.zeros(count, 1, size, size)
    shapes: list[Shape] = []
    flows: list[Tensor] = []
    tops: list[Tensor] = []
    for layer in range(LAYERS):
        motion = _random_motion(count, size, rng, scale * rng.uniform((count,), 0.3, 1.0))
        motion = motion * (~still[:, layer]).view(-1, 1, 1, 1)
        moved = grid + motion
        picture = RandomPicture(count, size, textures, rng)
        shape = (
            Shape.random(count, size, rng, present[:, layer]) if layer else Shape.everywhere(count)
        )
        in_first, in_second = shape.cover(moved), shape.cover(grid)
        first = in_first * picture.read(moved) + (1 - in_first) * first
        second = in_second * picture.read(grid) + (1 - in_second) * second
        flow = torch.where(in_first > 0.5, motion, flow)
        shapes.append(shape)
        flows.append(motion)
        tops.append(in_first > 0.5)
    target = grid + flow
    for layer, shape in enumerate(shapes[1:], start=1):
        # hidden behind a layer in front of the one that is seen in the first frame
        below = torch.stack(tops[layer:]).any(0).logical_not()
        hidden = torch.maximum(hidden, shape.cover(target) * below)
    outside = ((target < 0) | (target > size - 1)).any(1, keepdim=True)
    first, second = _sensor(first, second, rng, settings)
    return Pairs(first, second, flow, (hidden > 0.5) | outside)


def _random_motion(count: int, size: int, rng: Random, scale: Tensor) -> Tensor:
    """Draw translation + affine + smooth field, their root mean square equal to `scale` px."""
    centred = identity_grid(size, size, torch.zeros(())) - (size - 1) / 2
    translation = rng.normal((count, 2, 1, 1))
    matrix = rng.normal((count, 2, 2)) * rng.uniform((count, 1, 1)) ** 2 * 2 / size
    affine = torch.einsum("bij,jhw->bihw", matrix, centred[0])
    cells = 3 + rng.integer(4)
    smooth = rng.normal((count, 2, cells, cells)) * rng.uniform((count, 1, 1, 1)) ** 2
    smooth = F.interpolate(smooth, (size, size), mode="bicubic", align_corners=True)
    deform = affine + smooth
    total = translation + deform
    rms = total.square().mean((1, 2, 3), keepdim=True).mul(2).sqrt().clamp_min(1e-6)
    gain = scale.view(-1, 1, 1, 1) / rms
    # Bends of more than 0.25 px a px would fold the layer over itself.
    steepest = torch.maximum(
        deform.diff(dim=-1).abs().amax((1, 2, 3)), deform.diff(dim=-2).abs().amax((1, 2, 3))
    ).view(-1, 1, 1, 1)
    bend = torch.minimum(torch.ones(()), 0.25 / (gain * steepest).clamp_min(1e-6))
    return gain * (translation + bend * deform)


def _sensor(
    first: Tensor, second: Tensor, rng: Random, settings: PairSettings
) -> tuple[Tensor, Tensor]:
    """Blur, gain, noise and rounding, as a camera adds them."""
    count = first.shape[0]
    frames = torch.stack([first, second], 1)
    blur = rng.uniform((count, 1, 1, 1, 1)) ** 2 * 0.5
    near = F.avg_pool2d(F.pad(frames.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, 1).reshape(
        frames.shape
    )
    frames = (1 - blur) * frames + blur * near
    # Low contrast, as in 16-bit stacks that use a part of their range, and small flicker.
    gain, offset = rng.uniform((count, 1, 1, 1, 1), 0.3, 1.0), rng.uniform((count, 1, 1, 1, 1))
    frames = gain * frames + (1 - gain) * offset
    flicker = (rng.uniform((count, 1, 1, 1, 1)) < 0.3) * 0.02 * rng.normal((count, 2, 1, 1, 1))
    frames = frames * (1 + flicker)
    contrast = frames.std((1, 2, 3, 4), keepdim=True)
    amount = rng.log_uniform((count, 1, 1, 1, 1), *settings.noise) * (
        rng.uniform((count, 1, 1, 1, 1)) < 0.75
    )
    photon = rng.uniform((count, 1, 1, 1, 1)) < 0.5
    sigma = torch.where(
        photon,
        (frames.clamp_min(0) / frames.mean((1, 2, 3, 4), keepdim=True).clamp_min(1e-3)).sqrt(),
        1.0,
    )
    noise = rng.normal(frames.shape)
    grey = rng.uniform((count, 1, 1, 1, 1)) < 0.3
    noise = torch.where(grey, noise[:, :, :1].expand_as(noise), noise)
    frames = frames + amount * contrast * sigma * noise
    frames = torch.where(grey, frames.mean(2, keepdim=True).expand_as(frames), frames)
    rounded = rng.uniform((count, 1, 1, 1, 1)) < 0.5
    frames = torch.where(rounded, (frames * 255).round() / 255, frames).clamp(0, 1)
    return frames[:, 0].contiguous(), frames[:, 1].contiguous()
