from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_flowmag.checkpoint import save_checkpoint
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.models.unet import UNetMagnifier


def _save(path: Path, architecture: str, module) -> Path:
    save_checkpoint(
        path,
        module,
        kind="magnifier",
        architecture=architecture,
        config=module.config,
        training={"description": "random weights"},
    )
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each architecture, untrained."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    return {
        "field": _save(folder / "field.safetensors", "field", FieldMagnifier()),
        "unet": _save(folder / "unet.safetensors", "unet", UNetMagnifier(width=2)),
    }


@pytest.fixture
def clip_file(tmp_path, texture) -> Path:
    """A 16-bit stack of six frames with a pixel size and a frame interval."""
    frames = texture([(0.1 * t, 0.05 * t) for t in range(6)], height=40, width=48)
    path = tmp_path / "clip.tif"
    tifffile.imwrite(
        path,
        (frames * 3000 + 200).astype(np.uint16),
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "TYX", "unit": "um", "finterval": 0.25},
    )
    return path


# Runs a command in a process of its own for each of some moments to be killed at; each is a fork,
# as starting Python takes longer than the run. A moment: the n-th layer that computes, or the n-th
# file that is about to get its name; null lets the run end.
_KILLED = """
import json, os, signal, sys
import torch
import napari_flowmag.adapt.adaptation, napari_flowmag.train.loop, napari_flowmag.train.magnifier
from napari_flowmag.cli import main as flowmag
from napari_flowmag.cli.train import main as flowmag_train

plain = os.replace


def strike_at(event, number):
    count = iter(range(number))

    def happen(kind):
        if kind == event and next(count, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def replace(*names):
        happen("file")
        return plain(*names)

    torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: happen("layer"))
    os.replace = replace


ends = []
for words, moment in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        if moment:
            strike_at(*moment)
        main = flowmag_train if words[0] == "flowmag-train" else flowmag
        os._exit(main(words[1:]))
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ends))
"""


@pytest.fixture
def killed():
    """Function of ((words, moment), …) that gives the exit status of each, -9 if it was killed."""
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked, as POSIX does")

    def run(*runs):
        line = [sys.executable, "-c", _KILLED, json.dumps(runs)]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
