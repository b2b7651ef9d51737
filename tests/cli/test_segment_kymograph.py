from __future__ import annotations

import csv
import json

import numpy as np
import PIL.Image
import pytest
import tifffile

from napari_flowmag.cli import main
from napari_flowmag.kymograph import kymograph
from napari_flowmag.strength import read_mask


@pytest.fixture
def clip(tmp_path):
    y, x = np.mgrid[:60, :80]
    frames = np.stack([1000 * (np.hypot(y - 30, x - 40 - t) < 15) + x for t in range(5)])
    path = tmp_path / "clip.tif"
    tifffile.imwrite(
        path,
        frames.astype(np.uint16),
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "TYX", "unit": "um", "finterval": 0.1},
    )
    return path


def test_kymograph_as_table_picture_and_drawing(clip, tmp_path, capsys):
    frames = tifffile.imread(clip)
    line = ["kymograph", str(clip), "--line", "20,30,60,30,60,40", "--width", "3"]
    expected = kymograph(frames, ((30, 20), (30, 60), (40, 60)), 3)
    for suffix in ("csv", "tif", "png"):
        assert main([*line, "--json", "-o", str(tmp_path / f"xt.{suffix}")]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["frames"], summary["samples"], summary["unit"]) == (5, 51, "µm")
    assert summary["distance"] == pytest.approx(0.5)
    with (tmp_path / "xt.csv").open() as file:
        header, *rows = list(csv.reader(file))
    assert header[:4] == ["clip", "time (s)", "0 µm", "0.5 µm"]
    np.testing.assert_allclose([[float(v) for v in row[2:]] for row in rows], expected, rtol=1e-5)
    assert [float(row[1]) for row in rows] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    with tifffile.TiffFile(tmp_path / "xt.tif") as file:
        np.testing.assert_allclose(file.asarray(), expected, rtol=1e-6)
        tags = file.pages[0].tags
        assert np.divide(*tags["XResolution"].value) == pytest.approx(2)
        assert np.divide(*tags["YResolution"].value) == pytest.approx(10)
    assert (tmp_path / "xt.png").stat().st_size > 1000


def test_kymograph_of_pixels_that_are_higher_than_wide(tmp_path, capsys):
    path = tmp_path / "clip.tif"
    frames = np.random.default_rng(0).integers(0, 9, (5, 60, 80)).astype(np.uint16)
    tifffile.imwrite(
        path, frames, imagej=True, resolution=(2, 0.5), metadata={"axes": "TYX", "unit": "um"}
    )
    line = ["kymograph", str(path), "--line", "10,10,10,30", "--json"]
    assert main([*line, "-o", str(tmp_path / "xt.csv")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["samples"], summary["unit"]) == (21, "µm")
    assert summary["distance"] == pytest.approx(2)


def test_an_excerpt_lies_beside_the_frames_that_it_shows(clip, tmp_path):
    part, table = tmp_path / "part.tif", tmp_path / "xt.csv"
    model = ["--model", "warp-bilinear:lucas_kanade", "--alpha", "1"]
    assert main(["magnify", str(clip), "-o", str(part), *model, "--start", "2"]) == 0
    words = ["kymograph", str(clip), "--line", "5,30,70,30", "--compare", str(part)]
    assert main([*words, "-o", str(table)]) == 0
    with table.open() as file:
        _, *rows = list(csv.reader(file))
    one, other = ([row[1:] for row in rows if row[0] == name] for name in ("clip", "part"))
    assert one == other
    assert [float(row[0]) for row in one] == pytest.approx([0.2, 0.3, 0.4])


def test_a_second_clip_of_another_size_is_refused(clip, tmp_path, capsys):
    other = tmp_path / "binned.tif"
    binned = tifffile.imread(clip)[:, ::2, ::2]
    tifffile.imwrite(other, binned, imagej=True, metadata={"axes": "TYX"})
    words = ["kymograph", str(clip), "--line", "5,5,25,5", "--compare", str(other)]
    assert main([*words, "-o", str(tmp_path / "xt.png")]) == 2
    assert "80×60 px cannot be compared with frames of 40×30 px" in capsys.readouterr().err
    assert not (tmp_path / "xt.png").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--line", "1,2,3"], "give x0,y0,x1,y1"),
        (["--line", "0,0,500,0"], "leaves the picture"),
        (["--line", "5,5,5,5"], "no length"),
        (["--line", "0,0,9,9", "--channel", "1"], "channel 1"),
        (["--line", "0,0,9,9", "--start", "7"], "frames 7 to 5"),
        (["--line", "0,0,9,9", "--width", "0"], "at least 1"),
    ],
)
def test_bad_lines(clip, tmp_path, capsys, words, line):
    assert main(["kymograph", str(clip), *words, "-o", str(tmp_path / "xt.png")]) == 2
    assert line in capsys.readouterr().err
    assert main(["kymograph", str(clip), "--line", "0,0,9,9", "-o", str(tmp_path / "xt.bmp")]) == 2
    assert not list(tmp_path.glob("xt*"))


