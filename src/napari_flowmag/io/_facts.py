"""What flowmag notes about a clip in files that have no place of their own for it."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

from napari_flowmag import __version__
from napari_flowmag.clip import Clip


def facts_of(clip: Clip, provenance: dict[str, Any] | None) -> dict[str, Any]:
    """Return a clip's facts as plain values: scale, axes, names and how it came to be."""
    return {
        "flowmag": __version__,
        "axes": clip.axes,
        "fps": clip.fps,
        "pixel_size": clip.pixel_size,
        "unit": clip.unit,
        "channel_names": clip.channel_names,
        "provenance": provenance,
    }


def dump_facts(
    clip: Clip, provenance: dict[str, Any] | None, indent: int | None = None, **more: Any
) -> str:
    """Return the facts, and what only one format has to note, as JSON text."""
    return json.dumps(facts_of(clip, provenance) | more, indent=indent, default=str)


def load_facts(text: str | None) -> dict[str, Any]:
    """Return the facts that a text holds; nothing if it is somebody else's text.

    Comments and descriptions of files are anybody's: a text that is not ours is no error.
    """
    try:
        return load_facts_of(json.loads(text or ""))
    except ValueError:
        return {}


def load_facts_of(facts: object) -> dict[str, Any]:
    """Return facts that were read from JSON; nothing if they are not ours."""
    if not (isinstance(facts, dict) and "flowmag" in facts):
        return {}
    lists = ("pixel_size", "channel_names")
    return {k: tuple(v) if k in lists and isinstance(v, list) else v for k, v in facts.items()}


def picture_facts(facts: dict[str, Any], channels: int = 1) -> dict[str, Any]:
    """Return the facts as fields of a clip of pictures, which has no depth."""
    size = facts.get("pixel_size")
    return {
        "fps": facts.get("fps"),
        "pixel_size": size[-2:] if size else None,
        "unit": facts.get("unit") if size else None,
        "channel_names": fitting_names(facts.get("channel_names"), channels),
        "metadata": {"provenance": facts["provenance"]} if facts.get("provenance") else {},
    }


def fitting_names(names: tuple[str, ...] | None, channels: int) -> tuple[str, ...] | None:
    """Return the names of a clip's channels; None if there is not just one for each.

    What a file says of other channels than it holds is worth nothing, but no damage.
    """
    return tuple(map(str, names)) if names and len(names) == channels else None


def clip_name(path: Path) -> str:
    """Return what a clip read from `path` is called: the file's name without its suffixes."""
    path = path.resolve()
    is_plain_folder = path.is_dir() and path.suffix != ".zarr"
    name = path.name if is_plain_folder else path.stem.removesuffix(".ome")
    # Bytes that are no UTF-8 come as lone surrogates; XML cannot hold them, nor control characters.
    return "".join("?" if unicodedata.category(c) in ("Cs", "Cc") else c for c in name)
