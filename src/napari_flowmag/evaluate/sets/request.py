"""What is asked of a set, and what all of them need: seeds and fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np


@dataclass(frozen=True)
class Request:
    """What the user asked for; see `case_sets`."""

    quick: bool
    seed: int = 0
    pairs: Path | None = None
    objects: Path | None = None
    backgrounds: Path | None = None


def generator(seed: int, *place: str | int) -> np.random.Generator:
    """Return the source of randomness of one place, such as a set's name and a task's number.

    Neighbouring places and seeds give unrelated numbers.
    """
    keys = [crc32(part.encode()) if isinstance(part, str) else part for part in place]
    return np.random.default_rng([seed, *keys])


def fingerprint(*parts: Any) -> str:
    """Return a short hash of anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def contents(paths: Iterable[Path], root: Path) -> list[list[str]]:
    """Return names and hashes of files, for a fingerprint."""
    return sorted(
        [path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in paths
    )


def listing(paths: Iterable[Path], root: Path) -> list[list[Any]]:
    """Return names and sizes of files, for a fingerprint."""
    return sorted([path.relative_to(root).as_posix(), path.stat().st_size] for path in paths)
