"""Frames a second and peak memory of magnifiers by size, batch and precision, in one run.

    python benchmarks/speed.py [--models default phase …] [--sizes 256 512] [--batches 1 4]
                               [--precisions auto bfloat16 float16] [--device cpu] [--threads 2]
                               [--json]

All magnify the same RGB clip with `magnify_frames`; files and what is computed once for a clip are
left out. They take turns, so that a busy machine slows all down alike: it is the ratios that say
something. Clips of 100 frames and more are faster a frame: what is computed is recorded then,
which takes 50 MB. `unet` is the paper's network at its published width with random weights, which
cost the same as trained ones. Memory is the peak beyond the loaded model, each in a process of its
own, of a clip that is too short to be recorded.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_flowmag import load_magnifier
from napari_flowmag.device import use_threads
from napari_flowmag.evaluate.cost import moving_clip, peak_memory
from napari_flowmag.magnification import Magnification
from napari_flowmag.magnify import magnify_frames
from napari_flowmag.models.base import Magnifier
from napari_flowmag.models.unet import UNetMagnifier
from napari_flowmag.settings import MagnifySettings

MODELS = [
    "default",
    "unet",
    "warp-nearest:dis",
    "warp-bilinear:dis",
    "lucas-kanade",
    "linear",
    "phase",
]
BATCHES = 5  # of the clip, at least; the first is not counted
SLOW = 1.0  # seconds a frame from which fewer frames will do


@dataclass(frozen=True)
class Setting:
    model: str
    size: int
    batch: int
    precision: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, help="names or paths, or unet")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512], help="side in px")
    parser.add_argument("--batches", type=int, nargs="+", default=[0], help="0: what flowmag takes")
    parser.add_argument("--precisions", nargs="+", default=["auto"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--frames", type=int, default=120, help="frames of the clip")
    parser.add_argument("--turns", type=int, default=3, help="turns; the median counts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    use_threads(options.threads)
    if options.memory_of:
        print(peak(Setting(**json.loads(options.memory_of)), options.device))
        return
    rows = []
    for size, batch, precision in itertools.product(
        options.sizes, options.batches, options.precisions
    ):
        settings = [Setting(model, size, batch, precision) for model in options.models]
        rows += measure(settings, options)
    print(json.dumps(rows)) if options.json else report(rows)


def measure(settings: list[Setting], options: argparse.Namespace) -> list[dict[str, object]]:
    models = [load(setting.model, options.device) for setting in settings]
    firsts = [first_frames(*both, options.device) for both in zip(settings, models, strict=True)]
    clip = moving_clip(max(options.frames, BATCHES * max(firsts)), settings[0].size)
    seconds: list[list[float]] = [[] for _ in settings]
    slow: dict[int, bool] = {}
    for _ in range(options.turns):
        for k, (setting, model, first) in enumerate(zip(settings, models, firsts, strict=True)):
            few = clip[: 2 * first + 1]
            if k not in slow:
                slow[k] = seconds_a_frame(few, model, setting, options.device, first) > SLOW
            part = few if slow[k] else clip
            seconds[k].append(seconds_a_frame(part, model, setting, options.device, first))
    reference = dict(zip(options.models, map(statistics.median, seconds), strict=True)).get("unet")
    rows = []
    for setting, spent in zip(settings, seconds, strict=True):
        median = statistics.median(spent)
        row = asdict(setting) | {
            "frames_a_second": 1 / median,
            "mebibytes": memory(setting, options),
        }
        rows.append(row | {"ratio_to_unet": reference / median if reference else None})
    return rows


def load(model: str, device: str) -> Magnifier:
    if model == "unet":
        return UNetMagnifier(width=64).eval().to(device)
    return load_magnifier(model, device)


def seconds_a_frame(
    clip: NDArray[np.uint8], magnifier: Magnifier, setting: Setting, device: str, first: int
) -> float:
    """Measure all but the first batch, which comes with what is computed once for a clip."""
    frames = magnify_frames(
        clip,
        8,
        model=magnifier,
        device=device,
        batch=setting.batch or None,
        precision=setting.precision,
    )
    for _ in range(first):
        next(frames)
    start = time.perf_counter()
    count = sum(1 for _ in frames)
    return (time.perf_counter() - start) / count


def first_frames(setting: Setting, magnifier: Magnifier, device: str) -> int:
    """Return the length of the first batch."""
    clip = np.broadcast_to(np.uint8(0), (2, setting.size, setting.size, 3))
    settings = MagnifySettings(alpha=8, device=device, batch=setting.batch or None)
    # On a CPU all models skip as many, so that they measure the same frames.
    least = torch.get_num_threads() if device == "cpu" and not setting.batch else 1
    job = Magnification(clip, settings, magnifier=magnifier)
    return max(int(job.provenance()["batch"]), least)


def memory(setting: Setting, options: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--memory-of", json.dumps(asdict(setting))]
    command += ["--device", options.device, "--threads", str(options.threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(setting: Setting, device: str) -> float:
    """Peak memory in MiB beyond that of the loaded model: of the process, or of the card."""
    model = load(setting.model, device)
    first = first_frames(setting, model, device)
    clip = moving_clip(3 * first, setting.size)
    before = peak_memory(device)
    seconds_a_frame(clip, model, setting, device, first)
    return (peak_memory(device) - before) / 2**20


def report(rows: list[dict[str, object]]) -> None:
    heads = ("model", "size", "batch", "precision", "frames/s", "× U-Net", "MiB")
    print(f"{heads[0]:24s}" + "".join(f"{head:>11s}" for head in heads[1:]))
    for row in rows:
        ratio = "–" if row["ratio_to_unet"] is None else f"{row['ratio_to_unet']:.1f}"
        cells = (
            row["size"],
            row["batch"] or "auto",
            row["precision"],
            f"{row['frames_a_second']:.2f}",
            ratio,
        )
        print(
            f"{row['model']:24}"
            + "".join(f"{c!s:>11s}" for c in (*cells, f"{row['mebibytes']:.0f}"))
        )


if __name__ == "__main__":
    main()
