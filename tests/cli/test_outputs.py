"""No command writes over what it reads, and none works for minutes towards what it cannot write."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_flowmag import read_clip, write_clip
from napari_flowmag.adapt.adaptation import Adaptation
from napari_flowmag.cli import main


@pytest.fixture
def folder(clip_file, tmp_path, monkeypatch):
    """A folder in which the commands run: clips, a mask, a folder of pictures."""
    monkeypatch.chdir(tmp_path)
    Path("other.tif").write_bytes(clip_file.read_bytes())
    mask = np.zeros((40, 48), np.uint8)
    mask[5:20, 5:20] = 1
    tifffile.imwrite("mask.tif", mask)
    Path("frames").mkdir()
    for t, frame in enumerate(tifffile.imread(clip_file)):
        Image.fromarray((frame >> 8).astype(np.uint8)).save(f"frames/{t}.png")
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "line",
    [
        "segment clip.tif --box 5,5,30,30 -o clip.tif",
        "segment clip.tif --box 5,5,30,30 -o frames/../clip.tif",
        "segment clip.tif --box 5,5,30,30 -o link.tif",
        "kymograph clip.tif --line 5,5,25,5 -o clip.tif",
        "kymograph clip.tif --line 5,5,25,5 --compare other.tif -o other.tif",
        "kymograph frames --line 5,5,25,5 -o frames/3.png",
        "magnify clip.tif --alpha 2 --mask mask.tif -o mask.tif",
        "magnify clip.tif --alpha 2 --mask frames/0.png -o frames",
        "magnify clip.tif --alpha 2 -o clip.tif",
    ],
)
def test_no_input_is_lost(folder, capsys, line):
    Path("link.tif").symlink_to("clip.tif")
    before = contents(folder)
    assert main(shlex.split(line)) == 2
    error = capsys.readouterr().err
    assert "is the input itself: give the output another name" in error
    assert error.count("\n") == 1
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("source", "output"),
    [("frames", "frames/out.tif"), ("clip.ome.zarr", "clip.ome.zarr/out.tif")],
)
def test_nothing_is_written_among_what_is_read(folder, capsys, source, output):
    write_clip(read_clip("clip.tif"), "clip.ome.zarr")
    before = contents(folder)
    assert main(shlex.split(f"magnify {source} --alpha 2 -o {output}")) == 2
    error = capsys.readouterr().err
    assert f"{output} lies in the input {source}" in error
    assert error.count("\n") == 1
    assert contents(folder) == before


def test_an_object_is_added_to_a_mask_in_place(folder):
    words = "segment clip.tif --box 25,25,40,38 --label 2 --add-to mask.tif -o mask.tif"
    assert main(shlex.split(words)) == 0
    assert set(np.unique(tifffile.imread("mask.tif"))) == {0, 1, 2}


@pytest.mark.parametrize(
    "line",
    [
        "segment clip.tif --box 5,5,30,30 -o missing/mask.tif",
        "kymograph clip.tif --line 5,5,25,5 -o missing/xt.png",
        "measure clip.tif -o missing/motion.csv",
    ],
)
def test_a_missing_folder_is_told_before_the_work(folder, capsys, monkeypatch, line):
    monkeypatch.setattr("napari_flowmag.io.read_clip", lambda *_, **__: pytest.fail("it worked"))
    assert main(shlex.split(line)) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("missing/out.tif", "there is no folder"),
        ("out.xyz", "does not write .xyz"),
        ("full.tif", "give another name"),
        ("mask.tif", "the input itself"),
    ],
)
def test_what_cannot_be_written_is_told_before_adapting(
    folder, models, capsys, monkeypatch, output, says
):
    monkeypatch.setattr(Adaptation, "run", lambda *_: pytest.fail("it adapted"))
    Path("full.tif").mkdir()
    before = contents(folder)
    words = f"magnify clip.tif --alpha 2 --mask mask.tif --adapt 5 -o {output} --model"
    assert main([*words.split(), str(models["field"])]) == 2
    assert says in capsys.readouterr().err
    assert contents(folder) == before
