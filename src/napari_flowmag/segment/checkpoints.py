"""The published checkpoints of Segment Anything, and where they are kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from napari_flowmag.download import download
from napari_flowmag.errors import FlowmagError

_URL = "https://dl.fbaipublicfiles.com/segment_anything/"
# The digits in a published file's name are the beginning of its SHA-256.
CHECKPOINTS = {
    "vit_b": ("sam_vit_b_01ec64.pth", "01ec64", 375),
    "vit_l": ("sam_vit_l_0b3195.pth", "0b3195", 1250),
    "vit_h": ("sam_vit_h_4b8939.pth", "4b8939", 2560),
}
"""Name → file, beginning of its hash, size in MB."""


def cache_folder() -> Path:
    """Return the folder for downloaded checkpoints: ``FLOWMAG_CACHE``, or one below the home."""
    chosen = os.environ.get("FLOWMAG_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "flowmag"


def fetch_checkpoint(
    name: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    check: Callable[[], None] = lambda: None,
) -> Path:
    """Return the file of a published checkpoint, fetched if it is not there.

    Raises
    ------
    FlowmagError
        If there is no such checkpoint, or it cannot be fetched.
    """
    if name not in CHECKPOINTS:
        raise FlowmagError(f"unknown checkpoint {name!r}: give one of {', '.join(CHECKPOINTS)}")
    file, digits, _ = CHECKPOINTS[name]
    return download(_URL + file, cache_folder() / file, digits, progress=progress, check=check)
