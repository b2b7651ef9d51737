from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from napari_flowmag import load_magnifier, read_clip
from napari_flowmag.cli import main
from napari_flowmag.provenance import state_sha256

QUICK = ["--alpha", "4", "--crop", "48", "--batch", "1", "--device", "cpu"]


@pytest.fixture
def clip(tmp_path):
    y, x = np.mgrid[:48, :64]
    frames = [
        20000 + 8000 * (np.sin((x - 0.8 * np.sin(t)) / 3) + np.cos((y + x / 3) / 4))
        for t in range(10)
    ]
    path = tmp_path / "beat.tif"
    tifffile.imwrite(
        path, np.stack(frames).astype(np.uint16), imagej=True, metadata={"axes": "TYX"}
    )
    return path


def test_a_model_is_written_that_magnify_takes(clip, tmp_path, capsys):
    out = tmp_path / "model.safetensors"
    assert main(["adapt", str(clip), "-o", str(out), *QUICK, "--steps", "3", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["steps"], summary["adapted_to"]) == (3, "beat.tif")
    assert summary["before"] >= summary["after"]
    result = tmp_path / "out.tif"
    line = ["magnify", str(clip), "-o", str(result), "--alpha", "4", "--model", str(out)]
    assert main(line) == 0
    assert read_clip(result).dtype == np.uint16
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "beat.tif",
        "model.safetensors",
        "out.tif",
    ]


def test_magnify_adapts_first_and_tells_so(clip, tmp_path, capsys):
    out = tmp_path / "out.tif"
    assert main(["magnify", str(clip), "-o", str(out), "--alpha", "4", "--adapt", "2"]) == 0
    assert "adapted:" in capsys.readouterr().err
    record = read_clip(out).metadata["provenance"]
    assert record["adaptation"]["steps"] == 2
    assert record["adaptation"]["settings"]["alpha"] == 4


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-o", "model.pt"], "ends in .safetensors"),
        (["-o", "nowhere/model.safetensors"], "there is no folder"),
        (["-o", "m.safetensors", "--steps", "0"], "steps 0: give 1 or more"),
        (["-o", "m.safetensors", "--preset", "best"], "give default, paper"),
        (["-o", "m.safetensors", "--flow", "dis"], "no gradients pass"),
        (["-o", "m.safetensors", "--mask", "none.tif"], "none.tif"),
        (["-o", "m.safetensors", "--channels", "x"], "--channels x"),
        (["-o", "m.safetensors", "--stop", "1"], "needs 2 frames"),
        (["-o", "m.safetensors", "--minutes", "0"], "minutes 0"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(clip, tmp_path, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    assert main(["adapt", str(clip), *words]) == 2
    error = capsys.readouterr().err.strip()
    assert line in error
    assert len(error.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["beat.tif"]


def start(clip, out, *words):
    code = "import sys; from napari_flowmag.cli import main; sys.exit(main())"
    line = ["adapt", str(clip), "-o", str(out), *QUICK, *words]
    return subprocess.Popen(
        [sys.executable, "-c", code, *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_ends_it_with_a_usable_model_or_nothing(clip, tmp_path):
    out, state = tmp_path / "m.safetensors", tmp_path / "m.safetensors.state"
    process = start(clip, out, "--steps", "100000")
    wait_for(state, process)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert not state.exists()
    if out.exists():
        load_magnifier(out, "cpu")


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_killed_run_goes_on_with_the_same_command(clip, tmp_path):
    words = ("--steps", "45")
    whole, out = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    assert start(clip, whole, *words).wait(120) == 0
    state, rng = tmp_path / "m.safetensors.state", random.Random(1)
    for _ in range(2):
        process = start(clip, out, *words)
        wait_for(state, process)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        process.communicate()
        if not state.exists():
            break
    assert start(clip, out, *words).wait(120) == 0
    assert not state.exists()
    one, other = (state_sha256(load_magnifier(path, "cpu")) for path in (whole, out))
    assert one == other
