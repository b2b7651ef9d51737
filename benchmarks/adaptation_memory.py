"""Peak memory of an adaptation by the size of the frames: it must not grow with them.

    python benchmarks/adaptation_memory.py [--sizes 512 1024 2048] [--frames 64] [--steps 20]

The clips come into being a frame at a time (dask, 16-bit) and lie in no file. Each is adapted to in
a process of its own, with crops as large as the preset has them. What may grow is the cache of
frames (256 MB at most) and a picture of where the clip moves. Exits 1 if the largest takes over
500 MB more than the smallest. POSIX only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

ALLOWED = 500

PROGRAM = """
import sys
import dask.array as da
import numpy as np
import torch
from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.adaptation import Adaptation

size, frames, steps = map(int, sys.argv[1:])
torch.set_num_threads(1)


def frame(block_info=None):
    t = block_info[None]["chunk-location"][0]
    x = np.arange(size) - 0.5 * np.sin(t)
    wave = np.sin(x / 3) * np.cos(np.arange(size)[:, None] / 4)
    return (2000 + 1500 * wave).astype(np.uint16)[None]


chunks = ((1,) * frames, (size,), (size,))
clip = da.map_blocks(frame, dtype=np.uint16, chunks=chunks)
adapted = Adaptation(clip, AdaptSettings.of(steps=steps, device="cpu")).run()
assert adapted.steps == steps
"""


def peak(size: int, frames: int, steps: int) -> float:
    """Largest resident memory in MB of a process that adapts to frames of a size."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, (size, frames, steps))])
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit("adapting failed")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    peaks = []
    for size in sorted(options.sizes):
        peaks.append(peak(size, options.frames, options.steps))
        clip = 4 * options.frames * size**2 / 2**20
        print(f"{size:5d}²: {peaks[-1]:7.1f} MB (the clip as float32: {clip:.0f} MB)", flush=True)
    print(f"{peaks[-1] - peaks[0]:+.1f} MB from the smallest to the largest frames")
    return int(peaks[-1] - peaks[0] > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
