"""``flowmag demo``: generate a clip with known motion, magnify it, measure the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder to write to; files of an earlier run are replaced."
        ),
    ] = Path("flowmag-demo"),
    kind: Annotated[
        str,
        typer.Option(
            metavar="beam|cells",
            help="A bar that rings after a tap, filmed at high speed in colour, or a beating sheet "
            "of heart cells under the microscope in 16 bit.",
        ),
    ] = "beam",
    alpha: Annotated[
        float | None,
        typer.Option(help="Magnification. Without it: 20 for the beam, 10 for the cells."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A bundled model's name (see flowmag models) or a checkpoint.")
    ] = "default",
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Generate a clip whose motion is known, magnify it, and measure by how much."""
    from napari_flowmag.cli.progress import progress_bar
    from napari_flowmag.demo import FRAMES, run_demo

    with progress_bar("magnify", FRAMES) as progress:
        result = run_demo(
            output, kind=kind, alpha=alpha, model=model, device=device, progress=progress
        )
    print(json.dumps(result.to_dict()) if as_json else result.to_text())
