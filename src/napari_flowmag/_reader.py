"""Open clips in napari: the reader that the manifest names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari_flowmag import units
from napari_flowmag.clip import Clip
from napari_flowmag.io import is_clip, read_clip

LayerData = tuple[Any, dict[str, Any], str]


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
    """Read a clip as one lazy image layer with its scale, units and axis labels.

    Raises
    ------
    FlowmagError
        If the file cannot be read; napari shows the line.
    """
    clip = read_clip(path)
    return [(clip.frames, layer_settings(clip), "image")]


def layer_settings(clip: Clip) -> dict[str, Any]:
    """Return napari's keyword arguments for an image layer of `clip`.

    Channels become layers of their own (``channel_axis``) and colour samples do not count as an
    axis, so that scale, units and labels speak of T, (Z,) Y, X. Axes whose scale is unknown are
    in pixels.
    """
    axes = "".join(a for a in clip.axes if a not in "CS")
    size = dict(zip(clip.spatial_axes, clip.pixel_size or (), strict=False))
    if clip.fps:
        size["T"] = 1 / clip.fps
    length = units.length(clip.unit)
    unit = dict.fromkeys(clip.spatial_axes, length.pint if length else "pixel")
    unit["T"] = "s" if clip.fps else "pixel"
    settings: dict[str, Any] = {
        "name": clip.name,
        "rgb": "S" in clip.axes,
        "scale": tuple(size.get(a, 1.0) for a in axes),
        "units": tuple(unit[a] for a in axes),
        "axis_labels": tuple(a.lower() for a in axes),
        "metadata": {"flowmag": {"axes": clip.axes, "fps": clip.fps, **clip.metadata}},
    }
    if "C" in clip.axes:
        names = clip.channel_names or tuple(f"C{i}" for i in range(clip.sizes["C"]))
        settings["channel_axis"] = clip.axes.index("C")
        settings["name"] = [f"{clip.name} {name}" for name in names]
    return settings
