"""Random frame pairs whose optical flow is known exactly.

A scene is a stack of layers: a textured background and up to two objects (a blob, or some thin
rods) in front of it. Each layer is a continuous function of position. The second frame
reads it on the pixel grid, the first frame at ``x + F(x)``; so F is by construction the
flow from the first frame to the second, at any sub-pixel size and without resampling
error that the two frames would not share. Shapes are signed distances, evaluated where
they are needed, so their edges are anti-aliased and move exactly, too.

Sensor effects (blur, photon and read noise, gain, rounding to grey levels) come last.

Where magnifiers are to learn from the answer itself, a third frame shows the same layers moved
by α F.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from napari_flowmag.errors import FlowmagError
from napari_flowmag.synthetic.layers import Random, RandomPicture, Shape
from napari_flowmag.warp import identity_grid, sample

LAYERS = 3

PLAIN_RODS, PLAIN_BLOBS = 0.6, 0.15
"""Share of objects of one colour: nothing but their outline shows how they move."""

UNEVEN = (0.02, 0.2)
"""Smallest and largest change of light across a frame, as a share of its brightness."""

_ROUNDS = 24
"""Fixed-point rounds that find where a point of the magnified frame was in the first one."""


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
    light : float
        Share of pairs in which light changes more at one side of the frame than at the other, as
        with a passing cloud.
    still : float
        Share of layers (at most all but one in a scene) that do not move at all.
    alpha : (float, float), optional
        Smallest and largest magnification of a pair; drawn log-uniformly. None: there is no
        magnified frame.
    reach : float
        Largest magnified motion scale in px: where it would be passed the motion is smaller.
    """

    size: int = 128
    motion: tuple[float, float] = (0.01, 20.0)
    noise: tuple[float, float] = (0.003, 0.3)
    light: float = 0.0
    still: float = 0.35
    alpha: tuple[float, float] | None = None
    reach: float = 10.0


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
    noise : Tensor
        (B,): standard deviation of the noise as a share of the pair's contrast; 0 without any.
    alpha : Tensor, optional
        (B,) magnification of `magnified`.
    magnified : Tensor, optional
        (B, 3, H, W): the layers moved by α times the flow from where the first frame shows
        them, in the second frame's light, without noise.
    """

    first: Tensor
    second: Tensor
    flow: Tensor
    occluded: Tensor
    noise: Tensor
    alpha: Tensor | None = None
    magnified: Tensor | None = None


def load_textures(folder: str | Path) -> list[Tensor]:
    """All PNG and JPEG pictures of a folder, as uint8 (3, H, W), in the order of their names.

    Raises
    ------
    FlowmagError
        When there is none, or one of them cannot be read.
    """
    from napari_flowmag.io.images import decode

    paths = sorted(
        p for p in Path(folder).glob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg"}
    )
    if not paths:
        raise FlowmagError(f"{folder}: no PNG or JPEG pictures to use as textures in this folder")
    textures = []
    for path in paths:
        try:
            picture = decode(path)
        except Exception as error:  # decoders raise whatever they like
            raise FlowmagError(f"{path}: damaged, or no PNG or JPEG picture") from error
        if picture.dtype == np.uint16:
            picture = (picture >> 8).astype(np.uint8)
        colours = np.atleast_3d(picture)[..., :3]  # without opacity
        textures.append(torch.from_numpy(colours.copy()).movedim(-1, 0).expand(3, -1, -1))
    return textures


def generator_of(seed: int, position: int, device: str | torch.device = "cpu") -> Generator:
    """Return the source of randomness of one pair, or of those from it on, in a sequence."""
    # Not the seed in the upper half: torch's generator takes 32 bits.
    return Generator(device).manual_seed((position + 1_000_003 * seed) % 2**32)


def random_pairs(
    count: int, textures: Sequence[Tensor], generator: Generator, settings: PairSettings
) -> Pairs:
    """Draw a batch of pairs.

    Parameters
    ----------
    count : int
        B.
    textures : sequence of Tensor
        uint8 (3, h, w) pictures on the generator's device; procedural textures are mixed in, and
        are all there is when the sequence is empty.
    generator : torch.Generator
        The only source of randomness: the same state gives the same pairs. They are drawn on
        its device.
    settings : PairSettings
        What to draw.
    """
    size, rng = settings.size, Random(generator)
    zero = torch.zeros((), device=rng.device)
    grid = identity_grid(size, size, zero).expand(count, -1, -1, -1)
    scale = rng.log_uniform((count,), *settings.motion)
    alpha = zero.new_ones(count)
    if settings.alpha is not None:
        alpha = rng.log_uniform((count,), *settings.alpha)
        scale = torch.minimum(scale, settings.reach / alpha)
    still = rng.uniform((count, LAYERS)) < settings.still
    present = torch.ones(count, LAYERS, dtype=torch.bool, device=rng.device)
    present[:, 1:] = rng.uniform((count, LAYERS - 1)) < 0.6
    still[:, 1:] &= ~still[:, :1]  # with a still background every object moves

    first = second = magnified = zero.new_zeros(count, 3, size, size)
    flow, hidden = zero.new_zeros(count, 2, size, size), zero.new_zeros(count, 1, size, size)
    shapes: list[Shape] = []
    flows: list[Tensor] = []
    tops: list[Tensor] = []
    for layer in range(LAYERS):
        motion = _random_motion(count, size, rng, scale * rng.uniform((count,), 0.3, 1.0), alpha)
        motion = motion * (~still[:, layer]).view(-1, 1, 1, 1)
        moved = grid + motion
        shape = (
            Shape.random(count, size, rng, present[:, layer])
            if layer
            else Shape.everywhere(count, rng.device)
        )
        plain = torch.where(shape.is_rods, PLAIN_RODS, PLAIN_BLOBS) * (layer > 0)
        picture = RandomPicture(count, size, textures, rng, plain)
        in_first, in_second = shape.cover(moved), shape.cover(grid)
        first = in_first * picture.read(moved) + (1 - in_first) * first
        second = in_second * picture.read(grid) + (1 - in_second) * second
        if settings.alpha is not None:
            origin = grid + _origin(motion, alpha)
            covered = shape.cover(origin)
            magnified = covered * picture.read(origin) + (1 - covered) * magnified
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
    frames = [first, second] if settings.alpha is None else [first, second, magnified]
    seen, noise = _sensor(torch.stack(frames, 1), rng, settings)
    hidden = (hidden > 0.5) | outside
    if settings.alpha is None:
        return Pairs(seen[0], seen[1], flow, hidden, noise)
    return Pairs(seen[0], seen[1], flow, hidden, noise, alpha, seen[2])


def _origin(motion: Tensor, alpha: Tensor) -> Tensor:
    """Where in the second frame lies what the magnified frame shows: displacement (B, 2, H, W).

    A point x of the first frame is at x + F(x) in the second and at y = x + α F(x) in the
    magnified one. With v = x - y that is v = -α F(y + v), solved by fixed-point rounds, which
    the limit on bends of α F has converge; the place in the second frame is y + v + F(y + v).
    """
    factor = alpha.view(-1, 1, 1, 1)
    back = -factor * motion
    for _ in range(_ROUNDS):
        back = -factor * sample(motion, back)
    return back + sample(motion, back)


def _random_motion(count: int, size: int, rng: Random, scale: Tensor, alpha: Tensor) -> Tensor:
    """Draw translation + affine + smooth field, their root mean square equal to `scale` px."""
    centred = identity_grid(size, size, scale) - (size - 1) / 2
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
    # Bends of more than 0.25 px a px would fold the layer over itself, when magnified, too.
    steepest = torch.maximum(
        deform.diff(dim=-1).abs().amax((1, 2, 3)), deform.diff(dim=-2).abs().amax((1, 2, 3))
    ).view(-1, 1, 1, 1)
    bend = torch.minimum(
        scale.new_ones(()), 0.25 / (alpha.view(-1, 1, 1, 1) * gain * steepest).clamp_min(1e-6)
    )
    return gain * (translation + bend * deform)


def _uneven(count: int, settings: PairSettings, rng: Random) -> Tensor:
    """Return how light changes, (B, 1, 1, H, W): a slope across the frame, or 0."""
    place = torch.linspace(-0.5, 0.5, settings.size, device=rng.device)
    angle = rng.uniform((count, 1, 1, 1, 1), 0.0, 2 * math.pi)
    slope = rng.log_uniform((count, 1, 1, 1, 1), *UNEVEN)
    slope = slope * (rng.uniform((count, 1, 1, 1, 1)) < settings.light)
    return slope * (angle.cos() * place + angle.sin() * place[:, None])


def _sensor(frames: Tensor, rng: Random, settings: PairSettings) -> tuple[list[Tensor], Tensor]:
    """Blur, gain, noise and rounding, as a camera adds them.

    Parameters
    ----------
    frames : Tensor
        (B, 2, 3, H, W), or (B, 3, 3, H, W) with a magnified frame, which gets no noise and is
        not rounded.

    Returns
    -------
    frames : list of Tensor
        (B, 3, H, W) each.
    noise : Tensor
        (B,): that of :class:`Pairs`.
    """
    count, extra = frames.shape[0], frames.shape[1] - 2
    blur = rng.uniform((count, 1, 1, 1, 1)) ** 2 * 0.5
    near = F.avg_pool2d(F.pad(frames.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, 1).reshape(
        frames.shape
    )
    frames = (1 - blur) * frames + blur * near
    # Low contrast, as in 16-bit stacks that use a part of their range, and small flicker.
    gain, offset = rng.uniform((count, 1, 1, 1, 1), 0.3, 1.0), rng.uniform((count, 1, 1, 1, 1))
    frames = gain * frames + (1 - gain) * offset
    flicker = (rng.uniform((count, 1, 1, 1, 1)) < 0.3) * 0.02 * rng.normal((count, 2, 1, 1, 1))
    frames = frames * (1 + torch.cat([flicker] + extra * [flicker[:, 1:]], 1))
    if settings.light:
        uneven = 1 + _uneven(count, settings, rng)
        frames = torch.cat([frames[:, :1], uneven * frames[:, 1:]], 1)
    clean = frames[:, 2:]
    frames = frames[:, :2]
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
    rounded = rng.uniform((count, 1, 1, 1, 1)) < 0.5
    # Grey before rounding: the mean of rounded values is not a grey level.
    frames, clean = (
        torch.where(grey, f.mean(2, keepdim=True).expand_as(f), f) for f in (frames, clean)
    )
    frames = torch.where(rounded, (frames * 255).round() / 255, frames)
    seen = [f.clamp(0, 1).contiguous() for f in torch.cat([frames, clean], 1).unbind(1)]
    return seen, amount.flatten()
