from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_flowmag.train.prepare.build import prepare
from napari_flowmag.train.prepare.config import PrepareConfig, SelectionConfig


@pytest.fixture(scope="session")
def moving() -> Callable[..., np.ndarray]:
    """Frames (T, 40, 56) of a smooth pattern, another one for each seed, that moves px a frame."""

    def make(
        frames: int, seed: int = 0, px: float = 0.4, dtype: type = np.uint8, noise: float = 0.0
    ) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:40, :56].astype(np.float64)
        waves = [(*rng.uniform(-0.5, 0.5, 2), rng.uniform(0, 6.28)) for _ in range(12)]
        shifts = px * np.arange(frames)
        pattern = [sum(np.sin(a * (x - d) + b * y + c) for a, b, c in waves) / 8 for d in shifts]
        values = 0.5 + 0.25 * np.stack(pattern) + noise * rng.standard_normal((frames, 40, 56))
        scale = 200 if dtype == np.uint8 else 3000
        return (values.clip(0, 1) * scale).astype(dtype)

    return make


@pytest.fixture(scope="session")
def write() -> Callable[[Path, np.ndarray], Path]:
    """Write a stack of grey frames."""

    def make(path: Path, frames: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, frames, photometric="minisblack")  # else 3 frames pass for RGB
        return path

    return make


@pytest.fixture(scope="session")
def select() -> Callable[..., list[str]]:
    """Prepare pairs, with wide bounds unless told otherwise; return the lines on how it went."""

    def run(source: Path, out: Path, **changes: Any) -> list[str]:
        lines: list[str] = []
        sharing = {k: changes.pop(k) for k in ("workers", "shard", "test") if k in changes}
        wide: dict[str, Any] = {"max_p999": 99.0, "max_p80": 99.0, "max_p001": 99.0, "min_mse": 1.0}
        # The quickest flow, and no duplicates but copies: one pattern moves alike all the time.
        settings: dict[str, Any] = {"selection_flow": "farneback", "duplicate": 0.0}
        selection = SelectionConfig(**settings | wide | changes)
        prepare([source], selection, PrepareConfig(out, **{"workers": 0} | sharing), lines.append)
        return lines

    return run


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, bytes]]:
    """Return all files under a folder with their content."""

    def read(root: Path) -> dict[str, bytes]:
        return {
            p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()
        }

    return read
