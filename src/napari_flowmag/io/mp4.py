"""Write MP4 videos that play everywhere: H.264, 4:2:0, even sides, BT.709, index in front."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag.clip import Clip, finite_range
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io._facts import dump_facts
from napari_flowmag.io._video_index import file_url

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

_QUALITY = {"crf": "14", "preset": "medium"}  # 14: no difference to be seen beside the original
_BT709 = 1  # H.273's number for primaries, transfer and matrix alike
_LIMITED_RANGE = 1
_SMALLEST, _LARGEST = 16, 8192  # sides in pixels that H.264 decoders take
# Frames a second that players show; what is slower or faster plays at a rate one can watch.
_PLAYABLE = (5.0, 60.0)
_SLOW, _FAST = 10.0, 30.0


def check(path: Path, like: Clip) -> None:
    """Raise FlowmagError if `path` cannot hold such a clip."""
    many = [a for a in "ZC" if like.sizes.get(a, 1) > 1]
    if many:
        what = {"Z": "planes in depth", "C": "channels"}
        raise FlowmagError(
            f"{path.name}: a video shows one picture at a time, and this clip has "
            f"{like.sizes[many[0]]} {what[many[0]]}: write .tif or .ome.zarr"
        )
    if max(like.sizes["Y"], like.sizes["X"]) > _LARGEST:
        raise FlowmagError(
            f"{path.name}: {like.sizes['X']}×{like.sizes['Y']} px is larger than MP4 players show "
            f"({_LARGEST} px a side): write .tif or .ome.zarr"
        )


def playback_rate(fps: float | None) -> float:
    """Return the frames a second to play a clip at: its own rate if that can be watched.

    High-speed footage plays in slow motion and time-lapse recordings in fast motion; the true rate
    goes into the file's comment, where :func:`napari_flowmag.read_clip` finds it.
    """
    if fps is None or fps > _PLAYABLE[1]:
        return _FAST
    return _SLOW if fps < _PLAYABLE[0] else fps


@contextmanager
def sink(
    temporary: Path, path: Path, like: Clip, provenance: dict[str, Any] | None
) -> Iterator[Callable[[NDArray[Any]], None]]:
    """Open an MP4 file for the frames of a clip, given one after the other.

    Anything but uint8 is scaled for display by the range of values of `like`, each frame alike.
    """
    import av

    to_display = _display_scale(like)
    with av.open(
        file_url(temporary), "w", format="mp4", options={"movflags": "+faststart"}
    ) as container:
        shown = [like.sizes[a] for a in "YX"]
        container.metadata["comment"] = dump_facts(like, provenance, size=shown)
        container.metadata["title"] = like.name
        rate = Fraction(playback_rate(like.fps)).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=_QUALITY)
        stream.width, stream.height = (padded_side(like.sizes[a]) for a in "XY")
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED_RANGE
        if "pixel_aspect" in like.metadata:  # of the video that the clip was: wide pixels stay wide
            context.sample_aspect_ratio = Fraction(like.metadata["pixel_aspect"])
        count = 0

        def write(frame: NDArray[Any]) -> None:
            nonlocal count
            picture = _video_frame(to_display(frame), like.axes[1:])
            picture.pts, picture.time_base = count, 1 / rate
            container.mux(stream.encode(picture))
            count += 1

        yield write
        container.mux(stream.encode())


def padded_side(side: int) -> int:
    """Return the side of the picture that is stored for one of this side, in px."""
    return max(_SMALLEST, side + side % 2)


def _display_scale(like: Clip) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    if like.dtype == np.uint8:
        return lambda frame: frame
    low, high = like.value_range or finite_range(like)
    span = (high - low) or 1.0

    def scale(frame: NDArray[Any]) -> NDArray[np.uint8]:
        unit = np.nan_to_num((frame.astype(np.float64) - low) / span, posinf=1.0, neginf=0.0)
        grey: NDArray[np.uint8] = np.rint(unit.clip(0, 1) * 255).astype(np.uint8)
        return grey

    return scale


def _video_frame(frame: NDArray[np.uint8], axes: str) -> av.VideoFrame:
    """Return a frame for the encoder, its edge repeated up to even sides."""
    import av

    picture = frame.reshape([n for a, n in zip(axes, frame.shape, strict=True) if a in "YXS"])
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    height, width = picture.shape[:2]
    padding = ((0, padded_side(height) - height), (0, padded_side(width) - width), (0, 0))
    picture = np.pad(picture[..., :3], padding, mode="edge")
    rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return rgb.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
