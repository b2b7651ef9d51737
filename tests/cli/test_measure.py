from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_flowmag.cli import main


@pytest.fixture
def clips(tmp_path, texture):
    shift = 0.4 * np.sin(2 * np.pi * 2.5 * np.arange(24) / 20)
    for name, factor in (("clip", 1), ("magnified", 5)):
        frames = texture([(factor * s, 0) for s in shift], 72, 80)
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            np.round(60000 * frames).astype(np.uint16),
            imagej=True,
            resolution=(4, 4),
            metadata={"axes": "TYX", "unit": "um", "finterval": 0.05},
        )
    mask = np.zeros((72, 80), np.uint8)
    mask[8:-8, 8:-8] = 4
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    return tmp_path


def test_displacement_frequency_and_factor(clips, capsys):
    words = ["measure", str(clips / "clip.tif"), "--mask", str(clips / "mask.tif")]
    words += ["--magnified", str(clips / "magnified.tif"), "-o", str(clips / "motion.csv")]
    assert main([*words, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["region"], row["frames"], row["unit"]) == (4, 24, "µm")
    assert row["largest_px"] == pytest.approx(0.4, abs=0.01)
    assert row["largest"] == pytest.approx(0.1, abs=0.003)
    assert row["frequency_hz"] == pytest.approx(2.5, abs=0.1)
    assert row["factor"] == pytest.approx(5, abs=0.1)
    assert len((clips / "motion.csv").read_text("utf-8").splitlines()) == 25
    assert main(words) == 0
    line = capsys.readouterr().out
    assert line.startswith("region 4: moves by up to 0.4")
    assert "magnified by 5.0" in line


def test_the_whole_frame_from_another_reference(clips, capsys):
    assert main(["measure", str(clips / "clip.tif"), "--reference", "2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    # Frame 2 is at the turning point.
    assert row["largest_px"] == pytest.approx(0.8, abs=0.02)
    assert row["factor"] is None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("ends in .csv", "clip.tif -o motion.xls"),
        ("give 1 px or more", "clip.tif --search 0"),
        ("differs from", "clip.tif --magnified mask.tif"),
        ("there is no such file", "missing.tif"),
        ("frames 30 to 31", "clip.tif --reference 30"),
        ("missing.tif", "clip.tif --mask missing.tif"),
    ],
)
def test_bad_input_is_one_line(words, line, clips, capsys, monkeypatch):
    monkeypatch.chdir(clips)
    assert main(["measure", *line.split()]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (clips / "motion.xls").exists()
