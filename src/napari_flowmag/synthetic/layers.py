"""What the layers of a random scene are made of: pictures and outlines, continuous in position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


class Random:
    """Draw from one generator, on its device."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.device = generator, generator.device

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Evenly between two numbers."""
        drawn = torch.rand(tuple(shape), generator=self.generator, device=self.device)
        return low + (high - low) * drawn

    def log_uniform(self, shape: Sequence[int], low: float, high: float) -> Tensor:
        """Between two numbers, evenly in the logarithm."""
        return torch.exp(self.uniform(shape, math.log(low), math.log(high)))

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Gaussian with mean 0 and standard deviation 1."""
        return torch.randn(tuple(shape), generator=self.generator, device=self.device)

    def integer(self, high: int) -> int:
        """One of 0 … high − 1."""
        return int(torch.randint(high, (1,), generator=self.generator, device=self.device))


class RandomPicture:
    """A continuous picture per sample: photographs, procedural noise or bright spots.

    Parameters
    ----------
    count, size
        Samples, and height and width in px of the frames.
    textures
        uint8 (3, h, w) photographs on the device of `rng`, which may be none.
    rng
        What draws.
    plain
        (B,) probability that a sample is of one colour.
    """

    def __init__(
        self, count: int, size: int, textures: Sequence[Tensor], rng: Random, plain: Tensor
    ) -> None:
        side = 2 * size
        pictures = _pictures(count, side, textures, rng)
        tone = rng.uniform((count, 1, 1, 1)) + 0.15 * rng.normal((count, 3, 1, 1))
        one_colour = (rng.uniform((count,)) < plain).view(-1, 1, 1, 1)
        self.pictures = torch.where(one_colour, tone.clamp(0, 1), pictures)
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

    def read(self, position: Tensor) -> Tensor:
        """Give values at image positions (B, 2, H, W) px; reflected outside."""
        centred = position - (self.size - 1) / 2
        texture = torch.einsum("bij,bjhw->bhwi", self.matrix, centred)
        grid = texture / ((self.side - 1) / 2)
        return F.grid_sample(
            self.pictures, grid, mode="bicubic", padding_mode="reflection", align_corners=True
        ).clamp(0, 1)


def _pictures(count: int, side: int, textures: Sequence[Tensor], rng: Random) -> Tensor:
    """Draw square pictures (B, 3, side, side) in [0, 1], those of one kind together."""
    # As numbers, all at once: a graphics card would be waited for at every single one.
    draws = rng.uniform((count, 4)).tolist()
    pictures = torch.empty(count, 3, side, side, device=rng.device)
    noise: list[int] = []
    spots: list[int] = []
    for row, (kind, *place) in enumerate(draws):
        if textures and kind < 0.75:
            pictures[row] = _photograph(side, textures, place)
        else:
            (noise if kind < 0.9 else spots).append(row)
    for rows, make in ((noise, _noise_textures), (spots, _spots)):
        if rows:
            pictures[rows] = make(len(rows), side, rng)
    return pictures


def _photograph(side: int, textures: Sequence[Tensor], place: Sequence[float]) -> Tensor:
    """Cut a square out of one of the photographs: which, where from above, where from the left."""
    picture = textures[int(place[0] * len(textures))].float() / 255
    h, w = picture.shape[-2:]
    pad = max(side - h, 0), max(side - w, 0)
    if any(pad):
        picture = F.pad(
            picture[None], (0, min(pad[1], w - 1), 0, min(pad[0], h - 1)), mode="reflect"
        )[0]
        picture = F.interpolate(picture[None], (max(side, h), max(side, w)), mode="bilinear")[0]
        h, w = picture.shape[-2:]
    top, left = int(place[1] * (h - side + 1)), int(place[2] * (w - side + 1))
    return picture[:, top : top + side, left : left + side]


def _noise_textures(count: int, side: int, rng: Random) -> Tensor:
    """Noise of several octaves with a random spectral slope, band-limited."""
    slope, colour = rng.uniform((count, 1, 1, 1), 0.2, 1.2), rng.uniform((count, 3, 3), 0.2, 1.0)
    out = torch.zeros(count, 3, side, side, device=rng.device)
    cells = side // 2
    while cells >= 4:
        octave = rng.normal((count, 3, cells, cells))
        octave = F.interpolate(octave, (side, side), mode="bicubic", align_corners=True)
        out = out + octave * (side / cells) ** slope
        cells //= 2
    out = torch.einsum("bij,bjhw->bihw", colour, out)
    each = (1, 2, 3)
    out = (out - out.mean(each, keepdim=True)) / out.std(each, keepdim=True).clamp_min(1e-6)
    return (0.5 + rng.uniform((count, 1, 1, 1), 0.05, 0.2) * out).clamp(0, 1)


_WIDEST = 4.0
"""Largest σ of spots in px."""


