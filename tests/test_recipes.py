"""The commands of docs/recipes.md, as they stand there, on tiny clips for two steps."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_flowmag import load_magnifier
from napari_flowmag.cli import main as flowmag
from napari_flowmag.cli.train import main as train
from napari_flowmag.clip import Clip
from napari_flowmag.io import read_clip, write_clip
from napari_flowmag.models.unet import UNetMagnifier, write_authors_checkpoint

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
QUICK = "--steps 2 --crop 64 --batch 1 --held_out 1 --workers 0 --threads 1 --device cpu"


def commands(section: str) -> list[list[str]]:
    """Return the command lines of a section in their order, as lists of words."""
    text = PAGE.read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```bash\n(.+?)\n```$", text, re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def run(words: list[str]) -> int:
    program, *rest = words
    if program == "flowmag":
        return flowmag([*rest, "--device", "cpu"])
    assert program == "flowmag-train"
    if rest[0] == "prepare":
        return train([*rest, "--workers", "0", "--pairs_per_clip", "4"])
    quick = QUICK.replace("--held_out 1 ", "") if rest[0] == "flow" else QUICK
    if "unet" in rest:
        quick += " --model.width 2"
    return train([*rest, *quick.split()])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with the authors' checkpoint, but small."""
    monkeypatch.chdir(tmp_path)
    write_authors_checkpoint(tmp_path / "unet.pth", UNetMagnifier(width=2))
    return tmp_path


def blobs(seed: int) -> np.ndarray:
    """16-bit frames of bright cells on a dark ground, one half of which twitches."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:72, :88].astype(np.float64)
    frames = np.zeros((8, 72, 88))
    for cy, cx, r in zip(*rng.uniform((4, 4, 2), (68, 84, 6), (40, 3)).T, strict=True):
        for t in range(8):
            dx = 0.9 * np.sin(t) * (cx > 44)
            frames[t] += np.exp(-((x - cx - dx) ** 2 + (y - cy) ** 2) / (2 * r * r))
    noisy = 800 + 4000 * frames + 20 * rng.standard_normal(frames.shape)
    return noisy.round().clip(0, 65535).astype(np.uint16)


def vibrating(texture: Callable[..., np.ndarray], seed: int) -> np.ndarray:
    """RGB frames of a still texture with a part in the middle that vibrates."""
    shifts = [(1.2 * np.sin(0.9 * t), 0.0) for t in range(8)]
    still = texture([(0.0, 0.0)] * 8, 72, 88, seed)
    inside = np.exp(-((((np.mgrid[:72, :88] - [[[36]], [[44]]]) / 16) ** 2).sum(0) ** 2))
    frames = still + inside * (texture(shifts, 72, 88, seed) - still)
    return np.stack([255 * frames, 230 * frames, 200 * frames], -1).clip(0, 255).astype(np.uint8)


def test_microscopy(place: Path) -> None:
    (place / "recordings").mkdir()
    for seed, name in enumerate(("cells", "more", "others")):
        tifffile.imwrite(
            place / "recordings" / f"{name}.tif", blobs(seed), imagej=True, metadata={"axes": "TYX"}
        )
    lines = commands("Microscopy")
    for words in lines:
        assert run(words) == 0, shlex.join(words)
    check(place, lines, {"run_bundled": "field", "run_authors": "unet", "run_scratch": "field"})
    assert json.loads((place / "pairs" / "test_fn.json").read_text())[0].endswith(".tif")
    for name in ("magnified", "magnified_unet", "magnified_scratch"):
        clip = read_clip(place / f"{name}.tif")
        assert (clip.dtype, clip.shape) == (np.uint16, (8, 72, 88))


def test_vibration_footage(place: Path, texture: Callable[..., np.ndarray]) -> None:
    (place / "footage").mkdir()
    for seed, name in enumerate(("machine", "bridge", "string")):
        clip = Clip.from_array(vibrating(texture, seed), "TYXS", fps=25.0)
        write_clip(clip, place / "footage" / f"{name}.mp4")
    lines = commands("Vibration footage")
    for words in lines:
        assert run(words) == 0, shlex.join(words)
    models = {"bundled": "field", "authors": "unet", "scratch": "unet"}
    check(place, lines, {f"vibration_{name}": model for name, model in models.items()})
    names = json.loads((place / "vibration_pairs" / "test_fn.json").read_text())
    assert names[0].endswith(".png")
    for name in ("magnified", "magnified_unet", "magnified_scratch"):
        assert read_clip(place / f"machine_{name}.mp4").shape == (8, 72, 88, 3)


def check(place: Path, lines: list[list[str]], runs: dict[str, str]) -> None:
    """Each run made a model of its kind, and is begun, and used, as the page says."""
    begun = {words[words.index("-o") + 1]: words for words in lines if words[0] == "flowmag-train"}
    for run_name, architecture in runs.items():
        model = f"{run_name}/model.safetensors"
        assert load_magnifier(place / model, "cpu").architecture == architecture
        assert any(words[0] == "flowmag" and model in words for words in lines)
        start = begun[run_name]
        wanted = {"bundled": "default", "authors": "unet.pth"}.get(run_name.rpartition("_")[2])
        assert (start[start.index("--init") + 1] if "--init" in start else None) == wanted
