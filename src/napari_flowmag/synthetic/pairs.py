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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from napari_flowmag.errors import FlowmagError
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
    """All PNG and JPEG pictures of a folder, as uint8 (3, H, W), in the order of their names."""
    from torchvision.io import ImageReadMode, decode_image

    paths = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg"})
    if not paths:
        raise FlowmagError(f"{folder}: no PNG or JPEG pictures to use as textures in this folder")
    return [decode_image(str(p), mode=ImageReadMode.RGB) for p in paths]


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
    size, rng = settings.size, _Random(generator)
    grid = identity_grid(size, size, torch.zeros(())).expand(count, -1, -1, -1)
    scale = rng.log_uniform((count,), *settings.motion)
    still = rng.uniform((count, LAYERS)) < settings.still
    present = torch.ones(count, LAYERS, dtype=torch.bool)
    present[:, 1:] = rng.uniform((count, LAYERS - 1)) < 0.6
    still[:, 1:] &= ~still[:, :1]  # with a still background every object moves

    first = second = torch.zeros(count, 3, size, size)
    flow, hidden = torch.zeros(count, 2, size, size), torch.zeros(count, 1, size, size)
    shapes: list[_Shape] = []
    flows: list[Tensor] = []
    tops: list[Tensor] = []
    for layer in range(LAYERS):
        motion = _random_motion(count, size, rng, scale * rng.uniform((count,), 0.3, 1.0))
        motion = motion * (~still[:, layer]).view(-1, 1, 1, 1)
        moved = grid + motion
        picture = _RandomPicture(count, size, textures, rng)
        shape = _Shape.random(count, size, rng, present[:, layer]) if layer else _Shape.everywhere(count)
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