def _spots(count: int, side: int, rng: Random) -> Tensor:
    """Bright round spots on a dark ground, as fluorescence shows them."""
    density = rng.log_uniform((count, 1, 1), 0.002, 0.02)
    shape = (count, side, side)
    points = (rng.uniform(shape) < density) * rng.uniform(shape, 0.2, 1.0)
    width = rng.uniform((count, 1), 1.5, _WIDEST)
    reach = math.ceil(3 * _WIDEST)
    away = torch.arange(-reach, reach + 1, device=rng.device)
    line = torch.exp(-away.square() / (2 * width.square()))
    # Each by its own kernel: as many groups as pictures.
    for kernel in (line[:, None, None, :], line[:, None, :, None]):
        padding = (kernel.shape[-2] // 2, kernel.shape[-1] // 2)
        points = F.conv2d(points, kernel, padding=padding, groups=count)
    tint = rng.uniform((count, 3, 1, 1), 0.3, 1.0)
    dark = rng.uniform((count, 1, 1, 1), 0.02, 0.2)
    return (points[:, None] * tint * 0.8 + dark).clamp(0, 1)


RODS = 5
"""Most rods of a layer."""


@dataclass(frozen=True)
class Shape:
    """Where a layer is, one per sample: a blob with a wavy outline, or some thin rods.

    Wires, cables and filaments come in numbers, and networks that rarely see them take them for
    still.
    """

    centre: Tensor  # (B, RODS, 2) px; a blob's is the first
    radius: Tensor  # (B, RODS) px; half the length of a rod
    waves: Tensor  # (B, 4, 2) cosine and sine amplitudes of a blob's outline, relative
    rod: Tensor  # (B, RODS) half width of a rod in px; 0 where there is none
    direction: Tensor  # (B, RODS, 2) unit vectors of rods
    softness: Tensor  # (B,) px from all to nothing at an outline
    present: Tensor  # (B,) bool

    @property
    def is_rods(self) -> Tensor:
        """Whether a sample's layer is of rods, (B,)."""
        return self.rod[:, 0] > 0

    @classmethod
    def everywhere(cls, count: int, device: torch.device) -> Shape:
        """Outlines that no picture reaches: the background's."""
        zero = torch.zeros(count, RODS, device=device)
        return cls(
            zero.new_zeros(count, RODS, 2),
            zero + 1e6,
            zero.new_zeros(count, 4, 2),
            zero,
            zero.new_zeros(count, RODS, 2),
            zero.new_ones(count),
            zero.new_ones(count, dtype=torch.bool),
        )

    @classmethod
    def random(cls, count: int, size: int, rng: Random, present: Tensor) -> Shape:
        """Blobs and rods; nothing where not `present`."""
        is_rods = rng.uniform((count, 1)) < 0.45
        number = 1 + (RODS * rng.uniform((count, 1))).long()
        angle = rng.uniform((count, RODS), 0, 2 * math.pi)
        decay = torch.tensor([0.15, 0.1, 0.07, 0.05], device=rng.device).view(1, 4, 1)
        radius = torch.where(
            is_rods, rng.uniform((count, RODS), 0.2, 0.8), rng.uniform((count, RODS), 0.08, 0.4)
        )
        there = is_rods & (torch.arange(RODS, device=rng.device) < number)
        return cls(
            centre=rng.uniform((count, RODS, 2), 0.1, 0.9) * size,
            radius=radius * size,
            waves=rng.normal((count, 4, 2)) * decay,
            rod=there * rng.log_uniform((count, RODS), 0.4, 5.0),
            direction=torch.stack([angle.cos(), angle.sin()], -1),
            softness=rng.log_uniform((count,), 1.0, 3.0),
            present=present,
        )

    def cover(self, position: Tensor) -> Tensor:
        """Give the share of each pixel that is covered, (B, 1, H, W), at (B, 2, H, W) px."""
        is_rods = self.is_rods
        distance = self._from_blob(position) if not is_rods.all() else None
        if is_rods.any():
            rods = self._from_rods(position)
            distance = rods if distance is None else torch.where(_maps(is_rods), rods, distance)
        assert distance is not None
        covered = (0.5 - distance / _maps(self.softness)).clamp(0, 1)
        return (covered * _maps(self.present))[:, None]

    def _from_blob(self, position: Tensor) -> Tensor:
        """Distance from the outline, (B, H, W) px, negative inside."""
        offset = position - self.centre[:, 0, :, None, None]
        angle = torch.atan2(offset[:, 1], offset[:, 0])
        outline = torch.ones_like(angle)
        for k in range(4):
            cos, sin = _maps(self.waves[:, k, 0]), _maps(self.waves[:, k, 1])
            outline = outline + cos * ((k + 1) * angle).cos() + sin * ((k + 1) * angle).sin()
        radius = _maps(self.radius[:, 0]) * outline.clamp_min(0.2)
        return torch.hypot(offset[:, 0], offset[:, 1]) - radius

    def _from_rods(self, position: Tensor) -> Tensor:
        """Distance from the nearest rod's outline, (B, H, W) px, negative inside."""
        nearest = position.new_full(position[:, 0].shape, math.inf)
        for k in range(RODS):
            offset = position - self.centre[:, k, :, None, None]
            along = (offset * self.direction[:, k, :, None, None]).sum(1)
            half = _maps(self.radius[:, k])
            along = torch.maximum(torch.minimum(along, half), -half)
            away = offset - along[:, None] * self.direction[:, k, :, None, None]
            distance = torch.hypot(away[:, 0], away[:, 1]) - _maps(self.rod[:, k])
            there = _maps(self.rod[:, k] > 0)
            nearest = torch.where(there, torch.minimum(nearest, distance), nearest)
        return nearest


def _maps(values: Tensor) -> Tensor:
    """(B,) → (B, 1, 1)."""
    return values[:, None, None]
