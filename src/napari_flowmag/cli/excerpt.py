"""Which frames and slice to look at in a clip, and in a second one that shows the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari_flowmag.clip import Clip


@dataclass(frozen=True)
class Excerpt:
    """What to look at.

    Attributes
    ----------
    start, stop
        First frame of the clip, and the one after the last.
    z
        Slice of the clip.
    shift
        Frames of the clip that lie before the first one of the second clip.
    second_z
        Slice of the second clip.
    reference
        Frame of the clip, or name of a reference, from which the second one was magnified; None
        where that is unknown.
    """

    start: int
    stop: int
    z: int
    shift: int = 0
    second_z: int = 0
    reference: int | str | None = None


def choose(
    clip: Clip, second: Clip | None, start: int | None, stop: int | None, z: int | None
) -> Excerpt:
    """Choose the frames and the slice that were asked for, by default all that both clips show.

    A clip that flowmag magnified knows which frames and which slice of the original it shows, and
    from where their motion was measured. Others show all frames, or those from `start` to `stop`.

    Parameters
    ----------
    clip, second
        A clip, and perhaps what was made of it.
    start, stop, z
        What was asked for, counted in `clip`; None: nothing.

    Raises
    ------
    FlowmagError
        If frames do not correspond, or the second clip does not show what was asked for.
    """
    if second is None:
        return Excerpt(start or 0, len(clip) if stop is None else stop, z or 0)
    if any(clip.sizes[axis] != second.sizes[axis] for axis in "YX"):
        sizes = [f"{each.sizes['X']}×{each.sizes['Y']} px" for each in (clip, second)]
        raise FlowmagError(
            f"frames of {sizes[0]} cannot be compared with frames of {sizes[1]}: give a clip and "
            "what was made of it"
        )
    made = _settings(clip, second)
    begin, end = _shown(clip, second, made, start, stop)
    start, stop = begin if start is None else start, end if stop is None else stop
    if not begin <= start < stop <= end:
        raise FlowmagError(
            f"frames {start} to {stop}: {second.name} shows frames {begin} to {end} of {clip.name}"
        )
    depth = made.get("z")
    if None not in (z, depth) and z != depth:
        raise FlowmagError(f"slice {z}: {second.name} shows slice {depth} of {clip.name}")
    z = (depth or 0) if z is None else z
    second_z = z if second.sizes.get("Z", 1) > 1 else 0
    return Excerpt(start, stop, z, begin, second_z, _reference(made, begin, len(clip)))


def _settings(clip: Clip, second: Clip) -> dict[str, Any]:
    """Return the settings that made the second clip of the first; none if it does not seem so."""
    made: dict[str, Any] = (second.metadata.get("provenance") or {}).get("settings") or {}
    start, stop = made.get("start") or 0, made.get("stop") or len(clip)
    return made if stop <= len(clip) and stop - start == len(second) else {}


def _shown(
    clip: Clip, second: Clip, made: dict[str, Any], start: int | None, stop: int | None
) -> tuple[int, int]:
    """Frames of the clip, the first and the one after the last, that the second one shows."""
    count, asked = len(second), (start or 0, len(clip) if stop is None else stop)
    if made:
        begin = made.get("start") or 0
    elif count == len(clip):
        begin = 0
    elif count == asked[1] - asked[0]:
        begin = asked[0]
    else:
        raise FlowmagError(
            f"{second.name} differs from {clip.name} in its number of frames ({count}, not "
            f"{len(clip)}): give --start and --stop of those that it shows"
        )
    return begin, begin + count


def _reference(made: dict[str, Any], begin: int, count: int) -> int | str | None:
    reference = made.get("reference")
    if isinstance(reference, int):
        return reference % count
    return begin if reference == "first" else reference
