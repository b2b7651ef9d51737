"""What the layers of a random scene are made of: pictures and outlines, continuous in position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


class Random:
    """Draw from one generator."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Evenly between two numbers."""
        return low + (high - low) * torch.rand(tuple(shape), generator=self.generator)

    def log_uniform(self, shape: Sequence[int], low: float, high: float) -> Tensor:
        """Between two numbers, evenly in the logarithm."""
        return torch.exp(self.uniform(shape, math.log(low), math.log(high)))

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Gaussian with mean 0 and standard deviation 1."""
        return torch.randn(tuple(shape), generator=self.generator)

    def integer(self, high: int) -> int:
        """One of 0 … high − 1."""
        return int(torch.randint(high, (1,), generator=self.generator))


class RandomPicture:
    """A continuous picture per sample: photographs, procedural noise or bright spots."""

    def __init__(self, count: int, size: int, textures: Sequence[Tensor], rng: Random) -> None:
        side = 2 * size
        pictures = [self._one(side, textures, rng) for _ in range(count)]
        self.pictures = torch.stack(pictures)
        # Texture px per image px: below 1 so that neither frame aliases.
        zoom = rng.uniform((count, 1, 1), 0.45, 1.0)
        angle = rng.uniform((count,), 0, 2 * math.pi)
        self.matrix = zoom * torch.stack(
            [
                torch.stack([angle.cos(), -angle.sin()], -1),
                torch.stack([angle.sin(), angle.cos()], -1),
            ],
            1,
        )
        self.size, self.side = size, side

    @staticmethod
    def _one(side: int, textures: Sequence[Tensor], rng: Random) -> Tensor:
        kind = float(rng.uniform((1,)))
        if textures and kind < 0.75:
            picture = textures[rng.integer(len(textures))].float() / 255
            h, w = picture.shape[-2:]
            pad = max(side - h, 0), max(side - w, 0)
            if any(pad):
                picture = F.pad(
                    picture[None], (0, min(pad[1], w - 1), 0, min(pad[0], h - 1)), mode="reflect"
                )[0]
                picture = F.interpolate(
                    picture[None], (max(side, h), max(side, w)), mode="bilinear"
                )[0]
                h, w = picture.shape[-2:]
            top, left = rng.integer(h - side + 1), rng.integer(w - side + 1)
            return picture[:, top : top + side, left : left + side]
        if kind < 0.9:
            return _noise_texture(side, rng)
        return _spots(side, rng)

    def read(self, position: Tensor) -> Tensor:
        """Give values at image positions (B, 2, H, W) px; reflected outside."""
        centred = position - (self.size - 1) / 2
        texture = torch.einsum("bij,bjhw->bhwi", self.matrix, centred)
        grid = texture / ((self.side - 1) / 2)
        return F.grid_sample(
            self.pictures, grid, mode="bicubic", padding_mode="reflection", align_corners=True
        ).clamp(0, 1)


def _noise_texture(side: int, rng: Random) -> Tensor:
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


def _spots(side: int, rng: Random) -> Tensor:
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
class Shape:
    """Where a layer is: blobs with a wavy outline, or thin rods, one per sample."""

    centre: Tensor  # (B, 2) px
    radius: Tensor  # (B,) px; half the length of a rod
    waves: Tensor  # (B, 4, 2) cosine and sine amplitudes of the outline, relative
    rod: Tensor  # (B,) half width of a rod in px; 0 for blobs
    direction: Tensor  # (B, 2) unit vector of a rod
    present: Tensor  # (B,) bool

    @classmethod
    def everywhere(cls, count: int) -> Shape:
        """Outlines that no picture reaches: the background's."""
        zero = torch.zeros(count)
        return cls(
            torch.zeros(count, 2),
            zero + 1e6,
            torch.zeros(count, 4, 2),
            zero,
            torch.zeros(count, 2),
            zero == 0,
        )

    @classmethod
    def random(cls, count: int, size: int, rng: Random, present: Tensor) -> Shape:
        """Blobs and rods; nothing where not `present`."""
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
        """Give the share of each pixel that is covered, (B, 1, H, W), at (B, 2, H, W) px."""
        offset = position - self.centre[:, :, None, None]
        angle = torch.atan2(offset[:, 1], offset[:, 0])
        outline = torch.ones_like(angle)
        for k in range(4):
            cos, sin = self.waves[:, k, 0, None, None], self.waves[:, k, 1, None, None]
            outline = outline + cos * ((k + 1) * angle).cos() + sin * ((k + 1) * angle).sin()
        blob = torch.hypot(offset[:, 0], offset[:, 1]) - self.radius[
            :, None, None
        ] * outline.clamp_min(0.2)
        along = (offset * self.direction[:, :, None, None]).sum(1)
        along = torch.maximum(
            torch.minimum(along, self.radius[:, None, None]), -self.radius[:, None, None]
        )
        nearest = along[:, None] * self.direction[:, :, None, None]
        away = offset - nearest
        rod = torch.hypot(away[:, 0], away[:, 1]) - self.rod[:, None, None]
        distance = torch.where(self.rod[:, None, None] > 0, rod, blob)
        return ((0.5 - distance).clamp(0, 1) * self.present[:, None, None])[:, None]
