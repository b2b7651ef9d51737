"""Sample clips for File > Open Sample, generated with motion that is known exactly."""

from __future__ import annotations

from typing import Any

from napari_flowmag._layers import OWN
from napari_flowmag._reader import LayerData, clip_layers
from napari_flowmag.clip import Clip

_FRAMES = 64


def cells() -> list[LayerData]:
    """Return a sheet of beating heart cells: 16 bit, µm, 30 frames a second."""
    return _sample("cells", "beating cells")


def beam() -> list[LayerData]:
    """Return a bar that rings after a tap: colour, 4,000 frames a second, its tip moves 0.3 px."""
    return _sample("beam", "vibrating beam")


def _sample(kind: str, name: str) -> list[LayerData]:
    from napari_flowmag.synthetic.scenes import demo_clip

    known = demo_clip(kind, length=_FRAMES)
    clip = Clip.from_array(
        known.frames,
        "TYXS" if known.frames.ndim == 4 else "TYX",
        fps=known.fps,
        pixel_size=known.pixel_size,
        unit=known.unit,
        name=name,
    )
    (layer,) = clip_layers(clip)
    # In memory, so that nothing is computed when the time slider moves.
    settings: dict[str, Any] = layer[1]
    facts = {"fps": known.fps, "displacement": known.displacement, "moving": known.moving}
    settings["metadata"] = {OWN: facts}
    return [(known.frames, settings, "image")]
