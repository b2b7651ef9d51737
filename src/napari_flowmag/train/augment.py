"""Varying a frame pair: cut, flip, turn and colour both frames alike (Section 4 of the paper)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from napari_flowmag.train.config import AugmentConfig

ASPECT = (3 / 4, 4 / 3)
"""Smallest and largest width / height of a window that is scaled to the square crop."""


def augment(pair: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Vary a pair; noise comes later (:func:`add_noise`).

    Parameters
    ----------
    pair
        Both frames, (2, 3, H, W), uint8 or floats in [0, 1], sides of at least `config.crop`.
    config
        What may vary, and by how much.
    rng
        The only source of randomness.

    Returns
    -------
    Tensor
        (2, 3, crop, crop) in [0, 1].
    """
    pair = cut(pair, config, rng)
    if rng.random() < config.flip:
        pair = TF.horizontal_flip(pair)
    if rng.random() < config.flip:
        pair = TF.vertical_flip(pair)
    pair = colour(pair, config, rng)
    if rng.random() < config.swap:
        pair = pair.flip(0)
    if rng.random() < config.still:
        pair = pair[:1].expand_as(pair)
    return pair.contiguous()


def cut(pair: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Cut a turned window out of both frames and scale it to the crop.

    The window's surroundings fill its corners; past the picture's edge it is mirrored.
    """
    height, width = window_size((pair.shape[-2], pair.shape[-1]), config, rng)
    angle = rng.uniform(-config.rotation, config.rotation)
    sine, cosine = abs(math.sin(math.radians(angle))), math.cos(math.radians(angle))
    margin = 2 if angle else 0  # interpolation reads a neighbour
    # What a long window is turned in need not be as long as itself, but it is cut out of that.
    patch = _take(
        pair,
        max(height, math.ceil(height * cosine + width * sine) + margin),
        max(width, math.ceil(height * sine + width * cosine) + margin),
        rng,
    )
    if angle:
        patch = TF.rotate(patch, angle, InterpolationMode.BILINEAR)
        patch = TF.center_crop(patch, [height, width])
    if (height, width) != (config.crop, config.crop):
        patch = TF.resize(patch, [config.crop, config.crop], antialias=True)
    return patch


def window_size(
    size: tuple[int, int], config: AugmentConfig, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw height and width of a window that fits into a picture of this height and width."""
    height, width = size
    share = rng.uniform(*config.area)
    if config.window == "picture":
        area = share * height * width
    elif config.area == (1.0, 1.0):
        return config.crop, config.crop
    else:
        area = config.crop**2 / share
    # Aspects that fit; where none within ASPECT does, the nearest one.
    low, high = max(ASPECT[0], area / height**2), min(ASPECT[1], width**2 / area)
    aspect = math.exp(rng.uniform(math.log(low), math.log(high))) if low < high else high
    return (
        min(height, round(math.sqrt(area / aspect))),
        min(width, round(math.sqrt(area * aspect))),
    )


def _take(pair: Tensor, height: int, width: int, rng: np.random.Generator) -> Tensor:
    """Take a random box out of the pair as floats, mirrored where it reaches past the edge."""
    top, left = (
        int(rng.integers(min(0, size - box), max(0, size - box) + 1))
        for size, box in zip(pair.shape[-2:], (height, width), strict=True)
    )
    below, right = top + height - pair.shape[-2], left + width - pair.shape[-1]
    patch = pair[..., max(0, top) : top + height, max(0, left) : left + width]
    patch = patch.float() / 255 if patch.dtype == torch.uint8 else patch
    return _mirrored(patch, [max(0, side) for side in (-left, -top, right, below)])


def _mirrored(patch: Tensor, padding: list[int]) -> Tensor:
    """Mirror a picture at its edges by (left, top, right, below) px.

    A turned window may be taller than a wide picture several times over: its mirror image is then
    mirrored in turn.
    """
    while any(padding):
        height, width = patch.shape[-2:]
        most = (width - 1, height - 1, width - 1, height - 1)
        now = [min(side, reach) for side, reach in zip(padding, most, strict=True)]
        patch = TF.pad(patch, now, padding_mode="reflect")
        padding = [side - done for side, done in zip(padding, now, strict=True)]
    return patch


def colour(pair: Tensor, config: AugmentConfig, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue of both frames alike, in random order."""
    brightness, contrast, saturation, hue = config.jitter
    changes = [
        (TF.adjust_brightness, rng.uniform(1 - brightness, 1 + brightness), brightness),
        (TF.adjust_contrast, rng.uniform(1 - contrast, 1 + contrast), contrast),
        (TF.adjust_saturation, rng.uniform(1 - saturation, 1 + saturation), saturation),
        (TF.adjust_hue, rng.uniform(-hue, hue), hue),
    ]
    # One tall picture: contrast is relative to the mean, which both frames then share.
    tall = torch.cat([pair[0], pair[1]], 1)
    for index in rng.permutation(len(changes)):
        change, amount, largest = changes[index]
        if largest:
            tall = change(tall, amount)
    if rng.random() < config.grey:
        tall = TF.rgb_to_grayscale(tall, 3)
    return torch.stack(tall.chunk(2, 1))


def add_noise(pair: Tensor, largest: float, rng: np.random.Generator) -> Tensor:
    """Add Gaussian noise of one random strength, drawn for each frame by itself.

    Parameters
    ----------
    pair
        (2, 3, H, W) in [0, 1].
    largest
        Largest standard deviation.
    rng
        The only source of randomness.
    """
    strength = np.float32(rng.uniform(0, largest))
    noise = strength * rng.standard_normal(tuple(pair.shape), dtype=np.float32)
    return (pair + torch.from_numpy(noise)).clamp(0, 1)