class _Random:
    """Draws from one generator."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(tuple(shape), generator=self.generator)

    def log_uniform(self, shape: Sequence[int], low: float, high: float) -> Tensor:
        return torch.exp(self.uniform(shape, math.log(low), math.log(high)))

    def normal(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator)

    def integer(self, high: int) -> int:
        return int(torch.randint(high, (1,), generator=self.generator))


def _random_motion(count: int, size: int, rng: _Random, scale: Tensor) -> Tensor:
    """Translation + affine + smooth field, its root mean square equal to `scale` px."""
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


class _RandomPicture:
    """A continuous picture per sample: photographs, procedural noise or bright spots."""

    def __init__(self, count: int, size: int, textures: Sequence[Tensor], rng: _Random) -> None:
        side = 2 * size
        pictures = [self._one(side, textures, rng) for _ in range(count)]
        self.pictures = torch.stack(pictures)
        # Texture px per image px: below 1 so that neither frame aliases.
        zoom = rng.uniform((count, 1, 1), 0.45, 1.0)
        angle = rng.uniform((count,), 0, 2 * math.pi)
        self.matrix = zoom * torch.stack(
            [torch.stack([angle.cos(), -angle.sin()], -1), torch.stack([angle.sin(), angle.cos()], -1)], 1
        )
        self.size, self.side = size, side

    @staticmethod
    def _one(side: int, textures: Sequence[Tensor], rng: _Random) -> Tensor:
        kind = float(rng.uniform((1,)))
        if textures and kind < 0.75:
            picture = textures[rng.integer(len(textures))].float() / 255
            h, w = picture.shape[-2:]
            pad = max(side - h, 0), max(side - w, 0)
            if any(pad):
                picture = F.pad(picture[None], (0, min(pad[1], w - 1), 0, min(pad[0], h - 1)), mode="reflect")[0]
                picture = F.interpolate(picture[None], (max(side, h), max(side, w)), mode="bilinear")[0]
                h, w = picture.shape[-2:]
            top, left = rng.integer(h - side + 1), rng.integer(w - side + 1)
            return picture[:, top : top + side, left : left + side]
        if kind < 0.9:
            return _noise_texture(side, rng)
        return _spots(side, rng)

    def read(self, position: Tensor) -> Tensor:
        """Values at image positions (B, 2, H, W) px; reflected outside."""
        centred = position - (self.size - 1) / 2
        texture = torch.einsum("bij,bjhw->bhwi", self.matrix, centred)
        grid = texture / ((self.side - 1) / 2)
        return F.grid_sample(
            self.pictures, grid, mode="bicubic", padding_mode="reflection", align_corners=True
        ).clamp(0, 1)


def _noise_texture(side: int, rng: _Random) -> Tensor:
    """Noise of several octaves with a random spectral slope, band-limited."""
    slope, colour = float(rng.uniform((1,), 0.2, 1.2)), rng.uniform((3, 3), 0.2, 1.0)
    out = torch.zeros(3, side, side)
    cells = side // 2
    while cells >= 4:
        octave = rng.normal((1, 3, cells, cells))
        octave = F.interpolate(octave, (side, side), mode="bicubic", align_corners=True)[0]
        out = out + octave * (side / cells) ** slope
        cells //= 2
    out = torch.einsum("ij,jhw->ihw", colour, out)
    out = (out - out.mean()) / out.std().clamp_min(1e-6)
    return (0.5 + float(rng.uniform((1,), 0.05, 0.2)) * out).clamp(0, 1)


def _spots(side: int, rng: _Random) -> Tensor:
    """Bright round spots on a dark ground, as fluorescence shows them."""
    density = float(rng.log_uniform((1,), 0.002, 0.02))
    points = (rng.uniform((1, 1, side, side)) < density) * rng.uniform((1, 1, side, side), 0.2, 1.0)
    width = float(rng.uniform((1,), 1.5, 4.0))
    reach = math.ceil(3 * width)
    line = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * width**2))
    for kernel in (line.view(1, 1, 1, -1), line.view(1, 1, -1, 1)):
        points = F.conv2d(points, kernel, padding=(kernel.shape[-2] // 2, kernel.shape[-1] // 2))
    tint = rng.uniform((3, 1, 1), 0.3, 1.0)
    return (points[0] * tint * 0.8 + float(rng.uniform((1,), 0.02, 0.2))).clamp(0, 1)


@dataclass(frozen=True)
class _Shape:
    """Where a layer is: blobs with a wavy outline, or thin rods, one per sample."""

    centre: Tensor  # (B, 2) px
    radius: Tensor  # (B,) px; half the length of a rod
    waves: Tensor  # (B, 4, 2) cosine and sine amplitudes of the outline, relative
    rod: Tensor  # (B,) half width of a rod in px; 0 for blobs
    direction: Tensor  # (B, 2) unit vector of a rod
    present: Tensor  # (B,) bool

    @classmethod
    def everywhere(cls, count: int) -> _Shape:
        zero = torch.zeros(count)
        return cls(
            torch.zeros(count, 2), zero + 1e6, torch.zeros(count, 4, 2), zero, torch.zeros(count, 2), zero == 0
        )

    @classmethod
    def random(cls, count: int, size: int, rng: _Random, present: Tensor) -> _Shape:
        is_rod = rng.uniform((count,)) < 0.3
        angle = rng.uniform((count,), 0, 2 * math.pi)
        decay = torch.tensor([0.15, 0.1, 0.07, 0.05]).view(1, 4, 1)
        radius = torch.where(
            is_rod, rng.uniform((count,), 0.2, 0.8), rng.uniform((count,), 0.08, 0.4)
        )
        return cls(
            centre=rng.uniform((count, 2), 0.15, 0.85) * size,
            radius=radius * size,
            waves=rng.normal((count, 4, 2)) * decay,
            rod=is_rod * rng.log_uniform((count,), 0.5, 6.0),
            direction=torch.stack([angle.cos(), angle.sin()], -1),
            present=present,
        )

    def cover(self, position: Tensor) -> Tensor:
        """Share of each pixel that the layer covers: (B, 2, H, W) px → (B, 1, H, W) in [0, 1]."""
        offset = position - self.centre[:, :, None, None]
        angle = torch.atan2(offset[:, 1], offset[:, 0])
        outline = torch.ones_like(angle)
        for k in range(4):
            cos, sin = self.waves[:, k, 0, None, None], self.waves[:, k, 1, None, None]
            outline = outline + cos * ((k + 1) * angle).cos() + sin * ((k + 1) * angle).sin()
        blob = torch.hypot(offset[:, 0], offset[:, 1]) - self.radius[:, None, None] * outline.clamp_min(0.2)
        along = (offset * self.direction[:, :, None, None]).sum(1)
        along = torch.maximum(torch.minimum(along, self.radius[:, None, None]), -self.radius[:, None, None])
        nearest = along[:, None] * self.direction[:, :, None, None]
        away = offset - nearest
        rod = torch.hypot(away[:, 0], away[:, 1]) - self.rod[:, None, None]
        distance = torch.where(self.rod[:, None, None] > 0, rod, blob)
        return ((0.5 - distance).clamp(0, 1) * self.present[:, None, None])[:, None]


def _sensor(first: Tensor, second: Tensor, rng: _Random, settings: PairSettings) -> tuple[Tensor, Tensor]:
    """Blur, gain, noise and rounding, as a camera adds them."""
    count = first.shape[0]
    frames = torch.stack([first, second], 1)
    blur = rng.uniform((count, 1, 1, 1, 1)) ** 2 * 0.5
    near = F.avg_pool2d(F.pad(frames.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, 1).unflatten(0, (count, 2))
    frames = (1 - blur) * frames + blur * near
    # Low contrast, as in 16-bit stacks that use a part of their range, and small flicker.
    gain, offset = rng.uniform((count, 1, 1, 1, 1), 0.3, 1.0), rng.uniform((count, 1, 1, 1, 1))
    frames = gain * frames + (1 - gain) * offset
    flicker = (rng.uniform((count, 1, 1, 1, 1)) < 0.3) * 0.02 * rng.normal((count, 2, 1, 1, 1))
    frames = frames * (1 + flicker)
    contrast = frames.std((1, 2, 3, 4), keepdim=True)
    amount = rng.log_uniform((count, 1, 1, 1, 1), *settings.noise) * (rng.uniform((count, 1, 1, 1, 1)) < 0.75)
    photon = rng.uniform((count, 1, 1, 1, 1)) < 0.5
    sigma = torch.where(photon, (frames.clamp_min(0) / frames.mean((1, 2, 3, 4), keepdim=True).clamp_min(1e-3)).sqrt(), 1.0)
    noise = rng.normal(frames.shape)
    grey = rng.uniform((count, 1, 1, 1, 1)) < 0.3
    noise = torch.where(grey, noise[:, :, :1].expand_as(noise), noise)
    frames = frames + amount * contrast * sigma * noise
    frames = torch.where(grey, frames.mean(2, keepdim=True).expand_as(frames), frames)
    rounded = rng.uniform((count, 1, 1, 1, 1)) < 0.5
    frames = torch.where(rounded, (frames * 255).round() / 255, frames).clamp(0, 1)
    return frames[:, 0].contiguous(), frames[:, 1].contiguous()
