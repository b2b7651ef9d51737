"""What is known of a clip once it is done: a file that appears whole or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from napari_flowmag.atomic import replacing
from napari_flowmag.train.prepare.duplicates import Signature
from napari_flowmag.train.prepare.statistics import PairStatistics


@dataclass(frozen=True)
class PairResult:
    """A pair that was looked at.

    Attributes
    ----------
    scene, plane : int
        Number of its scene in the clip, and of the plane in depth or channel.
    frames : tuple of int
        Numbers of its two frames.
    statistics : PairStatistics
        Its measures.
    reason : str or None
        Why it is rejected; None if it is kept.
    file : str or None
        Name of its pictures; None if there are none.
    signature : Signature or None
        What it shows; None without pictures.
    thumbnails : tuple of str
        Both frames and their motion as JPEG in base64; empty for pairs that are not shown.
    """

    scene: int
    plane: int
    frames: tuple[int, int]
    statistics: PairStatistics
    reason: str | None = None
    file: str | None = None
    signature: Signature | None = None
    thumbnails: tuple[str, ...] = ()

    @property
    def stride(self) -> int:
        """Distance of the frames."""
        return self.frames[1] - self.frames[0]


@dataclass(frozen=True)
class ClipResult:
    """A clip that was looked at.

    Attributes
    ----------
    label : str
        What it is called.
    key : str
        Hash of all that decides the result: clip, settings, flow estimator.
    error : str or None
        Why it could not be read.
    frames : int
        Their number.
    size : tuple of int
        Width and height in px.
    scenes : tuple of int
        First frame of each scene.
    pairs : tuple of PairResult
        In order of time.
    """

    label: str
    key: str
    error: str | None = None
    frames: int = 0
    size: tuple[int, int] = (0, 0)
    scenes: tuple[int, ...] = ()
    pairs: tuple[PairResult, ...] = ()

    @property
    def kept(self) -> list[PairResult]:
        """The pairs that are not rejected."""
        return [pair for pair in self.pairs if pair.reason is None]

    @property
    def summary(self) -> str:
        """One line on how it went."""
        if self.error is not None:
            return f"passed over: {self.error}"
        if not self.pairs:
            return f"{self.label}: no two frames at one of the strides ({self.frames} in all)"
        scenes = f" in {len(self.scenes)} scenes" if len(self.scenes) > 1 else ""
        return f"{self.label}: {len(self.kept)} fit pairs of {len(self.pairs)}{scenes}"


def write_result(path: Path, result: ClipResult) -> None:
    """Write a result: a line on the clip, and one for each pair; its folder is made.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    header = asdict(replace(result, pairs=()))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for line in (header, *map(_to_json, result.pairs)):
            file.write(json.dumps(line) + "\n")


def _to_json(pair: PairResult) -> dict[str, Any]:
    return asdict(pair) | {"signature": pair.signature and pair.signature.to_json()}


def read_header(path: Path) -> ClipResult | None:
    """Read a result without its pairs; None if there is none, or of another version of flowmag."""
    try:
        with path.open(encoding="utf-8") as file:
            return ClipResult(**_tuples(json.loads(file.readline())))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def read_result(path: Path) -> ClipResult | None:
    """Read a result; None if there is none, or of another version of flowmag."""
    header = read_header(path)
    if header is None:
        return None
    try:
        lines = path.read_text("utf-8").splitlines()[1:]
        return replace(header, pairs=tuple(_from_json(json.loads(line)) for line in lines))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _from_json(stored: dict[str, Any]) -> PairResult:
    signature = stored["signature"]
    parts = {
        "statistics": PairStatistics(**stored["statistics"]),
        "signature": signature and Signature.from_json(signature),
    }
    return PairResult(**_tuples(stored) | parts)


def _tuples(stored: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
