"""Tell from its outermost structure whether a video file ends too early.

Decoders read a file that was cut off as far as it goes and say nothing, so that frames would be
missing without a word. MP4 needs no look: its index lies in one piece and counts the frames.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_GIF_EXTENSION, _GIF_IMAGE, _GIF_TRAILER = b"\x21", b"\x2c", b"\x3b"
_UNKNOWN_SIZE = 0xFFFFFFFF  # of an AVI file that was written to a pipe, or not to its end
_MATROSKA, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut_off(path: Path) -> bool:
    """Whether an AVI, MKV or GIF file is shorter than it says."""
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"GIF8"):
            return not _reaches_trailer(file)
        if start.startswith(b"RIFF"):
            # Recorders that were interrupted leave a size of 0; the frames are there all the same.
            size = int.from_bytes(start[4:8], "little")
            end = 0 if size == _UNKNOWN_SIZE else 8 + size
        elif start.startswith(_MATROSKA):
            end = _end_of_segment(file)
        else:
            return False
        return end > file.seek(0, os.SEEK_END)


def _reaches_trailer(file: BinaryIO) -> bool:
    """Whether a GIF's blocks lead up to its trailer; what follows that does not matter (GIF89a)."""
    file.seek(10)
    _skip_colours(file, file.read(3)[:1])
    while kind := file.read(1):
        if kind == _GIF_TRAILER:
            return True
        if kind == _GIF_EXTENSION:
            file.seek(1, os.SEEK_CUR)  # its label
        elif kind == _GIF_IMAGE:
            _skip_colours(file, file.read(9)[8:])
            file.seek(1, os.SEEK_CUR)  # how many bits the codes begin with
        elif kind != b"\0":  # which some programs leave between blocks
            return False
        while kind != b"\0" and (size := file.read(1)) > b"\0":
            file.seek(size[0], os.SEEK_CUR)
    return False


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    """Skip the colour table that follows, if the flags say that one does."""
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] % 8 + 1), os.SEEK_CUR)


def _end_of_segment(file: BinaryIO) -> int:
    """Return where a Matroska file's second and last element ends; 0 if that is left open."""
    file.seek(len(_MATROSKA))
    file.seek(_size(file), os.SEEK_CUR)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    size = _size(file)
    return file.tell() + size if size else 0


def _size(file: BinaryIO) -> int:
    """Read an EBML size: the number of leading zero bits tells how many bytes follow (RFC 8794)."""
    first = file.read(1)
    length = 9 - first[0].bit_length() if first else 0
    if not 1 <= length <= 8:
        return 0
    value = int.from_bytes(bytes([first[0] & (0xFF >> length)]) + file.read(length - 1), "big")
    unknown = (1 << (7 * length)) - 1
    return 0 if value == unknown else value
