"""Which frame pairs are fit to learn from, and how a folder of clips becomes such pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_flowmag.atomic import write_atomically
from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.config import SelectionConfig
from napari_flowmag.train.data import spread

if TYPE_CHECKING:
    from napari_flowmag.clip import Clip

Report = Callable[[str], None]


@dataclass(frozen=True)
class PairStatistics:
    """What decides whether a pair is fit.

    Attributes
    ----------
    p999, p80, p001 : float
        Percentiles 99.9, 80 and 0.01 of the motion's magnitude in px.
    mse : float
        Mean squared difference of the frames in grey levels of 255.
    """

    p999: float
    p80: float
    p001: float
    mse: float


def measure_pair(first: Tensor, second: Tensor, flow: nn.Module) -> PairStatistics:
    """Measure a pair.

    Parameters
    ----------
    first, second
        (C, H, W) in [0, 1], C = 1 or 3.
    flow
        From :func:`~napari_flowmag.flow.load_flow`.
    """
    with torch.no_grad():
        motion = flow(first[None], second[None])[0]
    magnitude = torch.hypot(motion[0], motion[1]).numpy()
    p999, p80, p001 = (float(p) for p in np.percentile(magnitude, (99.9, 80, 0.01)))
    return PairStatistics(p999, p80, p001, float((255 * (second - first)).square().mean()))


def is_fit(statistics: PairStatistics, config: SelectionConfig) -> bool:
    """Tell whether a pair lies inside the paper's bounds (appendix: data)."""
    return (
        statistics.p999 <= config.max_p999
        and statistics.p80 <= config.max_p80
        and statistics.p001 <= config.max_p001
        and statistics.mse > config.min_mse
    )


def select_pairs(source: Path, out: Path, config: SelectionConfig, report: Report) -> None:
    """Write the fit pairs of clips in the authors' layout, ``out/train`` and ``out/train_fn.json``.

    The list is written last: where it is there, the pairs are complete.

    Parameters
    ----------
    source
        A clip, or a folder of clips: files and folders of images that
        :func:`~napari_flowmag.io.read_clip` reads.
    out
        Where to write.
    config
        Which pairs to look at, and what makes them fit.
    report
        Takes one line for each clip; clips that cannot be read are reported and passed over.

    Raises
    ------
    FlowmagError
        If there is no clip, or not one fit pair in all of them.
    """
    from napari_flowmag.flow import load_flow

    clips = find_clips(source)
    flow = load_flow(config.selection_flow)
    names: list[str] = []
    for index, path in enumerate(clips):
        try:
            kept = list(_select_from(path, f"{index:04d}_{path.stem}", out, flow, config))
        except FlowmagError as error:
            report(f"passed over: {error}")
            continue
        report(f"{path.name}: {len(kept)} fit pairs")
        names += kept
    if not names:
        raise FlowmagError(
            f"{source}: no frame pair is fit to learn from; see the bounds max_p999, max_p80, "
            "max_p001 and min_mse"
        )
    write_atomically(out / "train_fn.json", json.dumps(names).encode())


def find_clips(source: Path) -> list[Path]:
    """List the clips of a folder and its subfolders, in order of their names.

    Raises
    ------
    FlowmagError
        If there are none.
    """
    if not source.exists():
        raise FlowmagError(f"{source}: no such file or folder")
    clips = list(_walk(source))
    if not clips:
        raise FlowmagError(f"{source}: holds neither frame pairs (train/frameA …) nor clips")
    return clips


def _walk(path: Path) -> Iterator[Path]:
    from napari_flowmag.io import is_clip

    if path.is_file() or (is_clip(path) and not _holds_clips(path)):
        if is_clip(path):
            yield path
    else:
        for child in sorted(path.iterdir()):
            yield from _walk(child)


def _holds_clips(folder: Path) -> bool:
    """Tell a folder of clips from a clip that is a folder of single pictures."""
    from napari_flowmag.io import is_clip, read_clip

    kinds = {p.suffix.lower(): p for p in sorted(folder.iterdir()) if p.is_file() and is_clip(p)}
    try:
        return any(len(read_clip(path)) > 1 for path in kinds.values())
    except FlowmagError:
        return True  # a damaged file is reported when its turn comes


def _select_from(
    path: Path, name: str, out: Path, flow: nn.Module, config: SelectionConfig
) -> Iterator[str]:
    import tifffile

    from napari_flowmag.io import read_clip

    clip = read_clip(path)
    low, high = _value_range(clip)
    candidates = [(t, s) for s in config.strides for t in range(len(clip) - s)]
    for index in spread(len(candidates), config.pairs_per_clip) if candidates else ():
        start, stride = candidates[index]
        frames = (_planes(clip.frame(t), clip.axes) for t in (start, start + stride))
        for plane, pair in enumerate(zip(*frames, strict=True)):
            first, second = (_scaled(picture, low, high) for picture in pair)
            if not is_fit(measure_pair(_tensor(first), _tensor(second), flow), config):
                continue
            file = f"{name}_p{plane}_t{start:06d}_s{stride}.tif"
            for side, picture in (("frameA", first), ("frameB", second)):
                folder = out / "train" / side
                folder.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(folder / file, picture, compression="zlib")
            yield file


def _planes(frame: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return the pictures of one time point as (N, H, W) or (N, H, W, 3): each Z and channel."""
    if axes.endswith("S"):
        return frame[..., :3].reshape(-1, *frame.shape[-3:-1], 3)
    return frame.reshape(-1, *frame.shape[-2:])


def _value_range(clip: Clip) -> tuple[float, float]:
    from napari_flowmag.clip import finite_range

    return (0.0, 255.0) if clip.dtype == np.uint8 else finite_range(clip)


def _scaled(picture: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Return 8-bit pictures as they are, others with the clip's values on 0 … 65535."""
    if picture.dtype == np.uint8:
        return picture
    share = (picture.astype(np.float64) - low) / max(high - low, 1e-12)
    return np.round(np.nan_to_num(share).clip(0, 1) * 65535).astype(np.uint16)


def _tensor(picture: NDArray[Any]) -> Tensor:
    values = torch.from_numpy(picture.astype(np.float32) / np.iinfo(picture.dtype).max)
    return values[None] if values.ndim == 2 else values.movedim(-1, 0).contiguous()
