"""Pairs that show the same twice, and clips that show the same scene.

A perceptual hash tells alike pictures: of the picture in 8 × 9 and 9 × 8 averages, which of each
two neighbours is brighter (a difference hash, across and down, 128 bits). With a camera that
stands still, all pairs of a scene have nearly the same hash, yet other motions. So a duplicate must
also change in the same way: its frames must have the same signed difference in 16 × 16 averages,
within a tolerance. Within 0.4 were the changes of all of 150 pairs and their copies as JPEG of
quality 90, of 93 % at quality 60, of 84 % at half the size and quality 75.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

LIKE_BITS = 10
"""Most bits of 128 in which the hashes of alike pictures differ. Of 597 pairs from 76 scenes, no
two of different scenes were within it; recompressed and shrunk copies were, but for 1 %."""

REPEATED = 0.05
"""Largest tolerance within a clip. There, what repeats is the same to the noise of compression,
while slow and periodic motion brings pairs that are nearly the same, and fit to learn from."""

_BITS = 128
_BANDS = LIKE_BITS + 1
_GRID = 16


@dataclass(frozen=True)
class Signature:
    """What a pair shows.

    Attributes
    ----------
    first, second : int
        Hashes of the frames, 128 bits.
    change : bytes
        Second minus first frame, of 1, in 16 × 16 averages: float16, by rows.
    """

    first: int
    second: int
    change: bytes

    def to_json(self) -> dict[str, str]:
        """Return it in text."""
        change = base64.b64encode(self.change).decode()
        return {"first": f"{self.first:032x}", "second": f"{self.second:032x}", "change": change}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Signature:
        """Read what :meth:`to_json` returned."""
        first, second = (int(stored[side], 16) for side in ("first", "second"))
        return cls(first, second, base64.b64decode(stored["change"]))


def sign(first: Tensor, second: Tensor) -> Signature:
    """Describe a pair of pictures (C, H, W) in [0, 1]."""
    a, b = (picture.mean(0, keepdim=True) for picture in (first, second))
    change = _averages(b - a, _GRID, _GRID).astype("<f2").tobytes()
    return Signature(difference_hash(a), difference_hash(b), change)


def difference_hash(grey: Tensor) -> int:
    """Return the perceptual hash of a grey picture (1, H, W) as a number of 128 bits."""
    across, down = _averages(grey, 8, 9), _averages(grey, 9, 8)
    bits = np.concatenate(
        [(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()]
    )
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _averages(picture: Tensor, height: int, width: int) -> NDArray[np.float32]:
    averages: NDArray[np.float32] = F.adaptive_avg_pool2d(picture, (height, width))[0].numpy()
    return averages


def find_duplicates(
    signatures: Sequence[Signature], tolerance: float, clips: Sequence[int] | None = None
) -> list[int | None]:
    """Return for each pair the first one before it, itself no duplicate, that it repeats.

    Parameters
    ----------
    signatures
        What each pair shows.
    tolerance
        Largest difference of the changes of two duplicates, as a share of the change.
    clips
        Number of the clip of each pair: those of one clip are not compared. None compares all.
    """
    index = _Index()
    found: list[int | None] = []
    for number, signature in enumerate(signatures):
        alike = (
            i
            for i in index.near(signature.first)
            if (clips is None or clips[i] != clips[number])
            and (signatures[i].second ^ signature.second).bit_count() <= LIKE_BITS
            and _difference(signatures[i].change, signature.change) <= tolerance
        )
        twin = min(alike, default=None)
        found.append(twin)
        if twin is None:
            index.add(number, signature.first)
    return found


def _difference(first: bytes, second: bytes) -> float:
    a, b = (np.frombuffer(change, "<f2").astype(np.float64) for change in (first, second))
    largest = max(float(a @ a), float(b @ b))
    return float(((a - b) @ (a - b)) / largest) ** 0.5 if largest else 0.0


def group_by_scene(clips: Sequence[int], signatures: Sequence[Signature]) -> dict[int, int]:
    """Bring together the clips that show the same scene, wherever one of their pictures is alike.

    Parameters
    ----------
    clips
        Number of the clip of each pair.
    signatures
        What each pair shows.

    Returns
    -------
    dict
        For each clip the number of its group, which is its smallest clip.
    """
    group = {clip: clip for clip in clips}

    def root(clip: int) -> int:
        while group[clip] != clip:
            clip = group[clip]
        return clip

    index = _Index()
    for number, (clip, signature) in enumerate(zip(clips, signatures, strict=True)):
        near = {clips[i] for i in index.near(signature.first)}
        roots = {root(other) for other in near | {clip}}
        for other in roots:
            group[other] = min(roots)
        if clip not in near:  # one of many alike pictures of a clip is enough
            index.add(number, signature.first)
    return {clip: root(clip) for clip in group}


class _Index:
    """Finds hashes within `LIKE_BITS` of one: of so many bands and one more, one must agree."""

    def __init__(self) -> None:
        self._bands: dict[tuple[int, int], list[int]] = {}
        self._hashes: dict[int, int] = {}

    def add(self, number: int, hashed: int) -> None:
        self._hashes[number] = hashed
        for band in self._keys(hashed):
            self._bands.setdefault(band, []).append(number)

    def near(self, hashed: int) -> list[int]:
        numbers = {i for band in self._keys(hashed) for i in self._bands.get(band, ())}
        return [i for i in numbers if (self._hashes[i] ^ hashed).bit_count() <= LIKE_BITS]

    @staticmethod
    def _keys(hashed: int) -> Iterator[tuple[int, int]]:
        ends = [_BITS * i // _BANDS for i in range(_BANDS + 1)]
        for number, (low, high) in enumerate(itertools.pairwise(ends)):
            yield number, (hashed >> low) & ((1 << (high - low)) - 1)
