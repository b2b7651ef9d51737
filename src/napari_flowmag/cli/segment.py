"""``flowmag segment``: a mask from points and boxes on one frame."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from napari_flowmag.errors import FlowmagError

_LARGEST = 65535
"""The largest label: masks are written as 16 bit."""


def segment(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="The clip.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Mask to write, such as mask.tif or mask.png.",
            show_default=False,
        ),
    ],
    point: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="A point of the object, px from 0.")
    ] = None,
    not_point: Annotated[
        list[str] | None, typer.Option(metavar="X,Y", help="A point outside of the object.")
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X0,Y0,X1,Y1", help="A box around the object, or a part of it."),
    ] = None,
    frame: Annotated[int, typer.Option(help="Frame on which the points lie, from 0.")] = 0,
    z: Annotated[int, typer.Option(help="Slice of a clip with depth, from 0.")] = 0,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|vit_b|vit_l|vit_h",
            help="Segment Anything with this checkpoint, downloaded if it is named. Without it a "
            "method that needs no weights.",
        ),
    ] = None,
    grow: Annotated[
        float, typer.Option(metavar="PX", help="Grow the mask; shrink it if negative.")
    ] = 0.0,
    label: Annotated[int, typer.Option(help="Number that the object gets in the mask.")] = 1,
    add_to: Annotated[
        Path | None, typer.Option(metavar="MASK", help="A mask to add the object to.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Find an object from points and boxes, as a mask for flowmag magnify."""
    from napari_flowmag.cli.outputs import check_output
    from napari_flowmag.frames import as_frames
    from napari_flowmag.io import LOSSY, read_clip
    from napari_flowmag.segment import Outline, Prompt

    prompt = Prompt(
        tuple(_swap(_numbers("--point", text, 2)) for text in point or []),
        tuple(_swap(_numbers("--not-point", text, 2)) for text in not_point or []),
        tuple(_box(_numbers("--box", text, 4)) for text in box or []),
    )
    if not 1 <= label <= _LARGEST:
        raise FlowmagError(f"--label {label}: give a number from 1 to {_LARGEST}")
    if not math.isfinite(grow):
        raise FlowmagError(f"--grow {grow}: give a number of px")
    if output.suffix.lower() in LOSSY:
        raise FlowmagError(f"{output}: labels must come back as they are: write .tif or .png")
    check_output(output, clip)
    source = read_clip(clip)
    frames = as_frames(source.frames, source.axes)
    if not 0 <= frame < len(frames) or not 0 <= z < frames.sizes.get("Z", 1):
        raise FlowmagError(f"frame {frame}, slice {z}: {clip} has none such, counted from 0")
    picture = frames.planes(frame)[z][..., list(frames.channels)]
    if picture.shape[-1] != 3:
        picture = picture.mean(axis=-1)
    segmenter = _segmenter(checkpoint, device)
    found = segmenter.segment(segmenter.prepare(picture, lambda: None), prompt)
    if not found.any():
        raise FlowmagError("nothing was found there: give more points, or a box")
    found = Outline(found).moved(grow)
    if not found.any():
        raise FlowmagError(f"--grow {grow:g}: nothing is left of the object: shrink it by less")
    labels = np.zeros(found.shape, np.uint16) if add_to is None else _labels(add_to, found.shape)
    labels[found] = label
    _write(labels, output)
    rows, columns = np.nonzero(found)
    summary = {
        "output": str(output),
        "label": label,
        "pixels": int(found.sum()),
        "box": [int(v) for v in (columns.min(), rows.min(), columns.max(), rows.max())],
    }
    print(
        json.dumps(summary)
        if as_json
        else f"{output}: label {label}, {summary['pixels']} px within {summary['box']}"
    )


def _write(labels: NDArray[np.uint16], output: Path) -> None:
    from napari_flowmag.atomic import write_atomically
    from napari_flowmag.clip import Clip
    from napari_flowmag.io import write_clip

    if output.suffix.lower() == ".png":
        import imagecodecs

        write_atomically(output, bytes(imagecodecs.png_encode(labels)))
    else:
        write_clip(Clip.from_array(labels[None], "TYX", name=output.stem), output)


def _labels(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Read a mask to add an object to; only what it holds now can be written again."""
    from napari_flowmag.strength import read_mask

    values = read_mask(path)
    if values.shape != shape:
        raise FlowmagError(f"{path} has shape {values.shape}, the frames {shape}")
    if not bool(((values >= 0) & (values <= _LARGEST) & (values == np.floor(values))).all()):
        raise FlowmagError(
            f"{path} holds more than labels: give a mask of whole numbers from 0 to {_LARGEST}"
        )
    return values.astype(np.uint16)


def _segmenter(checkpoint: str | None, device: str) -> Any:
    if checkpoint is None:
        from napari_flowmag.segment.classical import AppearanceSegmenter

        return AppearanceSegmenter()
    from napari_flowmag.cli.progress import progress_bar
    from napari_flowmag.segment.checkpoints import CHECKPOINTS, fetch_checkpoint
    from napari_flowmag.segment.sam import SamSegmenter

    path = Path(checkpoint)
    if checkpoint in CHECKPOINTS:
        with progress_bar("download", 0) as progress:
            path = fetch_checkpoint(checkpoint, progress=progress)
    return SamSegmenter(path, device)


def _numbers(option: str, text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        raise FlowmagError(f"{option} {text}: give {count} numbers with commas between them")
    return values


def _swap(point: tuple[float, ...]) -> tuple[float, float]:
    return point[1], point[0]


def _box(values: tuple[float, ...]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = values
    return min(y0, y1), min(x0, x1), max(y0, y1), max(x0, x1)
