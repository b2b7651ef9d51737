"""Open clips in napari: the reader that the manifest names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_flowmag import units
from napari_flowmag._layers import OWN
from napari_flowmag.clip import Clip
from napari_flowmag.io import is_clip, read_clip

LayerData = tuple[Any, dict[str, Any], str]

_COLOURS = ("cyan", "yellow", "magenta", "red", "green", "blue")
_TWO_COLOURS = ("magenta", "green")  # as napari colours the channels that it splits itself


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Return a function that opens `path` as image layers, None if flowmag does not read it.

    Parameters
    ----------
    path
        A file or folder. Several paths at once are no clip: napari opens them one by one, or asks
        its own reader to stack them.
    """
    return read_layers if isinstance(path, str) and is_clip(path) else None


def read_layers(path: str) -> list[LayerData]:
    """Read a clip as lazy image layers, one for each channel, with scale, units and axis labels.

    Opens the Magnify dock beside them where the settings say so.

    Raises
    ------
    FlowmagError
        If the file cannot be read; napari shows the line.
    """
    layers = clip_layers(read_clip(path))
    _open_dock()
    return layers


def clip_layers(clip: Clip) -> list[LayerData]:
    """Return the image layers of a clip.

    Colour samples do not count as an axis, and each channel is a layer of its own, so that scale,
    units and labels speak of T, (Z,) Y, X. Axes whose scale is unknown are in pixels. What the
    other docks need to know of the file is in the layer's metadata under ``"flowmag"``.
    """
    count = clip.sizes.get("C")
    if count is None:
        return [(clip.frames, _settings(clip, clip.frames, clip.name), "image")]
    names = clip.channel_names or tuple(f"C{c}" for c in range(count))
    colours = _TWO_COLOURS if count == 2 else _COLOURS
    layers: list[LayerData] = []
    for c, name in enumerate(names):
        frames = clip.frames[(slice(None),) * clip.axes.index("C") + (c,)]
        settings = _settings(clip, frames, f"{clip.name} {name}", c)
        if count > 1 and not settings["rgb"]:
            settings |= {"colormap": colours[c % len(colours)], "blending": "additive"}
        layers.append((frames, settings, "image"))
    return layers


def _settings(clip: Clip, frames: Any, name: str, channel: int | None = None) -> dict[str, Any]:
    axes = "".join(a for a in clip.axes if a not in "CS")
    size = clip.lengths
    length = units.length(clip.unit)
    unit = dict.fromkeys(size, length.pint if length else "pixel")
    if clip.fps:
        size["T"], unit["T"] = 1 / clip.fps, "s"
    own = {"axes": clip.axes, "fps": clip.fps, "array": frames.name, **clip.metadata}
    if channel is not None:
        own |= {"channel": channel, "channel_count": clip.sizes["C"]}
    if clip.channel_names is not None:
        own |= {"channel_name": clip.channel_names[channel or 0], "layer_name": name}
    return {
        "name": name,
        "rgb": "S" in clip.axes,
        "scale": tuple(size.get(a, 1.0) for a in axes),
        "units": tuple(unit.get(a, "pixel") for a in axes),
        "axis_labels": tuple(a.lower() for a in axes),
        "metadata": {OWN: own},
    }


def _open_dock() -> None:
    """Dock Magnify in the viewer in use, if there is one with a window and the user wants it."""
    import sys

    if "napari" not in sys.modules:
        return
    import napari

    from napari_flowmag._settings import plugin_settings

    viewer = napari.current_viewer()
    if viewer is None or not plugin_settings().dock_with_clip:
        return
    if not any("flowmag" in name and "Magnify" in name for name in viewer.window.dock_widgets):
        viewer.window.add_plugin_dock_widget("flowmag", "Magnify")
