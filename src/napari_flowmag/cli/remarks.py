"""What a clip's user should know about it before trusting what comes of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from napari_flowmag.clip import Clip


def remark_on(clip: Clip, path: Path) -> None:
    """Tell on stderr what of a clip is not as a user may think: a line each, mostly none."""
    durations = clip.metadata.get("frame_durations_ms")
    if durations is not None and clip.fps:
        shortest, longest = durations
        print(
            f"{path}: its frames last {shortest:g} to {longest:g} ms; times and frequencies are "
            f"told as if all lasted {1000 / clip.fps:.4g} ms",
            file=sys.stderr,
        )
    if len(clip) == 1:
        print(f"{path}: {one_frame(clip)}", file=sys.stderr)


def counted(frames: int) -> str:
    """Say how many frames there are."""
    return "1 frame" if frames == 1 else f"{frames} frames"


def one_frame(clip: Clip) -> str:
    """Say that a clip of one frame shows no motion, and what may have been meant."""
    more = next((clip.sizes[axis] for axis in "ZC" if clip.sizes.get(axis, 1) > 1), 1)
    if more == 1:
        return "it has one frame, which shows no motion"
    what = "slices" if clip.sizes.get("Z", 1) > 1 else "channels"
    return (
        f"it has one frame (of {more} {what}), which shows no motion; if these are its frames, "
        f"save it with frames in their place"
    )
