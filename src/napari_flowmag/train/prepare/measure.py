"""From one clip to its result and the pictures of its pairs; the work of a process."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import nn

from napari_flowmag.atomic import replacing
from napari_flowmag.device import is_out_of_memory
from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.data import spread
from napari_flowmag.train.prepare.config import SelectionConfig
from napari_flowmag.train.prepare.duplicates import REPEATED, find_duplicates, sign
from napari_flowmag.train.prepare.layout import FOLDER, SIDES, SPLITS
from napari_flowmag.train.prepare.pictures import (
    encoded,
    pair_thumbnails,
    planes,
    scaled,
    suffix,
    to_tensor,
)
from napari_flowmag.train.prepare.results import ClipResult, PairResult, write_result
from napari_flowmag.train.prepare.sampling import candidates, over_the_cap
from napari_flowmag.train.prepare.scenes import Range, scan
from napari_flowmag.train.prepare.sources import Source
from napari_flowmag.train.prepare.statistics import measure_pair, motion_magnitude, rejection

if TYPE_CHECKING:
    from napari_flowmag.clip import Clip

Pictures = tuple[NDArray[Any], NDArray[Any]]
Reader = Callable[[int], list[NDArray[Any]]]

_REMEMBERED = 200_000_000
"""Bytes of time points that are kept: pairs of several strides share them."""


@dataclass(frozen=True)
class Job:
    """A clip to look at.

    Attributes
    ----------
    source : Source
        The clip.
    out : Path
        Folder of the set.
    key : str
        That of the result.
    shown : int
        Most kept pairs, and most rejected ones, that get thumbnails.
    """

    source: Source
    out: Path
    key: str
    shown: int

    @property
    def result_path(self) -> Path:
        """Where the result goes."""
        return self.out / FOLDER / f"{self.source.name}.jsonl"


def start_measuring(config: SelectionConfig) -> Callable[[Job], str]:
    """Return the function that does a clip, with the flow estimator loaded once.

    It computes with one thread, so that the figures do not depend on the number of processes, and
    writes the pictures of the kept pairs, then the result. It returns a line on how it went.
    """
    from napari_flowmag.flow import load_flow

    flow = load_flow(config.selection_flow)

    def do(job: Job) -> str:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return _do(job, flow, config).summary
        finally:
            torch.set_num_threads(threads)

    return do


def _do(job: Job, flow: nn.Module, config: SelectionConfig) -> ClipResult:
    from napari_flowmag.io import read_clip

    job.result_path.unlink(missing_ok=True)
    try:
        clip = read_clip(job.source.path)
        found = scan(clip)
        read = _reader(clip, found.ranges)
        pairs = _selected(read, found.scenes, flow, config, job.source.name)
        pairs = _with_thumbnails(pairs, read, flow, job.shown)
        for pair in pairs:
            if pair.reason is None:
                _write_pictures(job.out, str(pair.file), _pictures(read, pair.frames)[pair.plane])
        result = ClipResult(
            job.source.label,
            job.key,
            frames=len(clip),
            size=(clip.sizes["X"], clip.sizes["Y"]),
            scenes=tuple(scene.start for scene in found.scenes),
            pairs=tuple(pairs),
        )
    # What cannot be written is an OSError, and ends the run.
    except (FlowmagError, MemoryError, RuntimeError) as error:
        full = is_out_of_memory(error)
        if not (full or isinstance(error, FlowmagError)):
            raise
        reason = f"{job.source.path}: not enough memory for it" if full else str(error)
        # As it is called, not where it lies: that may be elsewhere the next time.
        reason = " ".join(reason.split()).replace(str(job.source.path), job.source.label)
        result = ClipResult(job.source.label, job.key, error=reason)
    write_result(job.result_path, result)
    return result


def _reader(clip: Clip, ranges: Sequence[Range]) -> Reader:
    """Return the function that reads a time point: the picture of each plane, scaled."""
    size = 2 * math.prod(clip.shape[1:])

    @functools.lru_cache(max(2, min(16, _REMEMBERED // size)))
    def read(t: int) -> list[NDArray[Any]]:
        pictures = planes(clip.frame(t), clip.axes)
        return [scaled(p, low, high) for p, (low, high) in zip(pictures, ranges, strict=True)]

    return read


def _pictures(read: Reader, frames: tuple[int, int]) -> list[Pictures]:
    """Read both pictures of each plane."""
    return list(zip(*map(read, frames), strict=True))


def _selected(
    read: Reader, scenes: Sequence[range], flow: nn.Module, config: SelectionConfig, name: str
) -> list[PairResult]:
    """Measure the candidates of a clip, and say of each whether it is kept."""
    pairs: list[PairResult] = []
    for one in candidates(scenes, config.strides, config.pairs_per_clip):
        frames = (one.first, one.second)
        for plane, pictures in enumerate(_pictures(read, frames)):
            first, second = (to_tensor(picture) for picture in pictures)
            statistics = measure_pair(first, second, motion_magnitude(first, second, flow))
            reason = rejection(statistics, config)
            pair = PairResult(one.scene, plane, frames, statistics, reason)
            if reason is None:
                ending = suffix(pictures[0].dtype)
                file = f"{name}_p{plane}_t{one.first:06d}_s{one.stride}{ending}"
                pair = replace(pair, file=file, signature=sign(first, second))
            pairs.append(pair)
    return _without_too_many(_without_repeated(pairs, config.duplicate), config.pairs_per_scene)


def _without_repeated(pairs: list[PairResult], tolerance: float) -> list[PairResult]:
    """Reject the pairs that repeat an earlier one of the clip."""
    fit = [(i, pair.signature) for i, pair in enumerate(pairs) if pair.signature]
    twins = find_duplicates([signature for _, signature in fit], min(tolerance, REPEATED))
    reasons = {
        i: f"duplicate of {pairs[fit[twin][0]].file}"
        for (i, _), twin in zip(fit, twins, strict=True)
        if twin is not None
    }
    return _rejected(pairs, reasons)


def _without_too_many(pairs: list[PairResult], most: int | None) -> list[PairResult]:
    """Reject what a scene has too much of."""
    fit = [i for i, pair in enumerate(pairs) if pair.reason is None]
    # So that what is spread over this order is spread over planes and strides as over time.
    fit.sort(key=lambda i: (pairs[i].plane, pairs[i].stride, pairs[i].frames))
    excess = over_the_cap([pairs[i].scene for i in fit], most)
    reason = f"pairs_per_scene: its scene has more than {most}"
    return _rejected(pairs, {fit[i]: reason for i in excess})


def _rejected(pairs: list[PairResult], reasons: dict[int, str]) -> list[PairResult]:
    return [
        replace(pair, reason=reasons[i], file=None, signature=None) if i in reasons else pair
        for i, pair in enumerate(pairs)
    ]


def _with_thumbnails(
    pairs: list[PairResult], read: Reader, flow: nn.Module, shown: int
) -> list[PairResult]:
    """Draw some of the kept and some of the rejected pairs, of every reason and time."""
    kept = [i for i, pair in enumerate(pairs) if pair.reason is None]
    rejected = [i for i, pair in enumerate(pairs) if pair.reason is not None]
    rejected.sort(key=lambda i: (str(pairs[i].reason).split()[0], i))
    drawn = list(pairs)
    for group in (kept, rejected):
        for place in spread(len(group), shown) if group and shown else ():
            pair = pairs[group[place]]
            first, second = _pictures(read, pair.frames)[pair.plane]
            magnitude = motion_magnitude(to_tensor(first), to_tensor(second), flow)
            thumbnails = pair_thumbnails(first, second, magnitude, pair.statistics.p999)
            drawn[group[place]] = replace(pair, thumbnails=thumbnails)
    return drawn


def _write_pictures(out: Path, file: str, pictures: Pictures) -> None:
    for side, picture in zip(SIDES, pictures, strict=True):
        path = out / SPLITS[0] / side / file
        path.parent.mkdir(parents=True, exist_ok=True)
        for split in SPLITS[1:]:  # where an earlier run may have put it
            (out / split / side / file).unlink(missing_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(encoded(picture))
