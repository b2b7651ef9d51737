"""Read videos: MP4, AVI, MOV, MKV and GIF, by random access and with every frame counted."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag.clip import Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io._facts import clip_name, load_facts, picture_facts
from napari_flowmag.io._lazy import PerProcess, lazy_frames
from napari_flowmag.io._truncation import is_cut_off
from napari_flowmag.io._video_index import VideoIndex, open_video, scan
from napari_flowmag.io.mp4 import padded_side

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

# Decoded frames that are kept for whoever steps backwards, and the bytes that they may take.
_KEPT_FRAMES, _KEPT_BYTES = 32, 64_000_000


def read(path: Path) -> Clip:
    """Read the main video stream of a file lazily, turned upright.

    Grey formats give a clip without colour samples; more than 8 bits give uint16, colour scaled to
    the whole of it and grey as stored. The frame rate is the mean one: a video with frames of
    varying length keeps every frame, and its metadata tell the shortest and the longest.

    Raises
    ------
    FlowmagError
        If the file is no video, has no frame, or ends before the frames that it announces.
    """
    import av

    if is_cut_off(path):
        raise FlowmagError(f"{path} is cut off: it is shorter than it says; copy or save it anew")
    try:
        index = scan(path)
        decoder = PerProcess(partial(_Decoder, path, index), _Decoder.close)
        first = decoder.get().frame(0)
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FlowmagError(f"{path} is not a video, cut off or damaged: {reason}") from error
    axes = "TYXS" if first.ndim == 3 else "TYX"
    noted = load_facts(index.comment)
    height, width = _without_padding(first.shape[:2], noted.get("size"))
    shape = (index.count, height, width, *first.shape[2:])
    facts = picture_facts({"fps": index.fps, **noted})
    if index.durations is not None and "fps" not in noted:
        facts["metadata"]["frame_durations_ms"] = index.durations
    if index.aspect is not None and index.aspect != 1:
        turned = decoder.get().quarters % 2
        facts["metadata"]["pixel_aspect"] = str(1 / index.aspect if turned else index.aspect)
    return Clip(
        lazy_frames(_Planes(decoder, (height, width)).read, axes, shape, first.dtype, path.name),
        axes,
        name=clip_name(path),
        **facts,
    )


def _without_padding(stored: tuple[int, ...], noted: object) -> tuple[int, ...]:
    """Return the size of the pictures that flowmag padded for the encoder; else what is stored."""
    if not (isinstance(noted, list) and all(isinstance(side, int) for side in noted)):
        return stored
    return tuple(noted) if stored == tuple(map(padded_side, noted)) else stored


@dataclass(frozen=True)
class _Planes:
    decoder: PerProcess[_Decoder]
    size: tuple[int, int]

    def read(self, t: int, z: int) -> NDArray[Any]:
        height, width = self.size
        return self.decoder.get().frame(t)[:height, :width]


class _Decoder:
    """Gives any frame of a video; in order it decodes each once, otherwise from a key frame on."""

    def __init__(self, path: Path, index: VideoIndex) -> None:
        self._path = path
        self._index = index
        self._numbers = {time: i for i, time in enumerate(index.times or ())}
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._limit = _KEPT_FRAMES
        self._grey_palette: bool | None = None
        self.quarters = 0  #: turns by which the frames decoded last were brought upright
        self._open()

    def _open(self) -> None:
        self._container, self._stream = open_video(self._path)
        self._frames = self._numbered()
        self._next = 0

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frame(self, wanted: int) -> NDArray[Any]:
        """Return frame number `wanted`: (Y, X) or (Y, X, 3)."""
        with self._lock:
            if wanted not in self._kept:
                self._fetch(wanted)
            return self._kept[wanted]

    def _fetch(self, wanted: int) -> None:
        key = self._key_before(wanted)
        if wanted < self._next or key > self._next:
            self._seek(key)
        try:
            found = self._decode_to(wanted)
            if not found:  # the container's seek landed behind the frame
                self._rewind()
                found = self._decode_to(wanted)
        except BaseException:
            self._rewind()
            raise
        if not found:
            raise FlowmagError(f"frame {wanted} of {self._path.name} is not where its index says")

    def _decode_to(self, wanted: int) -> bool:
        for number, frame in self._frames:
            self._next = number + 1
            if number > wanted:
                return False
            if number > wanted - self._limit:
                self._keep(number, self._to_array(frame))
            if number == wanted:
                return True
        return False

    def _keep(self, number: int, array: NDArray[Any]) -> None:
        self._limit = min(_KEPT_FRAMES, max(2, _KEPT_BYTES // array.nbytes))
        self._kept[number] = array
        self._kept.move_to_end(number)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def _key_before(self, wanted: int) -> int:
        """Return the number of the last key frame up to a frame."""
        if not self._index.times:
            return 0
        at = bisect_right(self._index.keys, self._index.times[wanted])
        return self._numbers.get(self._index.keys[at - 1], 0) if at else 0

    def _seek(self, key: int) -> None:
        import av

        if key == 0 or not self._index.times:
            self._rewind()
            return
        try:
            self._container.seek(self._index.times[key], stream=self._stream)
        except av.error.FFmpegError:
            self._rewind()
            return
        self._frames = self._numbered()

    def _rewind(self) -> None:
        self._container.close()
        self._open()

    def _numbered(self) -> Iterator[tuple[int, av.VideoFrame]]:
        # No generator of our own: it would hold `self`, and leave closing to the garbage collector.
        frames = self._container.decode(self._stream)
        if self._index.times is None:
            return enumerate(frames)
        numbers = self._numbers
        return ((numbers[frame.pts], frame) for frame in frames if frame.pts in numbers)

    def _to_array(self, frame: av.VideoFrame) -> NDArray[Any]:
        if self._grey_palette is None:
            self._grey_palette = _has_grey_palette(frame)
        array = frame.to_ndarray(format=_array_format(frame.format))
        if self._grey_palette:
            array = array[..., 0]
        # The angle is counter-clockwise, as numpy's is.
        self.quarters = round(frame.rotation / 90)
        return np.ascontiguousarray(np.rot90(array, self.quarters))


def _has_grey_palette(frame: av.VideoFrame) -> bool:
    """Whether colours are looked up in a table of greys, as ImageJ and cameras write AVI."""
    if frame.format.name != "pal8":
        return False
    colours = frame.to_ndarray(format="rgb24")
    return bool((colours == colours[..., :1]).all())


def _array_format(stored: av.VideoFormat) -> str:
    """Return the pixel format to convert to: grey as stored, colour as RGB of 8 or 16 bits."""
    colours = [c for c in stored.components if not c.is_alpha]
    if len(colours) == 1 and not stored.has_palette:
        return stored.name if stored.name.startswith("gray") else "gray"
    return "rgb48le" if max(c.bits for c in colours) > 8 else "rgb24"
