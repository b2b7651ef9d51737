"""``flowmag measure``: how far regions move, how often, and by what factor they were magnified."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from napari_flowmag.cli.excerpt import Excerpt
    from napari_flowmag.clip import Clip
    from napari_flowmag.measure import Factor, UnmeasurableError
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
    z: Annotated[
        int | None, typer.Option(help="Slice of a clip with depth, from 0. Without it: the first.")
    ] = None,
    start: Annotated[int | None, typer.Option(help="First frame, from 0.")] = None,
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
    from napari_flowmag.cli.excerpt import choose
    from napari_flowmag.cli.kymograph import pictures_of
    from napari_flowmag.cli.outputs import check_output
    from napari_flowmag.cli.remarks import one_frame, remark_on
    from napari_flowmag.io import read_clip
    from napari_flowmag.motion import measure_motion, write_motion
    from napari_flowmag.strength import read_mask

    if search < 1:
        raise FlowmagError(f"--search {search}: give 1 px or more")
    if output is not None:
        if output.suffix.lower() != ".csv":
            raise FlowmagError(f"{output}: give a name that ends in .csv")
        check_output(output, clip, mask, magnified)
    source = read_clip(clip, fps=fps)
    if len(source) == 1:
        raise FlowmagError(f"{clip}: {one_frame(source)}")
    remark_on(source, clip)
    after = None if magnified is None else read_clip(magnified)
    part = choose(source, after, start, stop, z)
    at = _reference(part, reference, after is not None)
    if not 0 <= at < len(source):
        raise FlowmagError(f"--reference {at}: {clip} has {len(source)} frames, counted from 0")
    (first,) = pictures_of(source, channel, part.z, at, at + 1)
    search = min(search, max(np.shape(first)[:2]))  # farther away nothing is in view any more
    regions = _with_structure(first, None if mask is None else read_mask(mask), search)
    frames = pictures_of(source, channel, part.z, part.start, part.stop)
    motions = measure_motion(
        first, frames, regions, fps=source.fps, search=search, start=part.start
    )
    moved = None
    if after is not None:
        there = (part.start - part.shift, part.stop - part.shift)
        frames = _like(pictures_of(after, channel, part.second_z, *there), first, magnified)
        lost: dict[int, UnmeasurableError] = {}  # such as torn by too large a factor
        moved = measure_motion(first, frames, regions, search=search, start=there[0], lost=lost)
        for reason in lost.values():
            print(f"{magnified}: {reason}; no factor", file=sys.stderr)
    asked = None if after is None else _asked(after)
    factors = _factors(motions, moved, search, asked)
    height, width = source.pixel_shape
    unit = source.unit or "px"
    # Pixels need not be as high as wide: each component has a size of its own.
    scaled = [replace(m, displacement=m.displacement * (width, height)) for m in motions]
    if output is not None:
        write_motion(output, scaled, start=part.start, unit=unit)
    rows = [_row(*of, unit) for of in zip(motions, scaled, factors, strict=True)]
    print(json.dumps(rows) if as_json else "\n".join(_line(row) for row in rows))


def _reference(part: Excerpt, asked: int | None, compared: bool) -> int:
    """Return the frame from which motion is measured: there the magnified clip is as it was."""
    if isinstance(part.reference, str):
        raise FlowmagError(
            f"no factor can be measured of what was magnified with --reference {part.reference}: "
            "magnify from one frame, such as the first"
        )
    if None not in (asked, part.reference) and asked != part.reference:
        raise FlowmagError(
            f"--reference {asked}: motion was magnified from frame {part.reference}; leave it out"
        )
    if part.reference is not None:
        return part.reference
    if asked is not None:
        return asked
    return part.shift if compared else part.start


def _with_structure(first: Any, mask: NDArray[Any] | None, search: int) -> NDArray[Any] | None:
    """Return the mask without the regions in which nothing can be measured, and name those."""
    from napari_flowmag.measure import displacements
    from napari_flowmag.motion import regions_of

    reasons = {}
    regions = regions_of(mask)
    for label, region in regions.items():
        try:
            displacements(first, (), region, search=search)
        except FlowmagError as error:
            reasons[label] = f"region {label}: {error}" if label else str(error)
    if len(reasons) == len(regions):
        raise FlowmagError(next(iter(reasons.values())))
    if mask is None or not reasons:
        return mask
    for reason in reasons.values():
        print(f"{reason}; it is left out", file=sys.stderr)
    return np.where(np.isin(mask, list(reasons)), 0, mask)


def _like(frames: Iterable[Any], first: Any, path: Path | None) -> Iterator[Any]:
    """Refuse pictures of another shape."""
    for frame in frames:
        if np.shape(frame) != np.shape(first):
            raise FlowmagError(
                f"{path}: pictures of shape {np.shape(frame)}, the clip's are of "
                f"{np.shape(first)}: magnify into a .tif or .ome.zarr file, which keeps size and "
                "channels; videos are in colour, and their sizes even"
            )
        yield frame


def _asked(after: Clip) -> float | None:
    """Return the factor that a clip was magnified by, where it tells."""
    made = (after.metadata.get("provenance") or {}).get("settings") or {}
    alpha = made.get("alpha")
    return alpha if isinstance(alpha, float | int) and not made.get("mask") else None


def _factors(
    motions: list[Motion], moved: list[Motion] | None, search: int, asked: float | None
) -> list[Factor | None]:
    """Return the factor of each region, None where there is none.

    Its motion is too small or too far, or cannot be measured in the magnified clip.
    """
    # Beyond the search lies what is not looked for, and whatever resembles it is found instead.
    reaches = [(motion.label, motion, 1.0, "") for motion in motions]
    reaches += [(motion.label, motion, asked or 0.0, ", magnified,") for motion in motions]
    reaches += [(motion.label, motion, 1.0, ", magnified,") for motion in moved or ()]
    far: dict[int, str] = {}
    for label, motion, times, which in reaches:
        if times * np.abs(motion.displacement).max() >= search - 0.5:
            far.setdefault(label, which)
    for label, which in sorted(far.items()):
        name = f"region {label}" if label else "the frame"
        print(
            f"{name}{which} moves as far as --search looks, {search} px: raise it", file=sys.stderr
        )
    if moved is None:
        return [None] * len(motions)
    others = {motion.label: motion for motion in moved if motion.label not in far}
    return [_factor(motion, others.get(motion.label)) for motion in motions]


def _factor(before: Motion, after: Motion | None) -> Factor | None:
    from napari_flowmag.measure import factor_between

    if after is None:
        return None
    try:
        return factor_between(before.displacement, after.displacement)
    except FlowmagError:
        return None


def _row(motion: Motion, scaled: Motion, factor: Factor | None, unit: str) -> dict[str, Any]:
    found = motion.frequency()
    return {
        "region": motion.label,
        "frames": len(motion.displacement),
        "largest_px": motion.largest,
        "largest": scaled.largest,
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
        # Added to 0, what rounds to -0.00 does not.
        factor, low, high = (
            round(row[name], 2) + 0.0 for name in ("factor", "factor_low", "factor_high")
        )
        parts.append(f"magnified by {factor:.2f} ({low:.2f} to {high:.2f})")
    return "; ".join(parts)
