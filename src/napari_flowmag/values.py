"""Pixel values: what range they have, how a magnifier sees them, and the way back.

A magnifier sees a clip through a :class:`View`. One that repaints pictures sees values scaled
to [0, 1]. One that samples them anywhere sees the values themselves, less an offset that all share,
so that nothing is lost, and beside them a *motion image* in [0, 1] from which it estimates motion.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_flowmag.device import constant
from napari_flowmag.errors import FlowmagError
from napari_flowmag.frames import Frames
from napari_flowmag.pixels import to_array, to_tensor

_CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class ValueRange:
    """Smallest and largest value of each channel, (channels,) float64.

    `declared` ones were given, and need not be those of the pixels.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    declared: bool = False


def value_range(
    frames: Frames,
    declared: tuple[float, float] | None = None,
    check: Callable[[], None] = lambda: None,
    used: Container[int] | None = None,
) -> ValueRange:
    """Range of values of a clip's planes, channel by channel.

    ``declared`` if given; 0 and 255 for uint8; else what the whole clip holds, which is read
    once for it, so that a part of a clip looks as it does in the whole. Samples of one colour
    picture share a range, so that colours stay as they are; opacity has no part in it.

    Parameters
    ----------
    frames : Frames
        The clip.
    declared : (float, float), optional
        The range of all channels.
    check : callable
        Called before each frame; may raise to stop.
    used : container of int, optional
        The frames that matter: others are left out if they cannot be used. None: all matter.

    Raises
    ------
    FlowmagError
        If a frame that matters cannot be read or has a value that is NaN or infinite, or the
        range is more than float32 can hold.
    """
    count = frames.sizes.get("C", 1) * frames.group
    given = declared is not None
    if declared is None and frames.dtype == np.uint8:
        declared = (0.0, 255.0)
    if declared is not None:
        low, high = np.full(count, declared[0]), np.full(count, declared[1])
    else:
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
        for index in range(len(frames)):
            check()
            try:
                planes = frames.planes(index)
            except FlowmagError:
                if used is None or index in used:
                    raise
                continue
            low = np.minimum(low, planes.min(axis=(0, 1, 2)))
            high = np.maximum(high, planes.max(axis=(0, 1, 2)))
        colours = len(frames.channels) * frames.group // count  # of the samples of a picture
        low = low.reshape(-1, frames.group)[:, :colours].min(axis=1).repeat(frames.group)
        high = high.reshape(-1, frames.group)[:, :colours].max(axis=1).repeat(frames.group)
    # Reading between pixels overshoots: the finest detail has up to nine times its height.
    if not float(np.max(high - low)) < float(np.finfo(np.float32).max) / 64:
        raise FlowmagError(
            f"values from {low.min():g} to {high.max():g} are too far apart: rescale the clip"
        )
    return ValueRange(low.astype(np.float64), high.astype(np.float64), given)


