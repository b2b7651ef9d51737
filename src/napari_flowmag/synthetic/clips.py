"""Clips with exactly known sub-pixel motion, and their exactly magnified versions.

Nothing here interpolates between pixels. Textures are periodic and band-limited, so shifting them
by a phase ramp in Fourier space is exact for any displacement; outlines are evaluated
analytically. What a magnifier or a measurement gets wrong on these clips is its own error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.special import erf

from napari_flowmag.errors import FlowmagError

FloatArray = NDArray[np.float32]

FPS = 30.0
FREQUENCY = 1.875  # Hz: exactly four cycles in 64 frames at 30 frames a second
AMPLITUDE = 0.3  # px
DISK_RADIUS = 60.0  # px
NOISE = 4 / 255  # standard deviation, of a value range of 1
SCALES = (1.5, 4.0, 12.0)  # px: standard deviations of the three noise scales of a texture
_MARGIN = 32  # px of texture beyond each edge of the picture, so that nothing wraps into view


@dataclass(frozen=True)
class KnownClip:
    """A clip together with the motion in it.

    Attributes
    ----------
    frames
        (T, H, W) or (T, H, W, 3).
    displacement
        (T, 2, H, W) float32, px, (dx, dy): how far what lies at each pixel of frame 0 has moved
        by frame t. Zero where nothing moves.
    moving
        (H, W) bool: the pixels of frame 0 that belong to the moving object.
    fps
        Frames per second of the camera.
    pixel_size
        (height, width) of a pixel in `unit`.
    unit
        Unit of `pixel_size`: "px", "mm" or "µm".
    name
        What is shown.
    """

    frames: NDArray[Any]
    displacement: FloatArray
    moving: NDArray[np.bool_]
    fps: float
    pixel_size: tuple[float, float]
    unit: str
    name: str


def texture(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    channels: int = 3,
    scales: tuple[float, ...] = SCALES,
) -> FloatArray:
    """Return a periodic, band-limited random texture.

    Parameters
    ----------
    shape
        (H, W) in px.
    rng
        Source of randomness.
    channels
        Number of channels. They share two thirds of their pattern, as natural colours do.
    scales
        Standard deviations in px of the Gaussian filters whose noise is added up with equal
        weight. From 1.5 px up, less than 2e-5 of the amplitude at the Nyquist frequency is left.

    Returns
    -------
    ndarray
        (channels, H, W) float32 with mean 0.5 and values between 0.05 and 0.95.
    """
    fy, fx = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1]), indexing="ij")
    radius2 = fy**2 + fx**2
    common = rng.standard_normal((len(scales), 1, *shape))
    own = rng.standard_normal((len(scales), channels, *shape))
    layers = []
    for noise, scale in zip(2 * common + own, scales, strict=True):
        response = np.exp(-2 * np.pi**2 * scale**2 * radius2)
        response[0, 0] = 0.0
        layer = fft.irfft2(fft.rfft2(noise) * response, s=shape)
        layers.append(layer / layer.std())
    total = np.sum(layers, axis=0)
    return np.asarray(0.5 + 0.45 * total / np.abs(total).max(), dtype=np.float32)


def shift_periodic(image: NDArray[Any], dx: ArrayLike, dy: ArrayLike) -> FloatArray:
    """Move a periodic band-limited image by exact sub-pixel displacements.

    Parameters
    ----------
    image
        (..., H, W), periodic in both directions.
    dx, dy
        Displacements in px, to the right and down: numbers.

    Returns
    -------
    ndarray
        (..., H, W) float32: ``out(x) = image(x - (dx, dy))``.
    """
    height, width = image.shape[-2:]
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    ramp = np.exp(-2j * np.pi * (fx * np.asarray(dx) + fy * np.asarray(dy)))
    moved = fft.irfft2(fft.rfft2(image) * ramp, s=(height, width))
    return np.asarray(moved, dtype=np.float32)


def translating_texture(
    shift: ArrayLike,
    *,
    factor: float = 1.0,
    size: tuple[int, int] = (256, 256),
    channels: int = 3,
    seed: int = 0,
) -> FloatArray:
    """Render a texture that fills the picture and translates as a whole.

    Parameters
    ----------
    shift
        (T, 2) px, (dx, dy) of each frame. A texture repeats itself after its size plus 64 px.
    factor
        Magnification of the motion relative to frame 0; 1 gives the clip itself.
    size
        (H, W) of a frame, px.
    channels
        1 (grey, without a channel axis) or 3.
    seed
        Seed of the texture.

    Returns
    -------
    ndarray
        (T, H, W) or (T, H, W, 3) float32 in [0, 1].

    Raises
    ------
    FlowmagError
        If `shift` is not (T, 2).
    """
    moves = _magnified(shift, factor)
    pattern = _pattern(size, channels, seed)
    frames = [_crop(shift_periodic(pattern, dx, dy)) for dx, dy in moves]
    return _pictures(np.stack(frames))


def disk_on_still_ground(
    shift: ArrayLike,
    *,
    factor: float = 1.0,
    size: tuple[int, int] = (256, 256),
    radius: float = DISK_RADIUS,
    channels: int = 3,
    seed: int = 0,
) -> FloatArray:
    """Render a textured disk that translates in front of a still textured ground.

    The outline is that of a disk seen through a Gaussian point-spread function of 0.7 px.
    Parameters and errors as in `translating_texture`; `radius` in px.

    Returns
    -------
    ndarray
        (T, H, W) or (T, H, W, 3) float32 in [0, 1].
    """
    moves = _magnified(shift, factor)
    disk = _pattern(size, channels, seed)
    ground = _crop(_pattern(size, channels, seed, layer=1))
    frames = []
    for dx, dy in moves:
        cover = disk_coverage(size, radius, dx, dy)
        frames.append(cover * _crop(shift_periodic(disk, dx, dy)) + (1 - cover) * ground)
    return _pictures(np.stack(frames))


def disk_on_moving_ground(
    shift: ArrayLike, *, factor: float = 1.0, size: tuple[int, int] = (256, 256), seed: int = 0
) -> FloatArray:
    """Render a still textured disk in front of a textured ground that translates.

    All as in `disk_on_still_ground`, with which it shares the first frame.

    Returns
    -------
    ndarray
        (T, H, W, 3) float32 in [0, 1].
    """
    disk, ground = _crop(_pattern(size, 3, seed)), _pattern(size, 3, seed, layer=1)
    cover = disk_coverage(size, DISK_RADIUS)
    moved = (_crop(shift_periodic(ground, dx, dy)) for dx, dy in _magnified(shift, factor))
    return _pictures(np.stack([cover * disk + (1 - cover) * there for there in moved]))


def disk_coverage(
    size: tuple[int, int], radius: float, dx: float = 0.0, dy: float = 0.0
) -> FloatArray:
    """Return how much of each pixel a disk around the middle, moved by (dx, dy) px, covers.

    Returns
    -------
    ndarray
        (H, W) float32 in [0, 1].
    """
    y, x = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    distance = np.hypot(x - (size[1] - 1) / 2 - dx, y - (size[0] - 1) / 2 - dy)
    return edge(radius - distance)


def edge(depth: ArrayLike, psf: float = 0.7) -> FloatArray:
    """Return the brightness of a white half-plane `depth` px inside its blurred edge.

    Parameters
    ----------
    depth
        Distance from the edge in px, positive inside.
    psf
        Standard deviation of the point-spread function, px.
    """
    return np.asarray(0.5 + 0.5 * erf(np.asarray(depth) / (psf * np.sqrt(2))), dtype=np.float32)


def sinusoid(length: int = 64, amplitude: float = AMPLITUDE) -> NDArray[np.float64]:
    """Return (T, 2) px of a horizontal 1.875 Hz sinusoid at 30 frames a second, from rest."""
    time = np.arange(length) / FPS
    return np.stack([amplitude * np.sin(2 * np.pi * FREQUENCY * time), np.zeros(length)], axis=1)


def ramp_and_hold(length: int = 64, amplitude: float = AMPLITUDE) -> NDArray[np.float64]:
    """Return (T, 2) px of a quarter at rest, a quarter of drift to the right, and holding there.

    Of 64 frames, 0 to 16 are at rest, and from frame 32 on the amplitude is reached.
    """
    ramp = amplitude * np.clip(4 * np.arange(length) / length - 1, 0, 1)
    return np.stack([ramp, np.zeros(length)], axis=1)


@dataclass(frozen=True)
class _Recipe:
    render: Callable[..., FloatArray]
    motion: Callable[..., NDArray[np.float64]]
    noise: float = 0.0


_RECIPES = {
    "whole": _Recipe(translating_texture, sinusoid),
    "disk": _Recipe(disk_on_still_ground, sinusoid),
    "noise": _Recipe(disk_on_still_ground, sinusoid, NOISE),
    "ramp": _Recipe(disk_on_still_ground, ramp_and_hold),
    "ground": _Recipe(disk_on_moving_ground, sinusoid),
}


def known_motions() -> tuple[str, ...]:
    """Return the names that `known_motion` takes."""
    return tuple(_RECIPES)


def known_motion(
    name: str,
    *,
    factor: float = 1.0,
    length: int = 64,
    size: tuple[int, int] = (256, 256),
    amplitude: float = AMPLITUDE,
    seed: int = 0,
    every: int = 1,
) -> KnownClip:
    """Render one of the standard clips that magnifiers are measured on.

    Parameters
    ----------
    name
        "whole": everything moves by a sinusoid. "disk": only a disk of radius 60 px does, in
        front of still ground. "noise": the same with Gaussian noise of 4 grey levels of 255.
        "ramp": the disk rests, drifts to the right and stays there. "ground": the disk is still,
        the ground behind it moves by the sinusoid.
    factor
        Magnification of the motion. With a factor other than 1 the clip is the ideal result of
        magnifying the one with factor 1, and therefore free of noise.
    length
        Number of frames.
    size
        (H, W) px.
    amplitude
        Largest displacement before magnification, px.
    seed
        Seed of the texture and of the noise.
    every
        Render every n-th of the frames only.

    Returns
    -------
    KnownClip
        With float32 RGB frames in [0, 1].

    Raises
    ------
    FlowmagError
        If there is no clip of this name.
    """
    if name not in _RECIPES:
        raise FlowmagError(f"no known-motion clip {name!r}: choose one of {', '.join(_RECIPES)}")
    recipe = _RECIPES[name]
    motion = recipe.motion(length, amplitude)[::every]
    frames = recipe.render(motion, factor=factor, size=size, seed=seed)
    if recipe.noise and factor == 1:
        rng = np.random.default_rng((seed, 2))
        frames = frames + recipe.noise * rng.standard_normal(frames.shape, dtype=np.float32)
        frames = np.clip(frames, 0, 1)
    if recipe.render is translating_texture:
        moving = np.ones(size, dtype=bool)
    else:
        moving = disk_coverage(size, DISK_RADIUS) > 0.5
    if recipe.render is disk_on_moving_ground:
        moving = ~moving
    displacement = (_magnified(motion, factor)[:, :, None, None] * moving).astype(np.float32)
    return KnownClip(
        frames,
        displacement.astype(np.float32),
        moving,
        FPS / every,
        (1.0, 1.0),
        "px",
        f"known-{name}",
    )


def _magnified(shift: ArrayLike, factor: float) -> NDArray[np.float64]:
    moves = np.asarray(shift, dtype=np.float64)
    if moves.ndim != 2 or moves.shape[1] != 2:
        raise FlowmagError(f"shift must be (T, 2) pixels (dx, dy), but its shape is {moves.shape}")
    return moves[:1] + factor * (moves - moves[:1])


def _pattern(size: tuple[int, int], channels: int, seed: int, layer: int = 0) -> FloatArray:
    height, width = size
    rng = np.random.default_rng((seed, layer))
    return texture((height + 2 * _MARGIN, width + 2 * _MARGIN), rng, channels=channels)


def _crop(pattern: FloatArray) -> FloatArray:
    return pattern[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _pictures(frames: FloatArray) -> FloatArray:
    """(T, C, H, W) → (T, H, W, C), or (T, H, W) for one channel."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    return np.ascontiguousarray(np.moveaxis(frames, 1, -1))
