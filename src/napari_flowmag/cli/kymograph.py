"""``flowmag kymograph``: what lies along a line, over time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari_flowmag.clip import Clip


def kymograph(
    clip: Annotated[
        Path, typer.Argument(metavar="CLIP", help="The clip to sample.", show_default=False)
    ],
    line: Annotated[
        str,
        typer.Option(
            metavar="X0,Y0,X1,Y1[,…]",
            help="Column and row, in px from 0, of the line's ends, and of corners between them.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Where to write: .png drawn with axes, .tif with its scale, .csv as a table.",
            show_default=False,
        ),
    ],
    width: Annotated[
        int, typer.Option(metavar="PX", help="Average across the line over this much.")
    ] = 1,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="CLIP", help="A second clip of the same size, such as the result."),
    ] = None,
    channel: Annotated[int | None, typer.Option(help="Channel, from 0. Without it: all.")] = None,
    z: Annotated[
        int | None, typer.Option(help="Slice of a clip with depth, from 0. Without it: the first.")
    ] = None,
    start: Annotated[int | None, typer.Option(help="First frame, from 0.")] = None,
    stop: Annotated[int | None, typer.Option(help="The frame after the last one.")] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames a second, where the file does not know them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Draw what lies along a line over time: an x-t slice."""
    from napari_flowmag.cli.excerpt import choose
    from napari_flowmag.cli.outputs import check_output
    from napari_flowmag.cli.remarks import remark_on
    from napari_flowmag.io import read_clip
    from napari_flowmag.kymograph import kymograph as sample
    from napari_flowmag.kymograph import sample_distance
    from napari_flowmag.kymograph_files import Kymograph, save_kymograph

    points = _line(line)
    check_output(output, clip, compare)
    first = read_clip(clip, fps=fps)
    remark_on(first, clip)
    second = None if compare is None else read_clip(compare, fps=fps)
    part = choose(first, second, start, stop, z)
    size = first.pixel_shape
    pictures = pictures_of(first, channel, part.z, part.start, part.stop)
    slices = {first.name: sample(pictures, points, width, pixel_size=size)}
    if second is not None:
        title = second.name if second.name != first.name else f"{second.name} (2)"
        there = (part.start - part.shift, part.stop - part.shift)
        pictures = pictures_of(second, channel, part.second_z, *there)
        slices[title] = sample(pictures, points, width, pixel_size=size)
    if len({values.shape for values in slices.values()}) > 1:
        raise FlowmagError(f"{clip} and {compare} differ in their number of channels")
    made = Kymograph(
        slices,
        fps=first.fps,
        distance=sample_distance(points, size),
        unit=first.unit or "px",
        start=part.start,
    )
    save_kymograph(output, made)
    frames, samples = next(iter(slices.values())).shape[:2]
    summary = {
        "output": str(output),
        "frames": frames,
        "samples": samples,
        "fps": made.fps,
        "distance": made.distance,
        "unit": made.unit,
    }
    from napari_flowmag.cli.remarks import counted

    print(
        json.dumps(summary)
        if as_json
        else f"{output}: {counted(frames)}, {samples} samples {made.distance:.4g} {made.unit} apart"
    )


def _line(text: str) -> list[tuple[float, float]]:
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) < 4 or len(values) % 2:
        raise FlowmagError(f"--line {text}: give x0,y0,x1,y1 in px, and more pairs for corners")
    return [(y, x) for x, y in zip(values[::2], values[1::2], strict=True)]


def pictures_of(
    clip: Clip, channel: int | None, z: int, start: int, stop: int | None
) -> Iterator[Any]:
    """Yield (H, W) or (H, W, C) of the chosen channel and slice."""
    from napari_flowmag.frames import as_frames

    frames = as_frames(clip.frames, clip.axes)
    last = len(frames) if stop is None else stop
    if not 0 <= start < last <= len(frames):
        raise FlowmagError(
            f"frames {start} to {last}: {clip.name} has {len(frames)}, counted from 0"
        )
    depth, count = frames.sizes.get("Z", 1), len(frames.channels)
    if not 0 <= z < depth:
        raise FlowmagError(f"slice {z}: {clip.name} has {depth}, counted from 0")
    if channel is not None and not 0 <= channel < count:
        raise FlowmagError(f"channel {channel}: {clip.name} has {count}, counted from 0")
    for t in range(start, last):
        picture = frames.planes(t)[z][..., list(frames.channels)]
        if channel is not None:
            picture = picture[..., channel]
        yield picture[..., 0] if picture.ndim == 3 and count == 1 else picture