@dataclass(frozen=True, eq=False)
class View:
    """How a magnifier sees some channels of a clip.

    Attributes
    ----------
    channels : tuple of int
        Channels of a plane that make its picture.
    moved : tuple of int
        Which of its picture's channels are written back into the plane.
    motion : tuple of int
        Channels of its picture, a repeated one allowed, that make the motion image.
    zero, scale : ndarray
        (channels,) float64; its picture is ``(value - zero) / scale``.
    black, white : ndarray
        (motion,) float32; picture values that are 0 and 1 in the motion image.
    """

    channels: tuple[int, ...]
    moved: tuple[int, ...]
    motion: tuple[int, ...]
    zero: NDArray[np.float64]
    scale: NDArray[np.float64]
    black: NDArray[np.float32]
    white: NDArray[np.float32]

    @property
    def moved_channels(self) -> tuple[int, ...]:
        """Channels of a plane that are written."""
        return tuple(self.channels[m] for m in self.moved)

    @property
    def motion_channels(self) -> tuple[int, ...]:
        """Channels of a plane in which motion is seen."""
        return tuple(self.channels[m] for m in self.motion)

    def numbers(self, planes: NDArray[Any], device: torch.device = _CPU) -> Tensor:
        """Bring planes (B, Y, X, channels) of a clip to a device, as (B, C, Y, X) to compute with.

        See :func:`~napari_flowmag.pixels.to_tensor`.
        """
        return to_tensor(planes, self.channels, device)

    def picture(self, numbers: Tensor) -> Tensor:
        """Turn numbers of a clip (B, C, Y, X) into pictures (B, C, Y, X) float32."""
        # Small types fit float32 exactly; the others are shifted in float64 before they go there.
        values = numbers
        if self.zero.any():
            values = values - _by_channel(self.zero, values)
        if (self.scale != 1).any():
            values = values / _by_channel(self.scale, values)
        return values.float()

    def motion_image(self, picture: Tensor) -> Tensor:
        """Turn pictures (B, C, Y, X) into motion images (B, c, Y, X) in [0, 1]."""
        black, white = _by_channel(self.black, picture), _by_channel(self.white, picture)
        return ((_take(picture, self.motion) - black) / (white - black)).clamp(0, 1)

    def allowed(
        self, limits: ValueRange, numbers: Tensor, reference: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the smallest and the largest value that each channel may get.

        Parameters
        ----------
        limits : ValueRange
            Range of each channel of the clip.
        numbers, reference : Tensor
            (B, C, Y, X), and (1 or B, C, Y, X): what is magnified, and its reference. The values
            of both are allowed, even where they are outside of a range declared too narrow.

        Returns
        -------
        low, high : Tensor
            (B, moved, 1, 1) float64.
        """
        index = list(self.moved_channels)
        pictures = [_take(x, self.moved).flatten(2) for x in (numbers, reference)]
        low = torch.minimum(*(x.amin(2).double() for x in pictures))[..., None, None]
        high = torch.maximum(*(x.amax(2).double() for x in pictures))[..., None, None]
        return (
            torch.minimum(low, _by_channel(limits.low[index], low)),
            torch.maximum(high, _by_channel(limits.high[index], high)),
        )

    def planes(
        self, picture: Tensor, allowed: tuple[Tensor, Tensor], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Turn pictures (B, C, Y, X) into planes (B, Y, X, moved) of a clip's type.

        Parameters
        ----------
        picture : Tensor
            (B, C, Y, X).
        allowed : (Tensor, Tensor)
            Smallest and largest values, from :meth:`allowed`: the rest is clipped.
        dtype : dtype
            Of the clip.
        """
        moved = list(self.moved)
        values = _take(picture, self.moved).to(torch.float64, copy=True)
        values *= _by_channel(self.scale[moved], values)
        values += _by_channel(self.zero[moved], values)
        return to_array(values.clamp_(*allowed), dtype)


def _by_channel(values: NDArray[Any], like: Tensor) -> Tensor:
    """Return a number for each channel, to compute with pictures; not to be written to."""
    return constant(tuple(values.tolist()), like.dtype, like.device).view(1, -1, 1, 1)


def _take(picture: Tensor, channels: Sequence[int]) -> Tensor:
    """Return some channels of a picture; itself where that is all of them."""
    if tuple(channels) == tuple(range(picture.shape[1])):
        return picture
    # Not by a list: a GPU would have to wait for it.
    return torch.cat([picture[:, c : c + 1] for c in channels], 1)


def views(
    model_channels: int | None,
    frames: Frames,
    limits: ValueRange,
    motion_channels: Sequence[int] | None = None,
    channels: Sequence[int] | None = None,
) -> list[View]:
    """Decide how a magnifier sees a clip; each view is magnified by itself.

    One that takes any number of channels gets all that are moved or show the motion. One that
    takes exactly ``n`` gets clips of ``n`` channels as they are; of others it gets each channel,
    repeated ``n`` times.

    Parameters
    ----------
    model_channels : int or None
        :attr:`~napari_flowmag.models.base.Magnifier.channels`.
    frames : Frames
        The clip.
    limits : ValueRange
        Values that are seen as 0 and 1.
    motion_channels, channels : sequence of int, optional
        Channels in which motion is seen, and channels that are moved; each an index into those of
        the clip that are magnified. None: all. See :func:`check_channels`.
    """
    every = frames.channels
    moved = [every[c] for c in (range(len(every)) if channels is None else channels)]
    if model_channels is None:
        seen = [
            every[m] for m in (range(len(every)) if motion_channels is None else motion_channels)
        ]
        return [_sampling_view(moved, seen, limits, frames.dtype)]
    if len(every) == model_channels:
        places = tuple(every.index(c) for c in moved)
        return [_painting_view(every, places, tuple(range(model_channels)), limits)]
    return [_painting_view((c,), (0,), (0,) * model_channels, limits) for c in moved]


def check_channels(
    model_channels: int | None,
    frames: Frames,
    motion_channels: Sequence[int] | None,
    channels: Sequence[int] | None,
) -> None:
    """Refuse channels that a clip does not have, or a model cannot choose.

    Raises
    ------
    FlowmagError
        Saying which; parameters are those of :func:`views`.
    """
    count = len(frames.channels)
    for name, chosen in (("motion channels", motion_channels), ("channels", channels)):
        if chosen is not None and not all(0 <= c < count for c in chosen):
            raise FlowmagError(
                f"{name} {', '.join(map(str, chosen))}: the clip has {count}, counted from 0"
            )
    if model_channels is not None and motion_channels is not None:
        raise FlowmagError(
            "motion channels cannot be chosen with this model: it repaints each picture from itself"
        )


def _sampling_view(
    moved: Sequence[int], seen: Sequence[int], limits: ValueRange, dtype: np.dtype[Any]
) -> View:
    channels = (*moved, *(c for c in seen if c not in moved))
    motion = tuple(channels.index(c) for c in seen)
    low, width = _low_and_width(channels, limits)
    # float32 has its digits for what values differ by, not for an offset that all share.
    zero = low.clip(0, None) + (low + width).clip(None, 0)  # of all values the one nearest to 0
    if np.can_cast(dtype, np.float32):
        zero = zero.astype(np.float32).astype(np.float64)  # as it will be taken off
        if dtype.itemsize == 1 or limits.declared:  # such as far from all that there is
            zero = np.zeros_like(low)
    black = (low - zero)[list(motion)].astype(np.float32)
    white = ((low - zero) + width)[list(motion)].astype(np.float32)
    if not (white > black).all():
        raise FlowmagError(
            f"values from {low.min():g} to {(low + width).max():g} are too close together: "
            "rescale the clip"
        )
    return View(
        channels,
        tuple(range(len(moved))),
        motion,
        zero,
        np.ones_like(low),
        black,
        white,
    )


def _painting_view(
    channels: tuple[int, ...], moved: tuple[int, ...], motion: tuple[int, ...], limits: ValueRange
) -> View:
    low, width = _low_and_width(channels, limits)
    black, white = np.zeros(len(motion), np.float32), np.ones(len(motion), np.float32)
    return View(channels, moved, motion, low, width, black, white)


def _low_and_width(
    channels: tuple[int, ...], limits: ValueRange
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low = limits.low[list(channels)]
    width = limits.high[list(channels)] - low
    # A constant channel is black: there is no contrast to stretch.
    return low, np.where(width > 0, width, 1)
