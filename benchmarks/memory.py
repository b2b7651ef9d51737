"""Peak memory of `flowmag magnify` for a short and a long clip: it must not grow with the frames.

    python benchmarks/memory.py [--frames 64 1024] [--size 256] [--suffix .tif .mp4] [--model M]

Writes clips of moving texture to a temporary folder, magnifies each in a process of its own, and
prints the largest resident memory of that process. Exits 1 if the longest clip takes over 10 % more
than the shortest. POSIX only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import dask.array as da
import numpy as np
from scipy import ndimage

from napari_flowmag.clip import Clip
from napari_flowmag.io import open_writer

ALLOWED = 1.10


def write_clip(path: Path, count: int, size: int) -> None:
    """Write a texture that swings by 0.3 px: 8-bit RGB for video, else 16-bit grey."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.random((size + 8, size + 8)), 1.5, mode="wrap")
    texture = (texture - texture.min()) / np.ptp(texture)
    video = path.suffix == ".mp4"
    dtype, top = (np.uint8, 255) if video else (np.uint16, 4000)
    shape = (count, size, size, 3) if video else (count, size, size)
    empty = da.zeros(shape, dtype=dtype, chunks=(1, *shape[1:]))
    like = Clip(empty, "TYXS" if video else "TYX")
    with open_writer(path, like) as writer:
        for t in range(count):
            moved = ndimage.shift(texture, (0, 0.3 * np.sin(t / 5)), order=1)[4:-4, 4:-4]
            frame = (moved * top).astype(dtype)
            writer.write(np.repeat(frame[..., None], 3, axis=-1) if video else frame)


def peak(clip: Path, output: Path, model: str) -> float:
    """Largest resident memory in MB of a process that magnifies a clip."""
    code = "import sys; from napari_flowmag.cli import main; sys.exit(main())"
    words = ["magnify", str(clip), "-o", str(output), "--alpha", "10", "--model", model]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words, "--device", "cpu"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit("flowmag magnify failed")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--frames", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--suffix", nargs="+", default=[".tif", ".mp4"])
    parser.add_argument("--model", default="default")
    options = parser.parse_args()
    grew = False
    for suffix in options.suffix:
        peaks = []
        for count in sorted(options.frames):
            with tempfile.TemporaryDirectory() as folder:
                clip, output = Path(folder, f"clip{suffix}"), Path(folder, f"out{suffix}")
                write_clip(clip, count, options.size)
                peaks.append(peak(clip, output, options.model))
            print(f"{suffix}: {count:5d} frames: {peaks[-1]:7.1f} MB", flush=True)
        grew = grew or peaks[-1] > ALLOWED * peaks[0]
        print(f"{suffix}: {peaks[-1] / peaks[0]:.3f} times the memory of the shortest clip")
    return int(grew)


if __name__ == "__main__":
    sys.exit(main())
