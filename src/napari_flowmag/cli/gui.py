"""``flowmag gui``: napari with a clip and the Magnify dock."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_flowmag.errors import FlowmagError


def gui(
    clips: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CLIP]…", help="Clips to open.", show_default=False),
    ] = None,
) -> None:
    """Open napari with the Magnify dock."""
    from napari_flowmag.io import read_clip

    for clip in clips or []:
        read_clip(clip)  # what cannot be read is told about here, before a window opens
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY")
        or os.environ.get("WAYLAND_DISPLAY")
        or os.environ.get("QT_QPA_PLATFORM")
    ):
        raise FlowmagError("no screen: DISPLAY is not set, so that no window can be opened")
    try:
        import napari
        import qtpy.QtWidgets
    except ImportError as error:  # qtpy's own error, where no Qt is installed, is one as well
        raise FlowmagError('napari or Qt is not installed: pip install "flowmag[gui]"') from error
    del qtpy
    viewer = napari.Viewer()
    for clip in clips or []:
        viewer.open(str(clip), plugin="flowmag")
    viewer.window.add_plugin_dock_widget("flowmag", "Magnify")
    napari.run()
