"""Save layers as clips: the writers that the manifest names."""

from __future__ import annotations

from typing import Any

from napari_flowmag._layers import OWN, clip_of
from napari_flowmag.clip import Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io import write_clip


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write an image layer as a clip; the suffix of the path chooses the format.

    Raises
    ------
    FlowmagError
        If the layer is no clip, or the format cannot hold it.
    """
    clip, record = _clip(data, attributes)
    return [str(write_clip(clip, path, provenance=record))]


def write_side_by_side(path: str, layers: list[tuple[Any, dict[str, Any], str]]) -> list[str]:
    """Write one image layer as a video, or two beside each other, the lower one on the left.

    Raises
    ------
    FlowmagError
        If there are more than two layers, or they do not fit beside each other.
    """
    if len(layers) > 2:
        raise FlowmagError(
            f"{len(layers)} layers cannot be one video: select the clip, or the clip and its result"
        )
    clips = [_clip(data, attributes) for data, attributes, _ in layers]
    if len(clips) == 1:
        return [str(write_clip(clips[0][0], path, provenance=clips[0][1]))]
    (left, _), (right, record) = clips
    return [str(write_clip(right, path, side_by_side=left, provenance=record))]


def _clip(data: Any, attributes: dict[str, Any]) -> tuple[Clip, dict[str, Any] | None]:
    from napari.layers import Image

    known = {
        key: attributes[key]
        for key in ("name", "rgb", "scale", "units", "axis_labels", "metadata", "multiscale")
        if key in attributes
    }
    layer = Image(data, **known, contrast_limits=(0, 1))
    record = attributes.get("metadata", {}).get(OWN, {}).get("provenance")
    return clip_of(layer), record
