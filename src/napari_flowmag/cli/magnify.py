"""``flowmag magnify``: from a clip in a file to its magnified clip in another."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_flowmag.errors import FlowmagError
from napari_flowmag.settings import MagnifySettings

if TYPE_CHECKING:
    from napari_flowmag.adapt.outcome import Adapted
    from napari_flowmag.clip import Clip
    from napari_flowmag.magnification import Magnification

_REGION, _TIME, _WORK = "Where", "When", "How it is computed"


def magnify(
    clip: Annotated[
        Path,
        typer.Argument(
            metavar="CLIP",
            help="TIFF stack, OME-Zarr, video or folder of pictures.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Where to write: .tif, .ome.zarr, .mp4, or no suffix for a folder of PNG files. "
            "An older file of that name is replaced.",
            show_default=False,
        ),
    ],
    alpha: Annotated[
        float,
        typer.Option(
            help="Motion comes out ALPHA times as large; 1 changes nothing, 0 holds still.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A model's name (see flowmag models), perhaps with its option, or a checkpoint."
        ),
    ] = "default",
    reference: Annotated[
        str,
        typer.Option(
            metavar="N|first|mean|median|previous",
            help="Frame from which motion is measured; N counts from 0, -1 is the last.",
        ),
    ] = "first",
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Picture of the frames' size, or a stack with one for each frame: motion is "
            "magnified where it is not 0.",
            rich_help_panel=_REGION,
        ),
    ] = None,
    label_alpha: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=ALPHA",
            help="Another ALPHA where the mask holds this number; may be given several times.",
            rich_help_panel=_REGION,
        ),
    ] = None,
    outside: Annotated[
        float,
        typer.Option(
            metavar="ALPHA",
            help="Magnification outside the mask: 1 leaves it as it is, 0 holds it still.",
            rich_help_panel=_REGION,
        ),
    ] = 1.0,
    soft: Annotated[
        float,
        typer.Option(
            metavar="PX",
            help="The mask grows: pixels closer than this to it count as inside.",
            rich_help_panel=_REGION,
        ),
    ] = 0.0,
    feather: Annotated[
        float,
        typer.Option(
            metavar="PX",
            help="Width of the edge over which the magnification fades out.",
            rich_help_panel=_REGION,
        ),
    ] = 0.0,
    motion_channels: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N]",
            help="Channels to see the motion in, from 0. Without it: all.",
            rich_help_panel=_REGION,
        ),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N]",
            help="Channels that are moved by it, the others stay as they are. Without it: all.",
            rich_help_panel=_REGION,
        ),
    ] = None,
    z: Annotated[
        int | None,
        typer.Option(
            help="Magnify this slice of a clip with depth alone, from 0. Without it: all slices.",
            rich_help_panel=_REGION,
        ),
    ] = None,
    start: Annotated[
        int | None, typer.Option(help="First frame, from 0.", rich_help_panel=_TIME)
    ] = None,
    stop: Annotated[
        int | None, typer.Option(help="The frame after the last one.", rich_help_panel=_TIME)
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            help="Frames a second at which the clip was recorded, where the file does not know it.",
            rich_help_panel=_TIME,
        ),
    ] = None,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Show the original on the left.")
    ] = False,
    value_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Values that the model sees as black and white. Without it: 0,255 for 8 bit, else "
            "what the clip holds.",
            rich_help_panel=_WORK,
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", rich_help_panel=_WORK)] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="auto|float32|bfloat16|float16", rich_help_panel=_WORK)
    ] = "auto",
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Largest side that the model sees at once; 0 for whole frames. Without it: whole "
            "frames up to 2 megapixels.",
            rich_help_panel=_WORK,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Frames at once. Without it: as many as the model and the device gain by.",
            rich_help_panel=_WORK,
        ),
    ] = None,
    adapt: Annotated[
        int | None,
        typer.Option(
            metavar="STEPS",
            help="Fine-tune the model on this clip first, for so many steps (see flowmag adapt).",
            rich_help_panel=_WORK,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make the motion in a clip larger, or smaller."""
    settings = MagnifySettings(
        alpha=alpha,
        mask=mask,
        label_alphas=_label_alphas(label_alpha or []),
        outside=outside,
        soft=soft,
        feather=feather,
        model=model,
        reference=parse_reference(reference),
        motion_channels=numbers("--motion-channels", motion_channels, int),
        channels=numbers("--channels", channels, int),
        z=z,
        start=start,
        stop=stop,
        value_range=numbers("--value-range", value_range, float),
        device=device,
        precision=precision,
        tile=tile,
        batch=batch,
    )
    if fps is not None and not 0 < fps < float("inf"):
        raise FlowmagError(f"--fps {fps:g}: give a number above 0")
    summary = _run(clip, output, settings, fps, side_by_side, adapt)
    print(json.dumps(summary) if as_json else _sentence(summary))


