from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_flowmag import FlowmagError, read_clip
from napari_flowmag import demo as module
from napari_flowmag.demo import DemoResult, run_demo
from napari_flowmag.models.base import Alpha, Magnifier
from napari_flowmag.synthetic.scenes import demo_clip, demo_kinds

FRAMES = 10


class Ideal(Magnifier):
    """Stands in for a trained model: knows the exactly magnified version of the scene."""

    architecture = "ideal"
    alpha_range = (0.0, float("inf"))
    channels = None
    context = 0

    def __init__(self, kind: str, alpha: float, promised: float) -> None:
        super().__init__()
        self.config: dict[str, Any] = {}
        frames = demo_clip(kind, factor=alpha, length=FRAMES).frames.astype(np.float32)
        seen = demo_clip(kind, length=FRAMES).frames
        offset = 0 if seen.dtype == np.uint8 else seen.min()  # that magnifiers do not see
        self.ideal = torch.from_numpy(frames - np.float32(offset))
        self.asked, self.step = promised, 0

    def prepare(self, reference: Tensor) -> tuple[Tensor]:
        return (reference,)

    def predict(self, prepared: Any, frame: Tensor, alpha: Alpha) -> Tensor:
        assert isinstance(alpha, Tensor)
        assert alpha.flatten().tolist() == [self.asked]
        return frame[:, :1]

    def render(self, prediction: Tensor, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        self.step += 1
        picture = self.ideal[self.step]
        picture = picture[None, None] if picture.ndim == 2 else picture.permute(2, 0, 1)[None]
        height, width = picture.shape[-2:]
        out = frame.clone()
        out[..., :height, :width] = picture
        return out


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAMES", FRAMES)


def _demo(folder: Path, kind: str, alpha: float, asked: float | None = None) -> DemoResult:
    asked = alpha if asked is None else asked
    magnifier = Ideal(kind, alpha, promised=asked)
    return run_demo(folder, kind=kind, alpha=asked, magnifier=magnifier, device="cpu")


def _factor(result: DemoResult) -> float:
    assert result.measured is not None
    return result.measured.value


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", demo_kinds())
def test_it_measures_what_was_done_and_writes_everything(kind: str, tmp_path: Path) -> None:
    result = _demo(tmp_path / "new" / "folder", kind, 6.0)
    assert _factor(result) == pytest.approx(6, rel=0.03)
    assert result.background is not None
    assert result.background < 0.7
    assert result.frames == FRAMES

    source = demo_clip(kind, length=FRAMES)
    original, magnified, video, slices = result.files
    assert {path.name for path in original.parent.iterdir()} == {p.name for p in result.files}
    before, after = read_clip(original), read_clip(magnified)
    np.testing.assert_array_equal(np.asarray(before.frames), source.frames)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    assert after.fps == pytest.approx(source.fps)
    assert after.unit == source.unit
    assert after.pixel_size == pytest.approx(source.pixel_size)
    assert after.metadata["provenance"]["settings"]["alpha"] == 6
    side_by_side = read_clip(video)
    assert len(side_by_side) == FRAMES
    assert side_by_side.sizes["X"] == 2 * before.sizes["X"]
    assert slices.read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("short")
def test_a_model_that_falls_short_is_found_out(tmp_path: Path) -> None:
    result = _demo(tmp_path, "beam", alpha=5.0, asked=10.0)
    assert result.alpha == 10
    assert _factor(result) == pytest.approx(5, rel=0.03)


@pytest.mark.usefixtures("short")
def test_motion_far_beyond_the_usual_is_measured_too(tmp_path: Path) -> None:
    assert _factor(_demo(tmp_path, "cells", 160.0)) == pytest.approx(160, rel=0.05)


@pytest.mark.usefixtures("short")
def test_where_nothing_can_be_measured_nothing_is_told(tmp_path: Path) -> None:
    result = _demo(tmp_path, "beam", 400.0)
    facts = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert facts["measured"] is facts["measured_low"] is facts["background_change"] is None
    text = result.to_text()
    assert "factor measured:  none" in text
    assert "still background: none" in text


@pytest.mark.usefixtures("short")
def test_a_background_that_changes_is_found_out(tmp_path: Path) -> None:
    magnifier = Ideal("beam", 5.0, promised=5.0)
    magnifier.ideal += 3
    result = run_demo(tmp_path, alpha=5.0, magnifier=magnifier, device="cpu")
    assert result.background == pytest.approx(3, abs=0.1)
    assert result.background_before is not None
    assert result.background_before < 0.7


@pytest.mark.usefixtures("short")
def test_the_result_as_text_and_as_json(tmp_path: Path) -> None:
    result = _demo(tmp_path, "beam", 4.0)
    text = result.to_text()
    assert "factor asked:     4\n" in text
    assert f"factor measured:  {_factor(result):.2f}" in text
    assert all(str(path) in text for path in result.files)
    facts = json.loads(json.dumps(result.to_dict()))
    assert facts["measured"] == _factor(result)
    assert len(facts["files"]) == 4


def test_nothing_is_left_where_nothing_can_be_done(tmp_path: Path) -> None:
    for arguments in ({"kind": "drum"}, {"model": "no-such-model"}, {"alpha": -1.0}):
        with pytest.raises(FlowmagError):
            run_demo(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(FlowmagError, match="cannot write to folder"):
        run_demo(tmp_path / "file", magnifier=Ideal("beam", 2.0, promised=2.0))
