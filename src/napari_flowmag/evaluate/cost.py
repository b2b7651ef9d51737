"""Speed and memory of a method, each in a process of its own, so that none sees another's.

    python -m napari_flowmag.evaluate.cost default 512 4 cpu 2

prints one line of JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.errors import FlowmagError

SIDE, QUICK_SIDE, FRAMES = 512, 256, 4


@dataclass(frozen=True)
class Cost:
    """What magnifying costs.

    Attributes
    ----------
    method
        Its name.
    side
        Height and width of the frames, px.
    seconds
        For a frame, after the first one.
    mebibytes
        Peak memory beyond that of the loaded model: of the process, or of the graphics card.
    """

    method: str
    side: int
    seconds: float
    mebibytes: float


def measure_cost(name: str, model: str, device: str, threads: int, side: int = SIDE) -> Cost:
    """Magnify some colour frames of `side` × `side` px in a new process.

    Parameters
    ----------
    name
        What to call it.
    model
        What :func:`~napari_flowmag.models.load_magnifier` takes.
    device
        Where to compute.
    threads
        CPU threads.
    side
        Height and width, px.

    Raises
    ------
    FlowmagError
        If the process fails; the message is its last line.
    """
    command = [sys.executable, "-m", __name__, model, str(side), str(FRAMES), device, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.splitlines() or ["no reason given"])[-1]
        raise FlowmagError(f"speed of {name} could not be measured: {last}")
    return Cost(method=name, **json.loads(lines[-1]))


def _main(model: str, side: int, frames: int, device: str, threads: int) -> dict[str, float]:
    import torch

    from napari_flowmag.batches import default_batch
    from napari_flowmag.device import use_threads
    from napari_flowmag.frames import as_frames
    from napari_flowmag.magnify import magnify
    from napari_flowmag.models import load_magnifier

    use_threads(threads)
    magnifier = load_magnifier(model, device)
    used = next((p.device for p in magnifier.parameters()), torch.device("cpu"))
    device = str(used)
    first = 2
    if used.type != "cpu":  # which takes many at once, and is slow at the first of them
        first = 1 + default_batch(magnifier, used, as_frames(moving_clip(1, side)))
        frames *= first - 1
    clip = moving_clip(frames + 1, side)
    before = peak_memory(device)
    magnify(clip[:first], 10, model=magnifier)
    began = time.perf_counter()
    magnify(clip, 10, model=magnifier)  # all but the first: that one is the reference
    seconds = (time.perf_counter() - began) / frames
    more = (peak_memory(device) - before) / 2**20
    return {"side": side, "seconds": seconds, "mebibytes": more}


def moving_clip(frames: int, side: int) -> NDArray[np.uint8]:
    """Make a clip of smooth noise that moves by up to 0.9 px, and little memory for it.

    The peak that is measured afterwards must not be this one's.
    """
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    clip = np.empty((frames, side, side, 3), dtype=np.uint8)
    for channel in range(3):
        noise = rng.standard_normal((side, side), dtype=np.float32)
        texture = gaussian_filter(noise, 2.0, mode="wrap")
        texture *= 48 / texture.std()
        for t in range(frames):
            # Never where the first frame is: one that does not differ from it costs nothing.
            share = 0.3 * ((t - 1) % 3 + 1) if t else 0.0
            moved = (1 - share) * texture + share * np.roll(texture, 1, axis=1)
            clip[t, ..., channel] = np.clip(128 + moved, 0, 255)
    return clip


def peak_memory(device: str) -> float:
    """Return the largest memory that this process, or what it holds on a card, has had; bytes.

    NaN where the system does not say.
    """
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: getrusage would count the parent process as well
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return float(found[1]) * 1024 if found else float("nan")
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


if __name__ == "__main__":
    name, pixels, count, place, cores = sys.argv[1:]
    print(json.dumps(_main(name, int(pixels), int(count), place, int(cores))))
