"""Baselines behind the commands, and where they cannot go."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_flowmag import FlowmagError, adapt, load_magnifier, magnify
from napari_flowmag.baselines import BASELINES, Baseline, is_baseline
from napari_flowmag.checkpoint import import_from
from napari_flowmag.cli import main
from napari_flowmag.io import read_clip
from napari_flowmag.models.base import Magnifier
from napari_flowmag.synthetic.clips import translating_texture
from napari_flowmag.train.config import MagnifierConfig
from napari_flowmag.train.magnifier import build_magnifier


@pytest.fixture
def frames() -> np.ndarray:
    pictures = translating_texture([(0.1 * t, 0) for t in range(3)], size=(40, 48), channels=1)
    return np.round(200 + 3000 * pictures).astype(np.uint16)


@pytest.fixture
def clip(frames: np.ndarray, tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "clip.tif", frames, imagej=True, metadata={"axes": "TYX"})
    return tmp_path / "clip.tif"


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=lambda baseline: baseline.name)
def test_the_registry_names_what_there_is(baseline: Baseline) -> None:
    factory = import_from(baseline.factory)
    assert is_baseline(baseline.name)
    assert is_baseline(f"{baseline.name}:3")
    assert baseline.description
    assert baseline.source
    if baseline.ready:
        assert issubclass(factory, Magnifier)
        assert factory.architecture == baseline.name
        assert factory(**factory().config).config == factory().config


def test_the_command_magnifies_by_name(
    clip: Path, frames: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    out = clip.with_name("out.tif")
    words = ["magnify", str(clip), "-o", str(out), "--alpha", "4", "--model", "phase:1"]
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["sha256"] is None
    record = read_clip(out).metadata["provenance"]
    assert record["model"] == {"name": "phase:1", "architecture": "phase", "sha256": None}
    expected = magnify(frames, 4, model="phase:1", device="cpu")
    np.testing.assert_array_equal(np.asarray(read_clip(out).frames), expected)
    assert main(words) == 0
    assert "model phase:1 (no weights)" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["phase:x", "oh", "phases"])
def test_the_command_refuses_in_one_line(
    name: str, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["magnify", str(clip), "-o", str(clip.with_name("o.tif")), "--alpha", "4"]
    assert main([*words, "--model", name]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["phase", "warp-bilinear", "warp-nearest:dis", "lucas-kanade"])
def test_there_is_nothing_to_train(name: str, frames: np.ndarray) -> None:
    """Also where a flow brings weights: they are part of the method."""
    with pytest.raises(FlowmagError, match="has no weights to adapt"):
        adapt(load_magnifier(name, "cpu"), frames, 4.0, steps=1, device="cpu")
    with pytest.raises(FlowmagError, match=f"init: {name} has no weights to train"):
        build_magnifier(MagnifierConfig(init=name))
