from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_flowmag.cli import main
from napari_flowmag.io import read_clip
from napari_flowmag.magnify import magnify
from napari_flowmag.settings import MagnifySettings


def read(path):
    return np.asarray(read_clip(path).frames)


@pytest.fixture
def run(clip_file, models, capsys):
    """Magnify the clip with the command; give what it printed as JSON."""

    def run(output, *options, model="field"):
        words = ["magnify", clip_file, "-o", output, "--model", models[model], "--json", *options]
        assert main([str(word) for word in words]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_output_is_what_the_function_gives_with_the_scale_of_the_input(
    run, clip_file, models, tmp_path
):
    output = tmp_path / "out.tif"
    summary = run(output, "--alpha", "4")
    frames = tifffile.imread(clip_file)
    np.testing.assert_array_equal(read(output), magnify(frames, 4, model=models["field"]))
    before, after = read_clip(clip_file), read_clip(output)
    assert after.dtype == before.dtype == np.uint16
    assert (after.fps, after.pixel_size, after.unit) == (4, (0.5, 0.5), before.unit)
    assert summary["shape"] == [6, 40, 48]
    assert summary["dtype"] == "uint16"
    assert summary["frames"] == 6
    assert summary["output"] == str(output)


def test_provenance_is_kept_in_the_file(run, tmp_path):
    summary = run(tmp_path / "out.tif", "--alpha", "4", "--reference", "mean")
    record = read_clip(tmp_path / "out.tif").metadata["provenance"]
    assert record == summary["provenance"]
    assert record["settings"]["alpha"] == 4
    assert record["settings"]["reference"] == "mean"
    assert len(record["model"]["sha256"]) == 64
    assert record["version"]


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": -1, "alpha": 1 / 3},
        {"reference": "median", "start": 1, "stop": 5},
        {"reference": "previous", "tile": 0, "batch": 2},
        {"value_range": (150.5, 4000.0), "motion_channels": (0,), "precision": "float32"},
        {"mask": "mask.png", "soft": 3.5, "feather": 2.0, "device": "cpu", "alpha": 12.25},
        {"mask": "mask.png", "label_alphas": {7: 2.5, 255: 9}, "feather": 3, "outside": 0.5},
    ],
)
def test_settings_become_a_command_that_gives_the_same_bits(
    clip_file, models, tmp_path, monkeypatch, changes
):
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((40, 48), np.uint8)
    mask[10:30, 5:25], mask[30:34, 5:25] = 255, 7
    Image.fromarray(mask).save("mask.png")
    settings = MagnifySettings(**{"alpha": 4.0, "model": str(models["field"]), **changes})
    words = shlex.split(settings.to_command(str(clip_file), "out put.tif"))
    assert words[0] == "flowmag"
    assert main(words[1:]) == 0
    options = settings.to_dict()
    alpha = options.pop("alpha")
    options["mask"] = None if settings.mask is None else mask
    direct = magnify(tifffile.imread(clip_file), alpha, **options)
    np.testing.assert_array_equal(read("out put.tif"), direct)
    assert read_clip("out put.tif").metadata["provenance"]["settings"] == json.loads(
        json.dumps(settings.to_dict())
    )


def test_labels_over_time_channels_and_a_slice_as_a_command(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 4000, (4, 2, 3, 40, 48), dtype=np.uint16)  # TZCYX
    tifffile.imwrite("clip.tif", clip, imagej=True, metadata={"axes": "TZCYX"})
    labels = np.zeros((4, 40, 48), np.uint8)
    for t in range(4):
        labels[t, 5:20, 5 + t : 20 + t] = 1
        labels[t, 22:35, 20:40] = 2
    tifffile.imwrite("labels.tif", labels, photometric="minisblack")
    settings = MagnifySettings(
        alpha=4.0,
        model=str(models["field"]),
        mask="labels.tif",
        label_alphas={2: 7},
        feather=2,
        motion_channels=(2,),
        channels=(0, 1),
        z=1,
        start=1,
        reference="mean",
    )
    assert main(shlex.split(settings.to_command("clip.tif", "out.tif"))[1:]) == 0
    options = settings.to_dict()
    direct = magnify(clip, options.pop("alpha"), axes="TZCYX", **{**options, "mask": labels})
    np.testing.assert_array_equal(read("out.tif"), direct)
    assert direct.shape == (3, 3, 40, 48)
    np.testing.assert_array_equal(direct[:, 2], clip[1:, 1, 2])
    assert (direct[:, 0] != clip[1:, 1, 0]).any()


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif", "out.ome.zarr", "pictures"])
def test_every_lossless_format(run, tmp_path, name, clip_file):
    run(tmp_path / name, "--alpha", "1")
    np.testing.assert_array_equal(read(tmp_path / name), tifffile.imread(clip_file))


def test_video_side_by_side(run, tmp_path):
    run(tmp_path / "out.mp4", "--alpha", "3", "--side-by-side")
    assert read(tmp_path / "out.mp4").shape[:3] == (6, 40, 96)


def test_side_by_side_shows_the_original_on_the_left(run, tmp_path, clip_file):
    run(tmp_path / "out.tif", "--alpha", "3", "--side-by-side", "--start", "2")
    both, frames = read(tmp_path / "out.tif"), tifffile.imread(clip_file)[2:]
    np.testing.assert_array_equal(both[..., :48], frames)
    np.testing.assert_array_equal(both[0, :, 48:], frames[0])
    assert (both[1, :, 48:] != frames[1]).any()


def test_mask_leaves_the_outside_alone(run, tmp_path, clip_file):
    mask = np.zeros((40, 48), bool)
    mask[:, 30:] = True
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    run(tmp_path / "out.tif", "--alpha", "6", "--mask", tmp_path / "mask.tif")
    change = np.abs(read(tmp_path / "out.tif").astype(float) - tifffile.imread(clip_file))
    assert change[..., :20].mean() < 2700 / 255
    assert change[1:, :, 34:].max() > 100


def test_true_frame_rate(run, tmp_path):
    assert run(tmp_path / "out.tif", "--alpha", "2", "--fps", "5000")["fps"] == 5000
    assert read_clip(tmp_path / "out.tif").fps == pytest.approx(5000)


def test_grey_clip_with_the_paper_s_model(run, tmp_path):
    summary = run(tmp_path / "out.tif", "--alpha", "40", model="unet")
    assert summary["provenance"]["passes"] == 2
    assert read(tmp_path / "out.tif").shape == (6, 40, 48)


def test_one_line_on_stdout_and_nothing_on_stderr(clip_file, models, tmp_path, capsys):
    words = [str(clip_file), "-o", str(tmp_path / "out.tif"), "--alpha", "2"]
    assert main(["magnify", *words, "--model", str(models["field"])]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert "6 frames" in printed.out
    assert printed.err == ""


def test_an_older_output_is_replaced(run, tmp_path):
    (tmp_path / "out.tif").write_bytes(b"something else")
    run(tmp_path / "out.tif", "--alpha", "2")
    assert read(tmp_path / "out.tif").shape == (6, 40, 48)
