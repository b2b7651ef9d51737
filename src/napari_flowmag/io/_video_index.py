"""Find every frame of a video without decoding the whole of it where that can be avoided."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import av

_HIDDEN_FRAMES = ("vp8",)  # codecs with packets that show nothing: counting packets would not do
_EVEN = 0.1  # by which steps in time may differ, as a share of the shortest
_RATE_TOLERANCE = 1e-3  # time stamps in milliseconds give 29.97003, the header says 30000/1001


@dataclass(frozen=True)
class VideoIndex:
    """Where the frames of a video are.

    `times` are their time stamps in order; None if the file has none that can be relied on, so that
    frames are found by counting. `keys` are the time stamps at which decoding can begin. `aspect`
    is the width of a stored pixel over its height; None if the file does not tell. `durations` are
    the shortest and the longest time from one frame to the next in ms, where they clearly differ.
    """

    count: int
    times: tuple[int, ...] | None
    keys: tuple[int, ...]
    fps: float | None
    comment: str | None
    aspect: Fraction | None
    durations: tuple[float, float] | None


def file_url(path: Path) -> str:
    """Return what FFmpeg takes for that file, even if a colon in the name makes it look a URL."""
    return f"file:{path}"


def open_video(
    path: Path, options: dict[str, str] | None = None
) -> tuple[av.container.InputContainer, av.VideoStream]:
    """Open a file and its main video stream, with options of FFmpeg's for the container."""
    import av

    container = av.open(file_url(path), metadata_errors="replace", options=options)
    kind = container.format.name.removesuffix("_pipe")
    if kind != container.format.name:  # a picture: of a TIFF with many, FFmpeg sees the first only
        container.close()
        raise FlowmagError(
            f"{path} is not a video but a {kind.upper()} file, by its content: rename it to .{kind}"
        )
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream):
        container.close()
        raise FlowmagError(f"{path} has no video in it")
    stream.thread_type = "AUTO"
    return container, stream


def scan(path: Path) -> VideoIndex:
    """Find the frames: by their packets if these can be relied on, else by decoding them all."""
    container, stream = open_video(path)
    with container:
        # Of each packet only what is needed: all of them would be the whole file in memory.
        packets = [
            (packet.pts, packet.is_keyframe, packet.is_discard)
            for packet in container.demux(stream)
            if packet.size
        ]
        # Only MP4 and MOV tell exactly; AVI headers are often wrong, and others tell nothing.
        announced = stream.frames if "mp4" in container.format.name else 0
        if len(packets) < announced and (stored := _count_stored(path)) < announced:
            raise FlowmagError(
                f"{path} is cut off: it announces {announced} frames and holds {stored}"
            )
        times = [pts for pts, _, is_discard in packets if not is_discard]
        keys = [pts for pts, is_key, _ in packets if is_key]
        if not _relied_on(container, stream, times, keys):
            times, keys = _decode_all(path)
        if not times:
            raise FlowmagError(f"{path} has no frame that can be decoded")
        ordered = _ordered(times)
        return VideoIndex(
            count=len(times),
            times=ordered,
            keys=(_ordered(keys) or ()) if ordered else (),
            fps=_mean_rate(ordered, stream),
            comment=container.metadata.get("comment"),
            aspect=stream.sample_aspect_ratio or None,
            durations=_uneven(ordered, stream),
        )


def _count_stored(path: Path) -> int:
    """Count the frames of an MP4 file as its header does: with those that were trimmed away.

    Trimming without encoding anew leaves them in the file; an edit list hides them from players.
    """
    container, stream = open_video(path, {"ignore_editlist": "1"})
    with container:
        return sum(1 for packet in container.demux(stream) if packet.size)


def _ordered(times: list[int | None]) -> tuple[int, ...] | None:
    """Return time stamps in order, None if any is missing or there twice."""
    known = sorted({time for time in times if time is not None})
    return tuple(known) if len(known) == len(times) else None


def _relied_on(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    times: list[int | None],
    keys: list[int | None],
) -> bool:
    """Whether packets are frames one to one, tried on those after the last key frame."""
    import av

    ordered, ordered_keys = _ordered(times), _ordered(keys)
    if not ordered or not ordered_keys or stream.codec_context.name in _HIDDEN_FRAMES:
        return False
    last = ordered_keys[-1]
    try:
        container.seek(last, stream=stream)
        shown = [frame.pts for frame in container.decode(stream)]
    except av.error.FFmpegError:
        return False
    return [t for t in shown if t is None or t >= last] == [t for t in ordered if t >= last]


def _decode_all(path: Path) -> tuple[list[int | None], list[int | None]]:
    """Return the time stamps of all frames, and those of key frames."""
    times: list[int | None] = []
    keys: list[int | None] = []
    container, stream = open_video(path)
    with container:
        for frame in container.decode(stream):
            times.append(frame.pts)
            if frame.key_frame:
                keys.append(frame.pts)
    return times, keys


def _uneven(times: tuple[int, ...] | None, stream: av.VideoStream) -> tuple[float, float] | None:
    """Return the shortest and the longest step in time in ms, None where all are about equal."""
    if not times or len(times) < 3 or not stream.time_base:
        return None
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    tick = 1000 * float(stream.time_base)
    shortest, longest = min(steps), max(steps)
    # Times are whole ticks: equal steps may differ by one, but lead nowhere else in the long run.
    mean = (times[-1] - times[0]) / len(steps)
    astray = max(abs(time - times[0] - i * mean) for i, time in enumerate(times))
    rounded = shortest > 1 and longest - shortest <= 1 and astray <= 1
    if rounded or longest - shortest <= _EVEN * shortest:
        return None
    return round(tick * shortest, 3), round(tick * longest, 3)


def _mean_rate(times: tuple[int, ...] | None, stream: av.VideoStream) -> float | None:
    nominal = float(stream.average_rate) if stream.average_rate else None
    if not times or len(times) < 2 or not stream.time_base:
        return nominal
    mean = (len(times) - 1) / float((times[-1] - times[0]) * stream.time_base)
    if nominal and abs(mean / nominal - 1) < _RATE_TOLERANCE:
        return nominal
    return mean
