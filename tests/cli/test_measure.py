from __future__ import annotations

import csv
import json
from fractions import Fraction

import av
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


def test_motion_where_pixels_are_higher_than_wide(tmp_path, texture, capsys):
    frames = texture([(0, 0), (0.3, 0.4)], 72, 80)
    tifffile.imwrite(
        tmp_path / "clip.tif",
        np.round(60000 * frames).astype(np.uint16),
        imagej=True,
        resolution=(2, 0.5),
        metadata={"axes": "TYX", "unit": "um"},
    )
    table = tmp_path / "motion.csv"
    assert main(["measure", str(tmp_path / "clip.tif"), "-o", str(table), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["largest_px"] == pytest.approx(0.5, abs=0.02)
    assert row["largest"] == pytest.approx(np.hypot(0.5 * 0.3, 2 * 0.4), abs=0.03)
    with table.open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["dx (µm)"]) == pytest.approx(0.15, abs=0.01)
    assert float(last["dy (µm)"]) == pytest.approx(0.8, abs=0.03)


def test_the_whole_frame_from_another_reference(clips, capsys):
    assert main(["measure", str(clips / "clip.tif"), "--reference", "2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    # Frame 2 is at the turning point.
    assert row["largest_px"] == pytest.approx(0.8, abs=0.02)
    assert row["factor"] is None


def measured(folder, capsys, line, *options):
    words = f"measure {folder}/{line} --mask {folder}/mask.tif --json".split()
    assert main([*words, *options]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out), printed.err


@pytest.mark.parametrize(
    "options", [["--start", "6", "--stop", "18"], ["--start", "6", "--reference", "2"]]
)
def test_an_excerpt_is_compared_with_the_frames_that_it_shows(clips, capsys, options):
    part = str(clips / "part.tif")
    words = ["magnify", str(clips / "clip.tif"), "-o", part, "--alpha", "3", *options]
    assert main([*words, "--model", "warp-bilinear:lucas_kanade"]) == 0
    capsys.readouterr()
    table = str(clips / "motion.csv")
    (row,), _ = measured(clips, capsys, "clip.tif", "--magnified", part, "-o", table)
    assert row["factor"] == pytest.approx(3, abs=0.1)
    assert row["factor_high"] - row["factor_low"] < 0.2
    with (clips / "motion.csv").open() as file:
        assert int(next(csv.DictReader(file))["frame"]) == 6
    (row,), _ = measured(
        clips, capsys, "clip.tif", "--magnified", part, "--start", "8", "--stop", "14"
    )
    assert row["frames"] == 6
    assert row["factor"] == pytest.approx(3, abs=0.1)


def test_the_slice_that_was_magnified_is_compared(tmp_path, texture, capsys):
    shift = 0.3 * np.sin(np.arange(10))
    still = texture([(0, 0)] * 10, 72, 80, seed=1)
    frames = np.stack([still, texture([(s, 0) for s in shift], 72, 80)], axis=1)
    clip, part = str(tmp_path / "clip.tif"), str(tmp_path / "part.tif")
    tifffile.imwrite(
        clip, np.round(60000 * frames).astype(np.uint16), imagej=True, metadata={"axes": "TZYX"}
    )
    words = ["magnify", clip, "-o", part, "--alpha", "3", "--z", "1"]
    assert main([*words, "--model", "warp-bilinear:lucas_kanade"]) == 0
    capsys.readouterr()
    assert main(["measure", clip, "--magnified", part, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["factor"] == pytest.approx(3, abs=0.1)
    assert main(["measure", clip, "--magnified", part, "--z", "0"]) == 2
    assert "part shows slice 1 of clip" in capsys.readouterr().err


def test_an_excerpt_of_another_program_shows_the_frames_that_are_named(clips, capsys, texture):
    shift = 0.4 * np.sin(2 * np.pi * 2.5 * np.arange(24) / 20)
    there = shift[6] + 5 * (shift[6:18] - shift[6])
    frames = texture([(s, 0) for s in there], 72, 80)
    tifffile.imwrite(clips / "part.tif", np.round(60000 * frames).astype(np.uint16))
    line = f"clip.tif --magnified {clips}/part.tif"
    (row,), _ = measured(clips, capsys, line, "--start", "6", "--stop", "18")
    assert row["factor"] == pytest.approx(5, abs=0.1)
    assert main(["measure", str(clips / "clip.tif"), *line.split()[1:]]) == 2
    assert "give --start and --stop" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("magnified", "asked", "says"),
    [
        ("mean", [], "no factor can be measured"),
        ("previous", [], "no factor can be measured"),
        ("3", ["--reference", "0"], "motion was magnified from frame 3"),
        ("first", ["--start", "6"], "frames 6 to 4"),
    ],
)
def test_a_factor_that_would_be_wrong_is_refused(clips, capsys, magnified, asked, says):
    part = str(clips / "part.tif")
    words = ["magnify", str(clips / "clip.tif"), "-o", part, "--alpha", "1", "--stop", "4"]
    assert main([*words, "--reference", magnified, "--model", "warp-bilinear:lucas_kanade"]) == 0
    capsys.readouterr()
    assert main(["measure", str(clips / "clip.tif"), "--magnified", part, *asked]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_motion_as_far_as_is_looked_for_gives_no_factor(clips, capsys):
    line = f"clip.tif --magnified {clips}/magnified.tif --search 2"
    (row,), told = measured(clips, capsys, line)
    assert row["factor"] is None
    assert "region 4, magnified, moves as far as --search looks, 2 px: raise it" in told


def test_a_region_without_structure_is_named_and_left_out(clips, capsys):
    frames = tifffile.imread(clips / "clip.tif")
    frames[:, :20, :20] = 1000
    tifffile.imwrite(clips / "clip.tif", frames)
    mask = tifffile.imread(clips / "mask.tif")
    mask[:30] = 0
    mask[2:18, 2:18] = 2
    tifffile.imwrite(clips / "mask.tif", mask)
    rows, told = measured(clips, capsys, "clip.tif")
    assert [row["region"] for row in rows] == [4]
    assert "region 2: no displacement can be measured" in told
    tifffile.imwrite(clips / "mask.tif", np.where(mask == 2, mask, 0))
    words = ["measure", str(clips / "clip.tif"), "--mask", str(clips / "mask.tif")]
    assert main(words) == 2
    assert "region 2: no displacement" in capsys.readouterr().err


def test_a_region_that_magnification_blotted_out_leaves_the_others_their_factor(clips, capsys):
    mask = tifffile.imread(clips / "mask.tif")
    mask[:44], mask[8:22, 8:22] = 0, 2
    tifffile.imwrite(clips / "mask.tif", mask)
    frames = tifffile.imread(clips / "magnified.tif")
    frames[11, :36, :36] = 1000
    tifffile.imwrite(clips / "magnified.tif", frames)
    words = f"clip.tif --magnified {clips}/magnified.tif --search 3"
    (torn, other), told = measured(clips, capsys, words)
    assert (torn["region"], torn["factor"]) == (2, None)
    assert torn["largest_px"] == pytest.approx(0.4, abs=0.05)
    assert other["factor"] == pytest.approx(5, abs=0.2)
    assert "magnified.tif: region 2, frame 11: no displacement" in told
    assert "region 4" not in told


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("ends in .csv", "clip.tif -o motion.xls"),
        ("give 1 px or more", "clip.tif --search 0"),
        ("differs from", "clip.tif --magnified mask.tif"),
        ("there is no such file", "missing.tif"),
        ("--reference 30: ", "clip.tif --reference 30"),
        ("--reference -1: ", "clip.tif --reference=-1"),
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


def test_one_frame_shows_no_motion(tmp_path, capsys):
    path = tmp_path / "slices.tif"
    pictures = np.random.default_rng(0).integers(0, 99, (5, 30, 40)).astype(np.uint8)
    tifffile.imwrite(path, pictures, imagej=True, metadata={"axes": "ZYX", "spacing": 0.5})
    assert main(["measure", str(path)]) == 2
    assert "one frame (of 5 slices), which shows no motion" in capsys.readouterr().err
    assert main(["magnify", str(path), "-o", str(tmp_path / "out.tif"), "--alpha", "2"]) == 0
    told = capsys.readouterr()
    assert "save it with frames in their place" in told.err
    assert "out.tif: 1 frame, ×2" in told.out


def test_frames_of_unequal_length_are_told_of(tmp_path, capsys):
    path = tmp_path / "phone.mkv"
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    with av.open(str(path), "w") as video:
        stream = video.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for time in (0, 40, 80, 200, 320):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    assert main(["measure", str(path)]) == 0
    assert "its frames last 40 to 120 ms" in capsys.readouterr().err


def test_what_was_magnified_beyond_the_search_has_no_factor(clips, capsys):
    far = str(clips / "far.tif")
    words = ["magnify", str(clips / "clip.tif"), "-o", far, "--alpha", "60"]
    assert main([*words, "--model", "warp-bilinear:lucas_kanade"]) == 0
    capsys.readouterr()
    (row,), told = measured(clips, capsys, f"clip.tif --magnified {far} --search 8")
    assert row["factor"] is None
    assert "region 4, magnified, moves as far" in told


def test_what_stands_still_has_neither_size_nor_frequency(tmp_path, texture, capsys):
    (frame,) = texture([(0.3, 0.2)], 72, 80)
    frames = np.round(60000 * np.repeat(frame[None], 16, 0)).astype(np.uint16)
    path = tmp_path / "still.tif"
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TYX", "finterval": 0.05})
    assert main(["measure", str(path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["largest_px"] == 0
    assert row["frequency_hz"] is None


def test_nothing_is_looked_for_farther_away_than_the_frame_is_wide(clips, capsys):
    assert main(["measure", str(clips / "clip.tif"), "--search", "100000", "--stop", "3"]) == 0
    assert "moves by up to 0.4" in capsys.readouterr().out


def test_a_video_of_a_grey_clip_is_refused_by_name(clips, capsys):
    video = clips / "magnified.mp4"
    assert main(["magnify", str(clips / "clip.tif"), "-o", str(video), "--alpha", "2"]) == 0
    capsys.readouterr()
    assert main(["measure", str(clips / "clip.tif"), "--magnified", str(video)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"flowmag: error: {video}: pictures of shape (72, 80, 3)")
    assert "magnify into a .tif or .ome.zarr file" in said
