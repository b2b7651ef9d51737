"""Which pairs of a clip are looked at, and which of a scene are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_flowmag.train.data import spread


@dataclass(frozen=True, order=True)
class Candidate:
    """Two frames of one scene: their numbers, and that of the scene."""

    first: int
    second: int
    scene: int

    @property
    def stride(self) -> int:
        """Distance in frames."""
        return self.second - self.first


def candidates(scenes: Sequence[range], strides: Sequence[int], most: int) -> list[Candidate]:
    """Choose the pairs to look at: none over a cut, as many of each scene and stride as can be.

    Parameters
    ----------
    scenes
        Frames of each scene.
    strides
        Distances between the frames of a pair.
    most
        How many in all.

    Returns
    -------
    list of Candidate
        In the order of their first frames; of each scene and stride evenly spread ones.
    """
    groups = [
        (number, stride, range(scene.start, scene.stop - stride))
        for number, scene in enumerate(scenes)
        for stride in strides
        if len(scene) > stride
    ]
    counts = shares([len(starts) for _, _, starts in groups], most)
    return sorted(
        Candidate(starts[i], starts[i] + stride, number)
        for (number, stride, starts), count in zip(groups, counts, strict=True)
        for i in _spread(len(starts), count)
    )


def shares(sizes: Sequence[int], most: int) -> list[int]:
    """Share `most` evenly by groups of some sizes; what small ones leave goes to larger ones."""
    counts = [0] * len(sizes)
    left = min(most, sum(sizes))
    while left:
        hungry = [i for i, size in enumerate(sizes) if counts[i] < size]
        if left < len(hungry):
            hungry = [hungry[i] for i in spread(len(hungry), left)]
        for i in hungry:
            more = min(sizes[i] - counts[i], max(1, left // len(hungry)))
            counts[i] += more
        left = min(most, sum(sizes)) - sum(counts)
    return counts


def _spread(count: int, most: int) -> list[int]:
    # One alone is the middle one: the first of a scene is the likeliest to be a fade.
    return [count // 2] if most == 1 else spread(count, most)


def over_the_cap(scenes: Sequence[int], most: int | None) -> set[int]:
    """Return the pairs that are too many, so that those kept of each scene are spread over it.

    Parameters
    ----------
    scenes
        Number of the scene of each pair, in an order that brings alike pairs together.
    most
        How many to keep of each scene; None keeps all.
    """
    if most is None:
        return set()
    members: dict[int, list[int]] = {}
    for index, scene in enumerate(scenes):
        members.setdefault(scene, []).append(index)
    kept = {group[i] for group in members.values() for i in _spread(len(group), most)}
    return set(range(len(scenes))) - kept
