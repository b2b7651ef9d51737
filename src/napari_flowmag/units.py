"""Units of length and time: the names that file formats and napari have for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """A unit of length by the names that others use for it."""

    symbol: str  #: what a Clip says, which is also what OME-XML says
    pint: str  #: what napari says
    zarr: str  #: what OME-Zarr says
    metres: float
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Time:
    seconds: float
    names: tuple[str, ...]


_LENGTHS = (
    Length("pm", "pm", "picometer", 1e-12, ("picometre", "picometers")),
    Length("Å", "angstrom", "angstrom", 1e-10, ("ångström",)),
    Length("nm", "nm", "nanometer", 1e-9, ("nanometre", "nanometers")),
    # U+03BC is the Greek letter, U+00B5 the micro sign; ImageJ writes the latter as an escape.
    Length(
        "µm",
        "um",
        "micrometer",
        1e-6,
        ("\u03bcm", "\\u00b5m", "micron", "microns", "micrometre", "micrometers"),
    ),
    Length("mm", "mm", "millimeter", 1e-3, ("millimetre", "millimeters")),
    Length("cm", "cm", "centimeter", 1e-2, ("centimetre", "centimeters")),
    Length("m", "m", "meter", 1.0, ("metre", "meters")),
    Length("in", "inch", "inch", 0.0254, ("inches", '"')),
)
_TIMES = (
    _Time(1e-9, ("ns", "nsec", "nanosecond", "nanoseconds")),
    _Time(1e-6, ("µs", "\u03bcs", "us", "usec", "\\u00b5s", "microsecond", "microseconds")),
    _Time(1e-3, ("ms", "msec", "millisecond", "milliseconds")),
    _Time(1.0, ("s", "sec", "secs", "second", "seconds")),
    _Time(60.0, ("min", "mins", "minute", "minutes")),
    _Time(3600.0, ("h", "hr", "hrs", "hour", "hours")),
    _Time(86400.0, ("d", "day", "days")),
)
_BY_NAME = {
    name.lower(): unit
    for unit in _LENGTHS
    for name in (unit.symbol, unit.pint, unit.zarr, *unit.aliases)
}
_SECONDS = {name: time.seconds for time in _TIMES for name in time.names}


def length(name: str | None) -> Length | None:
    """Return the unit of length with this name, None for ``"pixel"`` and for what is unknown."""
    return _BY_NAME.get(name.strip().lower()) if name else None


def seconds(name: str | None) -> float | None:
    """Return how many seconds the unit of time with this name lasts, None if it is unknown."""
    return _SECONDS.get(name.strip().lower()) if name else None
