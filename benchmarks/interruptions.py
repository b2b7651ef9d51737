"""Cancels and kills at random moments: what is left, and whether work goes on to the same end.

    python benchmarks/interruptions.py [--cancels 20] [--kills 10] [--only adapt train] [--seed 0]

- cancel: an adaptation is cancelled at a random layer of its networks. Its model must magnify, and
  no thread, open file or file on disk may be left.
- adapt, train: a process of `flowmag adapt` or `flowmag-train` gets SIGKILL at a random time, and
  the same command (with `--resume` for training) goes on. Weights must be those of a run that was
  let be, to the bit, and no part of a file may be left.

Prints a verdict for each, and exits 1 if one is bad. POSIX only; about 10 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_flowmag import load_magnifier, magnify
from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.adaptation import Adaptation
from napari_flowmag.adapt.state import discard_state
from napari_flowmag.provenance import state_sha256

SERVER = get_context("forkserver")
SERVER.set_forkserver_preload([
    "napari_flowmag.cli.adapt", "napari_flowmag.cli.train", "napari_flowmag.adapt.adaptation",
    "napari_flowmag.train.loop", "napari_flowmag.train.magnifier",
])  # fmt: skip
TRAIN = (
    "--init default --batch 1 --crop 32 --held_out 1 --workers 0 --device cpu --threads 1 "
    "--steps 40 --save_every 4 --validate_every 20"
)


def frames(count: int = 12) -> np.ndarray:
    """Stripes that beat sideways by 0.8 px, (T, 48, 64) uint8."""
    y, x = np.mgrid[:48, :64]
    moved = [np.sin((x - 0.8 * np.sin(t)) / 3) + np.cos((y + x / 3) / 4) for t in range(count)]
    return (128 + 60 * np.stack(moved)).astype(np.uint8)


def write_data(folder: Path) -> None:
    """Write a clip, and the same as frame pairs."""
    clip = frames()
    tifffile.imwrite(folder / "clip.tif", clip, metadata={"axes": "TYX"})
    names = [f"{t}.tif" for t in range(1, len(clip))]
    for side in ("frameA", "frameB"):
        (folder / "pairs" / "train" / side).mkdir(parents=True)
        for t, name in enumerate(names, 1):
            tifffile.imwrite(folder / "pairs/train" / side / name, clip[t * (side == "frameB")])
    (folder / "pairs" / "train_fn.json").write_text(json.dumps(names))


def open_files() -> int:
    """Number of files that this process holds open; 0 where the system does not tell."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def cancelled(layers: int, state: Path) -> str:
    """Cancel an adaptation at a layer and return what is wrong, or ''."""
    cancel, left = threading.Event(), iter(range(layers))
    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda *_: cancel.set() if next(left, None) is None else None
    )
    settings = AdaptSettings.of(alpha=4, crop=48, batch=1, steps=40, check_every=5, device="cpu")
    try:
        adapted = Adaptation(frames(), settings).run(cancel=cancel, state=state)
    finally:
        hook.remove()
    discard_state(state)
    if not np.isfinite(magnify(frames(2), 4, model=adapted.magnifier, device="cpu")).all():
        return "its model magnifies to values that are not finite"
    if (adapted.after or 0) > (adapted.before or 0):
        return "its model is worse than the one it began with"
    return "" if adapted.stopped == "cancelled" else "it was not cancelled"


def check_cancels(folder: Path, count: int, rng: random.Random) -> list[str]:
    """Cancel many times; verdicts."""
    (folder / "cancels").mkdir()
    cancelled(1, folder / "cancels" / "state")  # opens what stays open: libraries, weights
    verdicts = []
    for number in range(count):
        threads, files = threading.active_count(), open_files()
        layers = rng.randrange(1, 4000)
        wrong = cancelled(layers, folder / "cancels" / "state")
        if threading.active_count() > threads:
            wrong = wrong or "a thread is left"
        if open_files() > files:
            wrong = wrong or "an open file is left"
        if any((folder / "cancels").iterdir()):
            wrong = wrong or "a file is left"
        verdicts.append(wrong)
        print(f"cancel {number + 1:2d} at layer {layers:4d}: {wrong or 'good'}", flush=True)
    return verdicts


def command_of(module: str, words: list[str]) -> None:
    """Run a command in this process, quietly, and leave with its status."""
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(import_module(module).main(words))


def start(module: str, words: list[str]) -> BaseProcess:
    """Start a command in a process of its own, from one that has only imported what it needs."""
    process = SERVER.Process(target=command_of, args=(module, words))
    process.start()
    return process


def finish(process: BaseProcess) -> None:
    """Wait for the end; a bad one ends everything."""
    process.join()
    if process.exitcode:
        sys.exit(f"a run ended with status {process.exitcode}")


def adapt_command(folder: Path, name: str) -> tuple[list[str], Path]:
    """Return a command's words and the weights that it writes."""
    out = folder / "adapt" / name / "model.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    words = "--alpha 4 --crop 48 --batch 1 --device cpu --steps 60"
    return ["adapt", str(folder / "clip.tif"), "-o", str(out), *words.split()], out


def train_command(folder: Path, name: str) -> tuple[list[str], Path]:
    """Return a command's words and the weights that it writes."""
    out = folder / "train" / name
    words = [str(folder / "pairs"), "-o", str(out), *TRAIN.split()]
    return words + ["--resume"] * (out / "state.pt").exists(), out / "model.safetensors"


def check_kills(folder: Path, what: str, count: int, rng: random.Random) -> list[str]:
    """Kill many times; verdicts."""
    module, command = {
        "adapt": ("napari_flowmag.cli", adapt_command),
        "train": ("napari_flowmag.cli.train", train_command),
    }[what]
    words, out = command(folder, "whole")
    began = time.monotonic()
    finish(start(module, words))
    length, expected = time.monotonic() - began, state_sha256(load_magnifier(out, "cpu"))
    verdicts = []
    while len(verdicts) < count:
        name = str(len(verdicts) + 1)
        words, out = command(folder, name)
        process, seconds = start(module, words), rng.random() * length
        process.join(seconds)
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            length *= 0.9  # it was done before: aim earlier
            for path in out.parent.iterdir():
                path.unlink()
            continue
        saved = any(path.name.endswith(("state", "state.pt")) for path in out.parent.glob("*"))
        words, out = command(folder, name)
        finish(start(module, words))
        wrong = ""
        if state_sha256(load_magnifier(out, "cpu")) != expected:
            wrong = "its weights are others"
        if any(path.name.endswith((".part", "safetensors.state")) for path in out.parent.iterdir()):
            wrong = wrong or "a part of a file is left"
        verdicts.append(wrong)
        where = "after a save" if saved else "before any save"
        print(
            f"{what} {name:>2} killed after {seconds:5.1f} s ({where}): {wrong or 'good'}",
            flush=True,
        )
    return verdicts


def main() -> int:
    """Run all and print how many were good."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cancels", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=["cancel", "adapt", "train"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        for what in options.only:
            if what == "cancel":
                verdicts = check_cancels(folder, options.cancels, rng)
            else:
                verdicts = check_kills(folder, what, options.kills, rng)
            wrong = sum(bool(verdict) for verdict in verdicts)
            print(f"{what}: {len(verdicts) - wrong} of {len(verdicts)} good", flush=True)
            bad += wrong
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
