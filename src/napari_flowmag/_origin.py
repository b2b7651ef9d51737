"""Which results were made of which clips: no Qt."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from napari_flowmag._layers import own

if TYPE_CHECKING:
    from napari.layers import Image, Layer

_SESSION = uuid.uuid4().hex


def origin_of(source: Image) -> dict[str, Any]:
    """Return what the metadata of a result say about its source, for :func:`is_made_of`."""
    return {"source": source.name, "of": str(source.unique_id), "session": _SESSION}


def is_made_of(result: Layer, source: Layer) -> bool:
    """Whether a layer is flowmag's result, or preview, of another.

    A layer has an identity for as long as napari runs, which outlives a new name and is not shared
    with another layer of the same name. Of results that were saved and opened again there is only
    the name.
    """
    known = own(result)
    if known.get("role") not in ("result", "preview"):
        return False
    if known.get("session") == _SESSION:
        return bool(known["of"] == str(source.unique_id))
    return bool(known.get("source") == source.name)


def above_family(sources: Iterable[Image], layers: Sequence[Layer]) -> int:
    """Return the place in a list of layers above all that show the same clip.

    These are the sources, what they were made of, and all results and previews of any of these:
    what is new is to hide them, and to lie below what the user put on top.

    Parameters
    ----------
    sources
        The clip's channels.
    layers
        All layers there are; above all of them if no source is left.
    """
    family = set(sources)
    rest = set(layers) - family
    while related := {
        layer for layer in rest if any(_are_related(layer, other) for other in family)
    }:
        family |= related
        rest -= related
    return max((i + 1 for i, layer in enumerate(layers) if layer in family), default=len(layers))


def _are_related(one: Layer, other: Layer) -> bool:
    return is_made_of(one, other) or is_made_of(other, one)


def newest_pair(
    clip: Image | None, layers: Iterable[Image], previews: Sequence[Image] = ()
) -> tuple[list[Image], list[Image]]:
    """Return the channels of a clip, and their preview or else their newest result.

    Parameters
    ----------
    clip
        One channel of the clip, or one of a result, which is then taken itself.
    layers
        All layers there are.
    previews
        Those of them that preview the clip now.

    Returns
    -------
    sources, results : list of Image
        As many of one as of the other, in the same order; empty if there is nothing to compare.
    """
    every = list(layers)
    results = [layer for layer in every if own(layer).get("role") == "result"]
    if clip is None:
        return [], []
    if clip in results:
        made = [layer for layer in results if _run_of(layer) == _run_of(clip)]
    elif previews:
        made = list(previews)
    else:
        newest = max((_run_of(r) for r in results if is_made_of(r, clip)), default=None)
        made = [layer for layer in results if _run_of(layer) == newest]
    pairs: dict[Image, Image] = {}  # one result each, also where the user has duplicated it
    for result in made:
        source = next((layer for layer in every if is_made_of(result, layer)), None)
        if source is not None:
            pairs.setdefault(source, result)
    return list(pairs), list(pairs.values())


def _run_of(result: Image) -> tuple[bool, int]:
    """Return which run a result is of; later ones are larger."""
    known = own(result)
    return known.get("session") == _SESSION, known.get("number", 0)
