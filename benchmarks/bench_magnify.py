"""Time of one frame by method, size, batch and precision, kept and compared by pytest-benchmark.

    pip install -e ".[bench]"
    pytest benchmarks/bench_magnify.py --benchmark-autosave
    pytest benchmarks/bench_magnify.py --benchmark-compare

On a graphics card if there is one (`FLOWMAG_DEVICE=cpu` forbids it). `speed.py` tells ratios to the
paper's U-Net, and memory, in one run.
"""

from __future__ import annotations

import os

import pytest
import torch

from napari_flowmag import load_magnifier
from napari_flowmag.evaluate.cost import moving_clip
from napari_flowmag.magnify import magnify

DEVICE = os.environ.get("FLOWMAG_DEVICE", "cuda" if torch.cuda.is_available() else "cpu")
BASELINES = ["warp-nearest:dis", "warp-bilinear:dis", "lucas-kanade", "linear", "phase", "riesz"]


def time_a_clip(benchmark, model: str, size: int, batch: int = 1, precision: str = "auto") -> None:
    magnifier = load_magnifier(model, DEVICE)
    clip = moving_clip(batch + 1, size)
    options = {"model": magnifier, "device": DEVICE, "batch": batch, "precision": precision}
    benchmark.extra_info["frames"] = batch
    found = benchmark.pedantic(
        magnify, (clip, 10), options, rounds=5, warmup_rounds=1, iterations=1
    )
    assert found.shape == clip.shape


@pytest.mark.parametrize("size", [256, 512, 1024])
def test_default_by_size(benchmark, size: int) -> None:
    time_a_clip(benchmark, "default", size)


@pytest.mark.parametrize("batch", [1, 4, 16])
def test_default_by_batch(benchmark, batch: int) -> None:
    time_a_clip(benchmark, "default", 256, batch)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_default_by_precision(benchmark, precision: str) -> None:
    time_a_clip(benchmark, "default", 256, precision=precision)


@pytest.mark.parametrize("model", BASELINES)
def test_baselines(benchmark, model: str) -> None:
    time_a_clip(benchmark, model, 512)
