from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn

import napari_flowmag.flow
from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.config import SelectionConfig
from napari_flowmag.train.data import open_pairs
from napari_flowmag.train.filter import PairStatistics, is_fit, measure_pair, select_pairs

CONFIG = SelectionConfig()
FIT = PairStatistics(p999=20.0, p80=2.0, p001=0.1, mse=10.1)


class Known(nn.Module):
    """Reads the motion off the second frame: its values are px along x."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        motion = second.mean(1, keepdim=True)
        return torch.cat([motion, torch.zeros_like(motion)], 1)


def test_a_pair_is_measured_by_the_papers_statistics() -> None:
    motion = torch.linspace(0, 10, 100 * 101).reshape(1, 100, 101)
    found = measure_pair(torch.zeros(1, 100, 101), motion, Known())
    assert found.p999 == pytest.approx(9.99, abs=2e-3)
    assert found.p80 == pytest.approx(8.0, abs=2e-3)
    assert found.p001 == pytest.approx(0.001, abs=2e-3)
    assert found.mse == pytest.approx(255**2 * 100 / 3, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "fit"),
    [
        ({}, True),
        ({"p999": 20.1}, False),
        ({"p80": 2.01}, False),
        ({"p001": 0.11}, False),
        ({"mse": 10.0}, False),
        ({"p999": 0.0, "p80": 0.0, "p001": 0.0}, True),
    ],
)
def test_the_bounds_are_the_papers(change: dict[str, float], fit: bool) -> None:
    assert is_fit(replace(FIT, **change), CONFIG) is fit


def moving(frames: int, dtype: type = np.uint8, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Return a smooth pattern that moves by 0.4 px a frame."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    t = 0.4 * np.arange(frames)[:, None, None]
    pattern = 0.5 + 0.25 * np.sin((x - t) / 2) + 0.25 * np.cos((y + x - t) / 3)
    return (
        (pattern * 200).astype(dtype) if dtype == np.uint8 else (1000 + 500 * pattern).astype(dtype)
    )


def write(path: Path, frames: np.ndarray) -> None:
    tifffile.imwrite(path, frames, photometric="minisblack")  # else 3 or 4 frames pass for RGB


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(napari_flowmag.flow, "load_flow", lambda *_, **__: Known())


def select(source: Path, out: Path, **changes: Any) -> list[str]:
    lines: list[str] = []
    select_pairs(source, out, replace(CONFIG, max_p001=1.0, **changes), lines.append)
    return lines


def test_a_folder_of_clips_becomes_pairs(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    (clips / "deeper").mkdir(parents=True)
    write(clips / "a.tif", moving(7))
    write(clips / "deeper" / "a.tif", moving(4, np.uint16))
    (clips / "notes.txt").write_text("not a clip")
    lines = select(clips, tmp_path / "out", strides=(1, 5), min_mse=1.0)
    assert lines == ["a.tif: 8 fit pairs", "a.tif: 3 fit pairs"]
    pairs = open_pairs(tmp_path / "out", 32)
    assert len(set(pairs.names)) == 11
    found = pairs.read(pairs.names.index("0000_a_p0_t000001_s5.tif")).numpy()
    np.testing.assert_array_equal(found[:, 0], moving(7)[[1, 6]])
    deep = pairs.read(len(pairs) - 1)
    assert deep.dtype == torch.float32
    assert len(torch.unique(deep)) > 256, "16-bit pictures stay as fine as they were"


def test_only_fit_pairs_are_kept(tmp_path: Path) -> None:
    frames = moving(6)
    frames[3:] = frames[3]  # stands still: no change, so nothing to learn
    write(tmp_path / "clip.tif", frames)
    select(tmp_path / "clip.tif", tmp_path / "out", strides=(1,), min_mse=1.0)
    names = json.loads((tmp_path / "out" / "train_fn.json").read_text())
    assert [name.split("_t")[1] for name in names] == [f"00000{t}_s1.tif" for t in range(3)]


def test_pictures_in_a_folder_are_one_clip(tmp_path: Path) -> None:
    for i, frame in enumerate(moving(3)):
        (tmp_path / "clip").mkdir(exist_ok=True)
        write(tmp_path / "clip" / f"{i}.tif", frame)
    assert select(tmp_path / "clip", tmp_path / "out", strides=(1,), min_mse=1.0) == [
        "clip: 2 fit pairs"
    ]


def test_each_plane_and_channel_gives_pairs(tmp_path: Path) -> None:
    frames = np.stack([np.stack([moving(3)] * 2, 1)] * 2, 1)  # T, Z, C, Y, X
    tifffile.imwrite(tmp_path / "zc.tif", frames, imagej=True, metadata={"axes": "TZCYX"})
    lines = select(tmp_path, tmp_path / "out", strides=(2,), min_mse=1.0)
    assert lines == ["zc.tif: 4 fit pairs"]


def test_at_most_so_many_pairs_are_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "clip.tif", moving(30))
    lines = select(tmp_path, tmp_path / "out", pairs_per_clip=6, min_mse=0.0)
    assert lines == ["clip.tif: 6 fit pairs"]


def test_a_damaged_clip_is_reported_and_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "good.tif", moving(3))
    (tmp_path / "bad.tif").write_bytes((tmp_path / "good.tif").read_bytes()[:200])
    lines = select(tmp_path, tmp_path / "out", strides=(1,), min_mse=1.0)
    assert len(lines) == 2
    assert lines[0].startswith("passed over: ")
    assert "bad.tif" in lines[0]
    assert lines[1] == "good.tif: 2 fit pairs"


def test_without_a_fit_pair_there_is_no_list(tmp_path: Path) -> None:
    write(tmp_path / "still.tif", np.repeat(moving(1), 4, 0))
    with pytest.raises(FlowmagError, match="no frame pair is fit"):
        select(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "train_fn.json").exists()


def test_without_a_clip_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FlowmagError, match=r"holds neither frame pairs .* nor clips"):
        select(tmp_path, tmp_path / "out")
    with pytest.raises(FlowmagError, match="nowhere: no such file or folder"):
        select(tmp_path / "nowhere", tmp_path / "out")