def test_points_become_a_mask_for_magnify(clip, tmp_path, capsys):
    mask = tmp_path / "mask.tif"
    words = ["segment", str(clip), "--point", "40,30", "--not-point", "5,5", "-o", str(mask)]
    assert main([*words, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    found = tifffile.imread(mask) == 1
    y, x = np.mgrid[:60, :80]
    disk = np.hypot(y - 30, x - 40) < 15
    assert (found & disk).sum() / (found | disk).sum() > 0.85
    assert summary["pixels"] == found.sum()
    second = ["segment", str(clip), "--box", "0,0,12,12", "--label", "2", "--add-to", str(mask)]
    assert main([*second, "-o", str(tmp_path / "two.tif")]) == 0
    assert set(np.unique(tifffile.imread(tmp_path / "two.tif"))) == {0, 1, 2}
    out = str(tmp_path / "out.tif")
    assert main(["magnify", str(clip), "-o", out, "--alpha", "3", "--mask", str(mask)]) == 0


@pytest.mark.parametrize("wrong", [0.5, 70000.0, -1.0])
def test_a_mask_that_holds_no_labels_is_not_added_to(clip, tmp_path, capsys, wrong):
    mask = tmp_path / "mask.tif"
    values = np.zeros((60, 80), np.float32)
    values[:20, :20] = wrong
    tifffile.imwrite(mask, values)
    before = mask.read_bytes()
    words = ["segment", str(clip), "--box", "30,30,60,50", "--add-to", str(mask)]
    assert main([*words, "-o", str(mask)]) == 2
    assert "give a mask of whole numbers from 0 to 65535" in capsys.readouterr().err
    assert mask.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no prompt"),
        (["--point", "a,b"], "give 2 numbers"),
        (["--point", "500,5"], "lies outside"),
        (["--point", "5,5", "--frame", "9"], "has none such"),
        (["--point", "5,5", "--checkpoint", "none.pth"], "does not exist"),
        (["--point", "5,5", "--label", "0"], "1 to 65535"),
    ],
)
def test_bad_prompts(clip, tmp_path, capsys, words, line):
    assert main(["segment", str(clip), *words, "-o", str(tmp_path / "mask.tif")]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "mask.tif").exists()


def test_no_window_without_a_screen(clip, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["gui", str(clip)]) == 2
    assert "no screen" in capsys.readouterr().err
    assert main(["gui", "none.tif"]) == 2


def test_labels_are_written_where_they_come_back_as_they_are(clip, tmp_path, capsys):
    words = ["segment", str(clip), "--point", "40,30", "--not-point", "5,5", "--label", "300", "-o"]
    assert main([*words, str(tmp_path / "mask.png")]) == 0
    assert set(np.unique(read_mask(tmp_path / "mask.png"))) == {0, 300}
    for name in ("mask.mp4", "mask.jpg"):
        assert main([*words, str(tmp_path / name)]) == 2
        assert "write .tif or .png" in capsys.readouterr().err
        assert not (tmp_path / name).exists()


def test_a_mask_of_a_lossy_format_is_refused(clip, tmp_path, capsys):
    PIL.Image.fromarray(np.eye(60, 80, dtype=np.uint8)).save(tmp_path / "mask.jpg")
    out = tmp_path / "out.tif"
    words = ["magnify", str(clip), "-o", str(out), "--alpha", "2"]
    assert main([*words, "--mask", str(tmp_path / "mask.jpg")]) == 2
    assert "save the mask as .png or .tif" in capsys.readouterr().err
    assert not out.exists()


def test_points_that_take_each_other_back_find_nothing(clip, tmp_path, capsys):
    words = ["segment", str(clip), "--point", "40,30", "--not-point", "40,30"]
    assert main([*words, "-o", str(tmp_path / "mask.tif")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nothing was found there" in error


def test_a_box_is_cut_to_the_picture(clip, tmp_path, capsys):
    line = ["segment", str(clip), "--json", "-o", str(tmp_path / "mask.png"), "--box"]
    assert main([*line, "20,10,60,50"]) == 0
    within = json.loads(capsys.readouterr().out)["pixels"]
    assert main([*line, "20,10,60,5000"]) == 0
    assert json.loads(capsys.readouterr().out)["pixels"] > within / 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--box 200,10,300,50", "the box from (200, 10) to (300, 50) lies outside of the picture"),
        ("--box 20,10,60,50 --grow nan", "--grow nan: give a number"),
        ("--box 20,10,60,50 --grow -1000", "--grow -1000: nothing is left of the object"),
    ],
)
def test_what_leaves_no_object_is_named(clip, tmp_path, capsys, words, said):
    assert main(["segment", str(clip), "-o", str(tmp_path / "mask.png"), *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mask.png").exists()


def test_one_frame_is_not_frames(clip, tmp_path, capsys):
    line = ["kymograph", str(clip), "--line", "20,30,60,30", "-o", str(tmp_path / "x.csv")]
    assert main([*line, "--stop", "1"]) == 0
    assert ": 1 frame, " in capsys.readouterr().out
