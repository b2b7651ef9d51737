"""Frames a second of the default model beside the paper's U-Net, in one run.

    python benchmarks/speed.py [--threads 2] [--size 512] [--json]

Both magnify the same RGB clip on the CPU with `magnify_frames`; files and what is computed once for
a clip are left out. The U-Net has the published width and random weights, which cost the same as
trained ones. The two take turns, so that a busy machine slows both down.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch
from numpy.typing import NDArray

from napari_flowmag import load_magnifier
from napari_flowmag.magnify import magnify_frames
from napari_flowmag.models.base import Magnifier
from napari_flowmag.models.unet import UNetMagnifier
from napari_flowmag.synthetic.clips import translating_texture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name or path of the model to compare")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--size", type=int, default=512, help="height and width in px")
    parser.add_argument("--frames", type=int, default=10, help="frames of the clip (the U-Net: 2)")
    parser.add_argument("--turns", type=int, default=3, help="turns; the median counts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    clip = moving_picture(arguments.frames, arguments.size)
    model = load_magnifier(arguments.model, device="cpu")
    unet = UNetMagnifier(width=64).eval()
    ours, theirs = [], []
    for _ in range(arguments.turns):
        ours.append(seconds_a_frame(clip, model))
        theirs.append(seconds_a_frame(clip[:2], unet))
    report(statistics.median(ours), statistics.median(theirs), arguments)


def moving_picture(frames: int, size: int) -> NDArray[np.uint8]:
    shift = 0.3 * np.stack([np.arange(frames), np.zeros(frames)], axis=1)
    pictures = translating_texture(shift, size=(size, size))
    return np.round(255 * pictures).astype(np.uint8)


def seconds_a_frame(clip: NDArray[np.uint8], magnifier: Magnifier) -> float:
    frames = magnify_frames(clip, 8, model=magnifier, device="cpu")
    next(frames)  # the reference, with what is computed once for a clip
    start = time.perf_counter()
    count = sum(1 for _ in frames)
    return (time.perf_counter() - start) / count


def report(ours: float, theirs: float, arguments: argparse.Namespace) -> None:
    facts = {
        "model": arguments.model,
        "size": arguments.size,
        "threads": arguments.threads,
        "model_fps": 1 / ours,
        "unet_fps": 1 / theirs,
        "ratio": theirs / ours,
    }
    if arguments.json:
        print(json.dumps(facts))
        return
    print(f"{arguments.size} × {arguments.size} px RGB on {arguments.threads} CPU threads")
    print(f"{arguments.model}: {1 / ours:.2f} frames/s ({ours:.3f} s a frame)")
    print(f"paper's U-Net: {1 / theirs:.2f} frames/s ({theirs:.3f} s a frame)")
    print(f"ratio: {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
