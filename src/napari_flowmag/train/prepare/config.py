"""Settings of the choice of frame pairs; free of torch, as :mod:`napari_flowmag.train.config`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.config import require


@dataclass(frozen=True)
class SelectionConfig:
    """Which frame pairs of a clip are fit to learn from.

    The bounds are the paper's: small motion over most of the picture, some of it, and a picture
    that changes.

    Parameters
    ----------
    strides
        Distances in frames between the two frames of a pair.
    pairs_per_clip
        Most pairs to look at in one clip, shared evenly by its scenes and spread over each.
    pairs_per_scene
        Most pairs to keep of one scene, spread over it; unset keeps all that are fit.
    selection_flow
        Flow estimator that measures the motion: a name or path that `load_flow` takes.
    max_p999
        Largest 99.9th percentile of the motion in px.
    max_p80
        Largest 80th percentile of the motion in px.
    max_p001
        Largest 0.01st percentile of the motion in px.
    min_mse
        Smallest mean squared difference of the two frames, in grey levels of 255.
    duplicate
        Pairs of alike pictures in two clips are duplicates if they also change alike: if their
        changes differ by at most this share. 0 rejects exact copies alone.
    """

    strides: tuple[int, ...] = (1, 5)
    pairs_per_clip: int = 200
    pairs_per_scene: int | None = None
    selection_flow: str = "default"
    max_p999: float = 20.0
    max_p80: float = 2.0
    max_p001: float = 0.1
    min_mse: float = 10.0
    duplicate: float = 0.4

    def __post_init__(self) -> None:
        require(
            bool(self.strides) and min(self.strides) >= 1,
            "strides",
            self.strides,
            "give one or more distances of at least 1 frame",
        )
        require(
            len(set(self.strides)) == len(self.strides), "strides", self.strides, "one is repeated"
        )
        for name in ("pairs_per_clip", "pairs_per_scene"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "must be above 0")
        for name in ("max_p999", "max_p80", "max_p001", "min_mse", "duplicate"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "must not be negative")


@dataclass(frozen=True)
class PrepareConfig:
    """Where pairs go, and who does the work.

    Parameters
    ----------
    out
        Folder of the set: pictures, lists, statistics, contact sheet, and a result for each clip.
    workers
        Processes that measure clips; unset takes one for each core, 0 measures in this process.
    shard
        Which share of the clips is this run's: 2/5 does every fifth one, from the second on. The
        run that finds all shares done writes the lists.
    test
        Share of the pairs to put into a test split, by whole scenes; 0 makes none.
    """

    out: Path
    workers: int | None = None
    shard: str = "1/1"
    test: float = 0.0

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 0, "workers", self.workers, "is negative")
        require(0 <= self.test < 1, "test", self.test, "must be at least 0 and below 1")
        self.part  # noqa: B018 - refuses a shard that is none

    @property
    def part(self) -> slice:
        """The clips of the shard, among all in order.

        Raises
        ------
        FlowmagError
            If the shard is not of the form i/n with 1 ≤ i ≤ n.
        """
        first, slash, count = self.shard.partition("/")
        if slash and first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count):
            return slice(int(first) - 1, None, int(count))
        raise FlowmagError(
            f"setting shard = {self.shard}: give i/n with i from 1 to n, such as 1/4"
        )
