"""``flowmag adapt``: a model fine-tuned on the clip that it will magnify."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_flowmag.adapt.settings import PRESETS, WHAT, AdaptSettings
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari_flowmag.adapt.adaptation import Adaptation
    from napari_flowmag.adapt.outcome import Adapted, Report

_CLIP, _LEARN = "What of the clip", "How it is learnt"


def adapt(
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
            "--output", "-o", help="Model to write, such as model.safetensors.", show_default=False
        ),
    ],
    alpha: Annotated[float, typer.Option(help="Factor that the clip will be magnified by.")] = 8.0,
    minutes: Annotated[
        float | None, typer.Option(help="Longest time; without it the preset's steps decide.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.")] = None,
    preset: Annotated[
        str,
        typer.Option(
            metavar="|".join(PRESETS), help="Settings to begin with; paper: as published."
        ),
    ] = "default",
    model: Annotated[
        str, typer.Option(help="What to start from: a bundled model's name or a checkpoint.")
    ] = "default",
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="What moves inside is learnt first.", rich_help_panel=_CLIP
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            metavar="N|first|mean|median|previous",
            help="Frame from which motion is measured.",
            rich_help_panel=_CLIP,
        ),
    ] = "first",
    motion_channels: Annotated[
        str | None,
        typer.Option(metavar="N[,N]", help="Channels to see the motion in.", rich_help_panel=_CLIP),
    ] = None,
    channels: Annotated[
        str | None,
        typer.Option(metavar="N[,N]", help="Channels that are moved.", rich_help_panel=_CLIP),
    ] = None,
    z: Annotated[
        int | None, typer.Option(help="Slice of a clip with depth.", rich_help_panel=_CLIP)
    ] = None,
    start: Annotated[
        int | None, typer.Option(help="First frame, from 0.", rich_help_panel=_CLIP)
    ] = None,
    stop: Annotated[
        int | None, typer.Option(help="The frame after the last one.", rich_help_panel=_CLIP)
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Values that the model sees as black and white.",
            rich_help_panel=_CLIP,
        ),
    ] = None,
    what: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(WHAT), help="Weights that are tuned.", rich_help_panel=_LEARN
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Largest learning rate.", rich_help_panel=_LEARN)
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Frame pairs in a step.", rich_help_panel=_LEARN)
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Side of what is learnt from.", rich_help_panel=_LEARN),
    ] = None,
    flow: Annotated[
        list[str] | None,
        typer.Option(
            help="Flow estimator in the loss: default, lucas_kanade, raft_large, … or a file; may "
            "be given several times.",
            rich_help_panel=_LEARN,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything random.", rich_help_panel=_LEARN)
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", rich_help_panel=_LEARN)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Fine-tune a model on a clip; it never comes out worse on frames that were held back.

    A run that was cut off goes on when the same command is given again. Ctrl-C writes the best
    model so far.
    """
    from napari_flowmag.adapt.adaptation import Adaptation
    from napari_flowmag.adapt.state import discard_state
    from napari_flowmag.atomic import discard_parts
    from napari_flowmag.cli import INTERRUPTED
    from napari_flowmag.cli.magnify import numbers, parse_reference
    from napari_flowmag.cli.outputs import check_output
    from napari_flowmag.io import read_clip

    if output.suffix != ".safetensors":
        raise FlowmagError(f"{output}: give a name that ends in .safetensors")
    check_output(output, clip, mask)
    chosen = {
        "steps": steps, "minutes": minutes, "what": what, "lr": lr, "batch": batch, "crop": crop,
        "flows": tuple(flow) if flow else None, "seed": seed, "mask": mask, "z": z,
        "start": start, "stop": stop,
        "motion_channels": numbers("--motion-channels", motion_channels, int),
        "channels": numbers("--channels", channels, int),
        "value_range": numbers("--value-range", value_range, float),
    }  # fmt: skip
    settings = AdaptSettings.of(
        preset,
        alpha=alpha,
        reference=parse_reference(reference),
        device=device,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    source = read_clip(clip)
    job = Adaptation(source.frames, settings, magnifier=model, axes=source.axes, name=clip.name)
    discard_parts(output)
    state = output.with_name(f"{output.name}.state")
    adapted = run_with_bar(job, state)
    stopped = adapted.stopped == "cancelled"
    if adapted.improved or not stopped:
        adapted.save(output)
    # Only now: a run that is killed before finds its outcome in it. One that was stopped before
    # it took up what an earlier run left has not added to it.
    if not stopped or adapted.before is not None:
        discard_state(state)
    if adapted.improved or not stopped:
        summary = {"output": str(output), "improved": adapted.improved, **adapted.record}
        print(json.dumps(summary) if as_json else f"{output}: {adapted.summary()}")
    if stopped:
        raise typer.Exit(INTERRUPTED)


def run_with_bar(job: Adaptation, state: Path | None = None) -> Adapted:
    """Run an adaptation with a progress bar; Ctrl-C ends it with the best so far."""
    from napari_flowmag.cli.progress import progress_bar
    from napari_flowmag.stop_signals import stop_signal

    if state is not None and state.exists():
        print(f"going on where {state} ends", file=sys.stderr)
    with stop_signal() as stop, progress_bar("adapt", 100, "%") as progress:

        def tell(report: Report) -> None:
            progress(round(100 * report.done), 100)

        return job.run(tell, stop, state)