def _run(
    path: Path,
    output: Path,
    settings: MagnifySettings,
    fps: float | None,
    side_by_side: bool,
    adapt: int | None,
) -> dict[str, Any]:
    from napari_flowmag.cli.outputs import check_output, try_to_write
    from napari_flowmag.cli.progress import progress_bar
    from napari_flowmag.cli.remarks import remark_on
    from napari_flowmag.io import open_writer, read_clip
    from napari_flowmag.magnify import magnify_clip

    check_output(output, path, settings.mask)
    clip = read_clip(path, fps=fps)
    remark_on(clip, path)
    start = partial(magnify_clip, clip, settings, notify=lambda line: print(line, file=sys.stderr))
    job = start()
    original = clip if settings.z is None else clip.at_depth(settings.z)
    original = original.replace(frames=original.frames[job.selected.start : job.selected.stop])
    left = original if side_by_side else None
    adaptation = {}
    if adapt is not None:
        try_to_write(output, original, left)
        adapted = _adapted(clip, settings, adapt)
        job = start(magnifier=adapted.magnifier)
        adaptation = {"adaptation": adapted.record}
    record = job.provenance() | adaptation
    with (
        open_writer(output, original, side_by_side=left, provenance=record) as writer,
        progress_bar("magnify", len(job)) as progress,
    ):
        started = time.perf_counter()
        for frame in job.frames(progress):
            writer.write(frame)
        seconds = time.perf_counter() - started
    return _summary(job, original, output, seconds, record)


def _adapted(clip: Clip, settings: MagnifySettings, steps: int) -> Adapted:
    from napari_flowmag.adapt import AdaptSettings
    from napari_flowmag.adapt.adaptation import Adaptation
    from napari_flowmag.cli.adapt import run_with_bar
    from napari_flowmag.errors import Cancelled

    chosen = AdaptSettings.for_magnification(settings, steps=steps)
    job = Adaptation(clip.frames, chosen, magnifier=settings.model, axes=clip.axes, name=clip.name)
    adapted = run_with_bar(job)
    if adapted.stopped == "cancelled":
        raise Cancelled
    print(f"adapted: {adapted.summary()}", file=sys.stderr)
    return adapted


def _summary(
    job: Magnification, clip: Clip, output: Path, seconds: float, record: dict[str, Any]
) -> dict[str, Any]:
    return {
        "output": str(output),
        "frames": len(job),
        "shape": list(job.shape),
        "axes": clip.axes,
        "dtype": str(job.dtype),
        "fps": clip.fps,
        "seconds": round(seconds, 3),
        "frames_per_second": round(len(job) / seconds, 3),
        "alpha": job.settings.alpha,
        "model": record["model"]["name"],
        "sha256": record["model"]["sha256"],
        "provenance": record,
    }


def _sentence(summary: dict[str, Any]) -> str:
    from napari_flowmag.cli.remarks import counted

    weights = summary["sha256"][:8] if summary["sha256"] else "no weights"
    adaptation = summary["provenance"].get("adaptation")
    model = summary["model"]
    if adaptation is not None and adaptation["from"] != summary["sha256"]:
        model = f"{model}, adapted"
    return (
        f"{summary['output']}: {counted(summary['frames'])}, ×{summary['alpha']:g}, model "
        f"{model} ({weights}), {summary['seconds']:.1f} s, "
        f"{summary['frames_per_second']:.1f} frames/s"
    )


def parse_reference(text: str) -> int | str:
    """Read a frame's number, or leave a name as it is."""
    try:
        return int(text)
    except ValueError:
        return text


def _label_alphas(words: list[str]) -> tuple[tuple[int, float], ...]:
    pairs = []
    for word in words:
        label, _, alpha = word.partition("=")
        try:
            pairs.append((int(label), float(alpha)))
        except ValueError:
            raise FlowmagError(
                f"--label-alpha {word}: give a label and its magnification, such as 2=20"
            ) from None
    return tuple(pairs)


def numbers(option: str, text: str | None, kind: Callable[[str], Any]) -> tuple[Any, ...] | None:
    """Read numbers with commas between them.

    Raises
    ------
    FlowmagError
        If they are not.
    """
    if text is None:
        return None
    try:
        return tuple(kind(word) for word in text.split(","))
    except ValueError:
        raise FlowmagError(f"{option} {text}: give numbers with commas between them") from None
