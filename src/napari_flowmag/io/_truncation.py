"""Tell from its outermost structure whether a video file ends too early.

Decoders read a file that was cut off as far as it goes and say nothing, so that frames would be
missing without a word. MP4 needs no look: its index lies in one piece and counts the frames.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_GIF_TRAILER = b"\x3b"
_MATROSKA, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def is_cut_off(path: Path) -> bool:
    """Whether an AVI, MKV or GIF file is shorter than it says."""
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"GIF8"):
            file.seek(-8, os.SEEK_END)
            return not file.read().rstrip(b"\0").endswith(_GIF_TRAILER)
        if start.startswith(b"RIFF"):
            # Recorders that were interrupted leave a size of 0; the frames are there all the same.
            end = 8 + int.from_bytes(start[4:8], "little")
        elif start.startswith(_MATROSKA):
            end = _end_of_segment(file)
        else:
            return False
        return end > file.seek(0, os.SEEK_END)


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
