"""How many frames are magnified at once where nobody says."""

from __future__ import annotations

import math

import torch

from napari_flowmag.device import free_memory
from napari_flowmag.frames import Frames
from napari_flowmag.models.base import Magnifier
from napari_flowmag.side_by_side import process_threads

_BESIDE_PIXELS = 2**22
"""Light models magnify frames side by side up to this on a CPU."""

_TURNS, _TURN_PIXELS = 4, 2**21
"""Frames of a batch for each thread, at most and within so many pixels: the fewer batches, the
seldomer one thread waits for another at their ends. No more, as progress shows after each."""

_LIGHT_PIXELS, _HEAVY_PIXELS = 2**23, 2**20
"""Pixels of a batch on a GPU. Light models are thousands of small operations, which even replayed
take as long for one frame as for several; 64 frames of 512x512 at once were slower than 32. A
heavy one keeps the card busy."""

_LIGHT_BYTES, _LIGHT_CHANNEL_BYTES, _HEAVY_BYTES = 400, 80, 4096
"""Memory for a pixel, and of a light model for each of its channels beside: nearly twice what the
default model (360 with three channels, half of it for outlines in layers and to be replayed) and
the U-Net (1900) take."""

_HOST_BYTES = 2**29
"""Of the clip in a batch: it is there three times, as it was, as it becomes and on the way."""


def default_batch(magnifier: Magnifier, device: torch.device, frames: Frames) -> int:
    """Return the number of frames that a device gains by magnifying at once.

    Parameters
    ----------
    magnifier : Magnifier
        What magnifies them.
    device : torch.device
        Where it computes.
    frames : Frames
        The clip.
    """
    pixels = frames.size[0] * frames.size[1]
    if device.type == "cpu":
        threads = process_threads()
        beside = max(min(_BESIDE_PIXELS // pixels, threads), 1)
        if not magnifier.light or threads == 1:  # a heavy one keeps all cores busy with one frame
            return 1
        return beside * max(min(_TURN_PIXELS // (beside * pixels), _TURNS), 1)
    return fitting_batch(magnifier.light, frames, free_memory(device))


def fitting_batch(light: bool, frames: Frames, free: int) -> int:
    """Return the number of frames that fit into half of a card's free memory, within reason.

    Parameters
    ----------
    light : bool
        Whether the magnifier is, see :class:`~napari_flowmag.models.base.Magnifier`.
    frames : Frames
        The clip.
    free : int
        Bytes that the card has left.
    """
    pixels = frames.size[0] * frames.size[1]
    cap, each = _HEAVY_PIXELS, _HEAVY_BYTES
    if light:
        cap, each = _LIGHT_PIXELS, _LIGHT_BYTES + _LIGHT_CHANNEL_BYTES * len(frames.channels)
    host = math.prod(frames.shape[1:]) * frames.dtype.itemsize
    return max(min(cap // pixels, free // 2 // (each * pixels), _HOST_BYTES // host), 1)
