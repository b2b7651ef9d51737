"""What a user chooses for a magnification: one frozen object for all faces."""

from __future__ import annotations

import dataclasses
import math
import operator
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from napari_flowmag.errors import FlowmagError
from napari_flowmag.tiles import MIN_TILE

REFERENCES = ("first", "mean", "median", "previous")
"""References that are named; an integer picks a frame of the clip."""

MOST_ALPHA = 1e6
"""Largest magnification: far beyond what any motion can be seen at, and safe to compute with."""

PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class MagnifySettings:
    """Settings of a magnification, each the option of the same name of ``flowmag magnify``.

    Attributes
    ----------
    alpha : float
        Magnification: motion comes out ``alpha`` times as large. 1 leaves the clip as it is,
        0 holds it still.
    mask : str, optional
        File with a picture of the frames' size, or with one for each frame; motion is magnified
        where it is not 0.
    label_alphas : tuple of (int, float)
        Magnifications of single labels of a mask of whole numbers; the labels that are not named
        here get `alpha`. A dictionary will do.
    outside : float
        Magnification outside the mask: 1 leaves the motion there as it is, 0 holds it still.
    soft : float
        The mask grows: pixels closer than this (px, city-block) to it count as inside.
    feather : float
        Width in px of the edge over which the magnification falls to 1 outside of the grown
        mask.
    model : str
        A bundled model's name or the path of a checkpoint.
    reference : int or str
        Motion is measured from this frame: an index into the clip (negative: from its end),
        or of the frames from `start` to `stop` the ``first``, ``mean`` or ``median``; or for
        each frame the ``previous`` one.
    motion_channels : tuple of int, optional
        Channels to see the motion in; None: all.
    channels : tuple of int, optional
        Channels that are moved by it, the others stay as they are. None: all.
    z : int, optional
        The slice of a clip with depth that is magnified; the output has no depth then. None: all
        slices.
    start, stop : int, optional
        Frames ``start`` … ``stop - 1`` are magnified. None: all.
    value_range : (float, float), optional
        The values that the model sees as black and white. None: 0 and 255 for uint8, else
        the smallest and largest value of each channel of the clip.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ….
    precision : str
        One of :data:`PRECISIONS`; ``auto`` is float32.
    tile : int, optional
        Largest side in px of what the model sees at once; 0: whole frames. None: whole frames
        up to :data:`~napari_flowmag.engine.WHOLE_FRAME` pixels, tiles above.
    batch : int, optional
        Frames at once. None: as many small ones as the model and the device gain by; with a heavy
        model on the CPU 1.

    Raises
    ------
    FlowmagError
        If a value makes no sense whatever the clip.
    """

    alpha: float
    mask: str | None = None
    label_alphas: tuple[tuple[int, float], ...] = ()
    outside: float = 1.0
    soft: float = 0.0
    feather: float = 0.0
    model: str = "default"
    reference: int | str = "first"
    motion_channels: tuple[int, ...] | None = None
    channels: tuple[int, ...] | None = None
    z: int | None = None
    start: int | None = None
    stop: int | None = None
    value_range: tuple[float, float] | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, kind(getattr(self, name)))
        check_alpha(self.alpha)
        check_alpha(self.outside)
        for _, alpha in self.label_alphas:
            check_alpha(alpha)
        for name in ("soft", "feather"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise FlowmagError(f"{name} of {value:g} px: give 0 or more")
        if isinstance(self.reference, str) and self.reference not in REFERENCES:
            raise FlowmagError(
                f"reference '{self.reference}': give a frame's number or {', '.join(REFERENCES)}"
            )
        self._check_range_of_frames()
        if self.value_range is not None:
            if len(self.value_range) != 2:
                raise FlowmagError(f"value range of {len(self.value_range)} numbers: give two")
            low, high = self.value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise FlowmagError(f"value range {low:g} to {high:g}: give two rising numbers")
        if self.precision not in PRECISIONS:
            raise FlowmagError(f"precision '{self.precision}': give {', '.join(PRECISIONS)}")
        self._check_sizes()

    def _check_range_of_frames(self) -> None:
        if self.start is not None and self.start < 0:
            raise FlowmagError(f"start {self.start}: give 0 or more")
        if self.stop is not None and self.stop <= (self.start or 0):
            raise FlowmagError(f"stop {self.stop} leaves no frame after start {self.start or 0}")

    def _check_sizes(self) -> None:
        if self.tile is not None and self.tile != 0 and self.tile < MIN_TILE:
            raise FlowmagError(
                f"tile of {self.tile} px: give {MIN_TILE} or more, or 0 for whole frames"
            )
        if self.batch is not None and self.batch < 1:
            raise FlowmagError(f"batch of {self.batch} frames: give 1 or more")
        for name in ("motion_channels", "channels"):
            channels, text = getattr(self, name), name.replace("_", " ")
            if channels is not None and not channels:
                raise FlowmagError(f"no {text}: give at least one, or leave it out for all")
            if channels is not None and len(set(channels)) < len(channels):
                raise FlowmagError(f"{text} {channels} repeat themselves")
        if self.z is not None and self.z < 0:
            raise FlowmagError(f"slice {self.z}: give 0 or more")

    def replace(self, **changes: Any) -> MagnifySettings:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)

    def to_command(self, clip: str, output: str) -> str:
        """Return the ``flowmag magnify`` line, quoted for a shell, that repeats this run.

        Parameters
        ----------
        clip, output : str
            Paths of the input and the output.
        """
        words = ["flowmag", "magnify", clip, "-o", output]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            option = f"--{field.name.replace('_', '-')}"
            if field.name == "label_alphas":
                for label, alpha in value:
                    words += ["--label-alpha", f"{label}={_as_text(alpha)}"]
            elif value != field.default:
                words += [option, _as_text(value)]
        return shlex.join(words)


def check_alpha(alpha: float) -> None:
    """Refuse a magnification that no model can have.

    Raises
    ------
    FlowmagError
        If it is negative, not a number, or above `MOST_ALPHA`.
    """
    if not 0 <= alpha <= MOST_ALPHA:
        raise FlowmagError(f"alpha {alpha:g}: give a number from 0 to {MOST_ALPHA:,.0f}")


def _reference(value: Any) -> int | str:
    try:
        return value if isinstance(value, str) else operator.index(value)
    except TypeError as error:
        raise FlowmagError(
            f"reference {value}: give a frame's number or {', '.join(REFERENCES)}"
        ) from error


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(operator.index(value) for value in values)


def _label_alphas(
    values: Mapping[int, float] | Iterable[tuple[int, float]],
) -> tuple[tuple[int, float], ...]:
    pairs = values.items() if isinstance(values, Mapping) else values
    alphas = [(operator.index(label), float(alpha)) for label, alpha in pairs]
    if len(dict(alphas)) < len(alphas):
        raise FlowmagError(f"label alphas {alphas} name a label twice")
    return tuple(sorted(alphas))


# Numbers of numpy, lists and paths are taken too; what is kept is plain, equal and fit for JSON.
_KINDS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("alpha", "outside", "soft", "feather"), float),
    **dict.fromkeys(("z", "start", "stop", "tile", "batch"), operator.index),
    **dict.fromkeys(("mask", "model", "device", "precision"), str),
    "reference": _reference,
    "motion_channels": _integers,
    "channels": _integers,
    "label_alphas": _label_alphas,
    "value_range": _floats,
}


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_as_text(item) for item in value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)  # of a float the shortest text that reads back as the same number
