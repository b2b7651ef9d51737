from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Clips come into being a frame at a time; the second one has 64 times the pixels of the first.
PROGRAM = """
import json, resource
import dask.array as da
import numpy as np
import torch
from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.adaptation import Adaptation

torch.set_num_threads(1)
FRAMES, peaks = 40, []
for size in (256, 2048):

    def frame(block_info=None):
        t = block_info[None]["chunk-location"][0]
        wave = np.sin((np.arange(size, dtype=np.float32) - 0.5 * np.sin(t)) / 3)
        return np.broadcast_to(2000 + 1500 * wave, (1, size, size)).astype(np.uint16)

    chunks = ((1,) * FRAMES, (size,), (size,))
    clip = da.map_blocks(frame, dtype=np.uint16, chunks=chunks)
    settings = AdaptSettings.of(crop=128, batch=1, steps=3, held_back=2, device="cpu")
    assert Adaptation(clip, settings).run().steps == 3
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory as Linux tells it")
def test_memory_does_not_grow_with_the_frames():
    line = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout)
    # Frames are kept while they fit into 256 MB; all of them as the model sees them are 640 MB.
    assert (large - small) / 1024 < 400
