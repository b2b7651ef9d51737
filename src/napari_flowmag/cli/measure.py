"""``flowmag measure``: how far regions move, how often, and by what factor they were magnified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari_flowmag.measure import Factor
    from napari_flowmag.motion import Motion


def measure(
    clip: Annotated[
        Path, typer.Argument(metavar="CLIP", help="The clip to measure.", show_default=False)
    ],
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Picture of the regions: each number is one. Without it: the whole frame.",
            show_default=False,
        ),
    ] = None,
    magnified: Annotated[
        Path | None,
        typer.Option(
            metavar="CLIP",
            help="The magnified clip: tells by what factor each region was magnified.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Table of all displacements, .csv.", show_default=False
        ),
    ] = None,
    reference: Annotated[
        int | None, typer.Option(help="Frame from which motion is measured; the first by default.")
    ] = None,
    channel: Annotated[int | None, typer.Option(help="Channel, from 0. Without it: all.")] = None,
    z: Annotated[int, typer.Option(help="Slice of a clip with depth, from 0.")] = 0,
    start: Annotated[int, typer.Option(help="First frame, from 0.")] = 0,
    stop: Annotated[int | None, typer.Option(help="The frame after the last one.")] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second, where the file does not know them.")
    ] = None,
    search: Annotated[
        int, typer.Option(metavar="PX", help="Largest displacement that is looked for.")
    ] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Measure how far regions move as wholes, to a hundredth of a pixel."""
    from napari_flowmag.cli.kymograph import pictures_of
    from napari_flowmag.io import read_clip
    from napari_flowmag.motion import measure_motion, write_motion
    from napari_flowmag.strength import read_mask

    if search < 1:
        raise FlowmagError(f"--search {search}: give 1 px or more")
    if output is not None and output.suffix.lower() != ".csv":
        raise FlowmagError(f"{output}: give a name that ends in .csv")
    source = read_clip(clip, fps=fps)
    regions = None if mask is None else read_mask(mask)
    at = start if reference is None else reference
    (first,) = pictures_of(source, channel, z, at, at + 1)
    frames = list(pictures_of(source, channel, z, start, stop))
    motions = measure_motion(first, frames, regions, fps=source.fps, search=search)
    factors: list[Factor | None] = [None] * len(motions)
    if magnified is not None:
        after = list(pictures_of(read_clip(magnified), channel, z, start, stop))
        if len(after) != len(frames) or after[0].shape != frames[0].shape:
            raise FlowmagError(f"{magnified}: differs from {clip} in size or number of frames")
        moved = measure_motion(first, after, regions, search=search)
        factors = [_factor(one, other) for one, other in zip(motions, moved, strict=True)]
    size = source.pixel_size[-1] if source.pixel_size else 1.0
    unit = source.unit or "px"
    if output is not None:
        write_motion(output, motions, start=start, size=size, unit=unit)
    rows = [_row(m, f, size, unit) for m, f in zip(motions, factors, strict=True)]
    print(json.dumps(rows) if as_json else "\n".join(_line(row) for row in rows))


def _factor(before: Motion, after: Motion) -> Factor | None:
    """Return the achieved factor, None where the region moves too little to have one."""
    from napari_flowmag.measure import factor_between

    try:
        return factor_between(before.displacement, after.displacement)
    except FlowmagError:
        return None


def _row(motion: Motion, factor: Factor | None, size: float, unit: str) -> dict[str, Any]:
    found = motion.frequency()
    return {
        "region": motion.label,
        "frames": len(motion.displacement),
        "largest_px": motion.largest,
        "largest": size * motion.largest,
        "unit": unit,
        "frequency_hz": None if found is None else found[0],
        "amplitude_px": None if found is None else found[1],
        "factor": None if factor is None else factor.value,
        "factor_low": None if factor is None else factor.low,
        "factor_high": None if factor is None else factor.high,
    }


def _line(row: dict[str, Any]) -> str:
    name = f"region {row['region']}" if row["region"] else "whole frame"
    parts = [f"{name}: moves by up to {row['largest_px']:.3f} px"]
    if row["unit"] != "px":
        parts[0] += f" ({row['largest']:.4g} {row['unit']})"
    if row["frequency_hz"] is not None:
        parts.append(f"mostly at {row['frequency_hz']:.4g} Hz, {row['amplitude_px']:.3f} px there")
    if row["factor"] is not None:
        evidence = f"{row['factor_low']:.2f} to {row['factor_high']:.2f}"
        parts.append(f"magnified by {row['factor']:.2f} ({evidence})")
    return "; ".join(parts)
