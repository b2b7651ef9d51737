from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings

from napari_flowmag.models.base import Magnifier, broadcast_alpha
from napari_flowmag.warp import sample

# Small pictures gain nothing from threads, and busy machines run many times slower with them.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples each time, so that a failure is a change's doing; `--hypothesis-profile=explore`
# draws others, to look for more.
settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("default")

# Shells start background jobs with Ctrl-C ignored, and so would be every command that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

Formula = Callable[[str, list[int]], np.ndarray]


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the small stored data; see its README."""
    return Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def shared_fixtures() -> Path:
    """Folder of the outputs of the paper's published code, at full size."""
    root = Path(__file__).parents[1]
    shared = Path(os.environ.get("FLOWMAG_SHARED", root.parent / "shared"))
    if not (shared / "fixtures").is_dir():
        pytest.skip("needs the shared fixtures: set FLOWMAG_SHARED to their folder")
    return shared / "fixtures"


@pytest.fixture(scope="session")
def waves() -> Callable[..., np.ndarray]:
    """Pictures (1, 3, H, W) of two waves a channel, whose motion is the shift of their phase."""

    def make(height: int, width: int, dx: tuple[float, float, float], dy: float) -> np.ndarray:
        y, x = np.mgrid[:height, :width].astype(np.float64)
        channels = [
            0.5 + 0.25 * np.sin((x + dx[c]) / (5 + c)) + 0.2 * np.cos((y + dy) / (7 - c))
            for c in range(3)
        ]
        return np.stack(channels)[None].astype(np.float32)

    return make


@pytest.fixture(scope="session")
def formula_weights() -> Formula:
    """Weights of a network from their names: nothing to store, the same everywhere."""

    def make(name: str, shape: list[int]) -> np.ndarray:
        i = np.arange(np.prod(shape, dtype=int), dtype=np.float64)
        phase = crc32(name.encode()) % 1000 / 1000 * 2 * np.pi
        if name.endswith("bias"):
            values = 0.01 * np.sin(0.9 * i + phase)
        else:
            scale = np.sqrt(2 / np.prod(shape[1:])) * 1.2
            # Not i**2: a value that rounds to the other side of a multiple of 6.28 jumps.
            values = scale * np.sin(1.7 * i + phase + (0.013 * i * i) % 6.28)
        return values.reshape(shape).astype(np.float32)

    return make


class ShiftMagnifier(Magnifier):
    """Knows only motions of a picture as a whole: Gauss–Newton on two parameters, no weights."""

    architecture = "shift"
    alpha_range = (0.0, 16.0)
    channels = None
    context = 16

    def __init__(self):
        super().__init__()
        self.prepared = 0

    def prepare(self, reference):
        self.prepared += 1
        first = reference.mean(1, keepdim=True)
        p = F.pad(first, (1, 1, 1, 1), mode="replicate")
        dx, dy = p[..., 1:-1, 2:] - p[..., 1:-1, :-2], p[..., 2:, 1:-1] - p[..., :-2, 1:-1]
        return {"picture": first, "slopes": [torch.cat([dx, dy], 1) / 2]}

    def predict(self, prepared, frame, alpha):
        first, (slopes,) = prepared["picture"], prepared["slopes"]
        frame = frame.mean(1, keepdim=True)
        shift = torch.zeros(len(frame), 2, 1, 1)
        inner = (..., slice(8, -8), slice(8, -8))
        a = slopes[inner].flatten(2)
        for _ in range(6):
            rest = sample(frame, shift.expand(-1, -1, *frame.shape[-2:])) - first
            normal = a @ a.mT + 1e-9 * torch.eye(2)
            step = torch.linalg.solve(normal, a @ rest[inner].flatten(2).mT)
            shift = shift - step.unsqueeze(-1)
        return shift.expand(-1, -1, *frame.shape[-2:])

    def render(self, prediction, reference, frame, alpha):
        return sample(frame, -(broadcast_alpha(alpha) - 1) * prediction)


class PaintMagnifier(Magnifier):
    """Repaints values instead of moving them: reference + α (frame - reference), in RGB."""

    architecture = "paint"
    alpha_range = (0.0, 4.0)
    channels = 3
    context = 8

    def __init__(self):
        super().__init__()
        self.sizes = []

    def prepare(self, reference):
        return (reference,)

    def predict(self, prepared, frame, alpha):
        self.sizes.append(tuple(frame.shape))
        (reference,) = prepared
        return reference + broadcast_alpha(alpha) * (frame - reference)

    def render(self, prediction, reference, frame, alpha):
        return prediction


@pytest.fixture
def shift_magnifier():
    return ShiftMagnifier()


@pytest.fixture
def paint_magnifier():
    return PaintMagnifier()


@pytest.fixture(scope="session")
def texture() -> Callable[..., np.ndarray]:
    """Clips (T, H, W) in [0, 1] of a smooth texture moved by (dx, dy) px, exact to rounding."""

    def make(shifts, height=48, width=64, seed=0):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width].astype(np.float64)
        waves = [(*rng.uniform(-0.4, 0.4, 2), rng.uniform(0, 6.28)) for _ in range(12)]
        frames = [
            sum(np.sin(a * (x - dx) + b * (y - dy) + c) for a, b, c in waves) for dx, dy in shifts
        ]
        return 0.5 + np.stack(frames) / 24

    return make


@pytest.fixture(scope="session")
def sam_checkpoint(tmp_path_factory) -> Path:
    """Weights of a tiny Segment Anything, random: they find no object, but answer like it."""
    modeling = pytest.importorskip("segment_anything.modeling")
    torch.manual_seed(3)
    encoder = modeling.ImageEncoderViT(
        img_size=64,
        patch_size=16,
        embed_dim=24,
        depth=3,
        num_heads=3,
        out_chans=32,
        use_rel_pos=True,
        window_size=2,
        global_attn_indexes=(1,),
    )
    prompts = modeling.PromptEncoder(32, (4, 4), (64, 64), 16)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=40, num_heads=8)
    decoder = modeling.MaskDecoder(
        transformer_dim=32, transformer=transformer, num_multimask_outputs=3, iou_head_hidden_dim=24
    )
    path = tmp_path_factory.mktemp("sam") / "tiny.pth"
    torch.save(modeling.Sam(encoder, prompts, decoder).state_dict(), path)
    return path
