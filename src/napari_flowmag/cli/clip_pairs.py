"""The frame pairs of a training run that is given clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.config import plain
from napari_flowmag.train.prepare.config import PrepareConfig, SelectionConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from napari_flowmag.train.data import PairFolder

_FEW = 5
"""Most pairs of a clip that a dry run looks at."""


def pairs_of_clips(
    source: Path,
    out: Path,
    selection: SelectionConfig,
    crop: int,
    workers: int,
    saved: dict[str, Any] | None,
    fabric: Fabric,
) -> PairFolder:
    """Prepare the pairs of clips in the folder of a run; the first of its processes does it.

    Parameters
    ----------
    source
        Folder of clips, or a clip.
    out
        Where pairs go. What an earlier start left there is used as far as it is of the same clips
        and settings.
    selection
        Which pairs.
    crop
        Shortest side that pictures must have, in px.
    workers
        Processes that measure clips.
    saved
        Settings that a run which goes on began with: its pairs stay as they are.
    fabric
        What connects the processes of the run.

    Raises
    ------
    FlowmagError
        If clips or pairs cannot be used, or the pairs of a run that goes on are of other clips, or
        chosen otherwise, than is asked for now.
    """
    from napari_flowmag.train.data import open_pairs

    if saved is not None:
        _check_same(saved, {"data": str(source)} | plain(selection))
    with fabric.rank_zero_first():
        done = saved is not None and (out / "train_fn.json").is_file()
        if fabric.is_global_zero and not done:
            _prepare(source, out, selection, workers)
        return open_pairs(out, crop)


def few_pairs(
    source: Path, out: Path, selection: SelectionConfig, crop: int, workers: int
) -> PairFolder:
    """Prepare a few pairs of each clip, in a folder that will be gone when anybody looks.

    Parameters
    ----------
    source, out, selection, crop, workers
        As of :func:`pairs_of_clips`.

    Raises
    ------
    FlowmagError
        If clips or pairs cannot be used.
    """
    from napari_flowmag.train.data import open_pairs
    from napari_flowmag.train.prepare.merge import NothingFitError

    few = replace(selection, pairs_per_clip=min(selection.pairs_per_clip, _FEW))
    try:
        _prepare(source, out, few, workers)
    except NothingFitError:
        raise FlowmagError(
            f"no frame pair is fit to learn from, of the {few.pairs_per_clip} of each clip that a "
            "dry run looks at; `flowmag-train prepare CLIP -o OUT` shows why, in OUT/index.html"
        ) from None
    return open_pairs(out, crop)


def _prepare(source: Path, out: Path, selection: SelectionConfig, workers: int) -> None:
    from napari_flowmag.cli.prepare import report_line
    from napari_flowmag.train.prepare.build import prepare

    prepare([source], selection, PrepareConfig(out, workers), report_line)


def _check_same(saved: dict[str, Any], asked: dict[str, Any]) -> None:
    for name, value in asked.items():
        if name in saved and saved[name] != value:
            raise FlowmagError(
                f"{name} = {value}: the pairs of this run were made with {saved[name]}; leave it "
                "out, or begin a new run in another folder"
            )
