from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_flowmag.cli.train import main

FLAGS = ["--selection_flow", "farneback", "--workers", "0", "--max_p80", "99", "--max-p001", "99"]
FLAGS += ["--min_mse", "1"]

# As flowmag-train, but after the first clip it says so, and nothing more happens.
STUCK = """
import sys, threading
from napari_flowmag.cli.train import main
from napari_flowmag.train.prepare import measure

do = measure._do

def stuck(job, *arguments):
    if job.source.path.stem == "b":
        print("stuck", flush=True)
        threading.Event().wait()
    return do(job, *arguments)

measure._do = stuck
sys.exit(main())
"""


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips of a drifting pattern."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, name in enumerate("abc"):
        y, x = np.mgrid[:40, :56].astype(np.float64)
        frames = [np.sin((x - 0.4 * t) / (3 + i)) + np.cos(y / (4 - i) + x / 9) for t in range(5)]
        pictures = (127 + 60 * np.stack(frames)).astype(np.uint8)
        tifffile.imwrite(folder / f"{name}.tif", pictures, photometric="minisblack")
    return folder


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_command_makes_a_set(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (clips / "broken.mp4").write_text("no video")
    words = [str(clips / "a.tif"), str(clips / "broken.mp4"), "-o", str(out), *FLAGS]
    assert main(["prepare", *words, "--strides", "1", "3"]) == 0
    written = capsys.readouterr()
    assert written.out == f"{out}\n"
    lines = written.err.splitlines()
    assert lines[0] == "[1/2] a.tif: 6 fit pairs of 6"
    assert lines[1].startswith("[2/2] passed over: broken.mp4")
    assert lines[2] == f"6 pairs; a contact sheet is in {out / 'index.html'}"
    assert json.loads((out / "statistics.json").read_text())["settings"]["strides"] == [1, 3]
    assert main(["prepare", *words, "--strides=[1,3]"]) == 0
    assert capsys.readouterr().err.startswith("2 of 2 clips were done before")


def test_what_is_prepared_can_be_trained_on(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["prepare", str(clips), "-o", str(out), *FLAGS, "--test", "0.3"]) == 0
    flags = "--architecture unet --model.width 2 --crop 32 --batch 1 --held_out 1 --steps 1"
    flags += " --workers 0 --threads 1 --device cpu --flow lucas_kanade"
    assert main([str(out), "-o", str(tmp_path / "run"), *flags.split()]) == 0
    assert json.loads((out / "test_fn.json").read_text())


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_ended_goes_on(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    out = tmp_path / "out"
    words = ["prepare", str(clips), *FLAGS, "-o"]
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, *words, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        last = error.splitlines()[-1]
        assert last == "flowmag-train: stopped; the same command goes on where it stopped"
    assert not (out / "train_fn.json").exists()
    assert main([*words, str(out)]) == 0
    assert capsys.readouterr().err.startswith("1 of 3 clips were done before\n[1/2] clips/b.tif")
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "OUT"], "name the clips"),
        (["CLIPS"], "-o"),
        (["nowhere", "-o", "OUT"], "nowhere: no such file or folder"),
        (["CLIPS", "-o", "OUT", "--shard", "3/2"], "setting shard = 3/2"),
        (["CLIPS", "-o", "OUT", "--test", "1"], "setting test = 1.0"),
        (["CLIPS", "-o", "OUT", "--strides", "0"], "setting strides"),
        (["CLIPS", "-o", "OUT", "--strides", "1", "1"], "one is repeated"),
        (["CLIPS", "-o", "OUT", "--pairs-per-scene", "0"], "setting pairs_per_scene = 0"),
        (["CLIPS", "-o", "OUT", "--workers", "-1"], "setting workers = -1"),
        (["CLIPS", "-o", "OUT", "--selection_flow", "nothing"], "unknown flow 'nothing'"),
        (["CLIPS", "-o", "OUT", "--steps", "3"], "steps"),
    ],
)
def test_bad_usage_gets_one_line(
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: Sequence[str],
    says: str,
) -> None:
    places = {"CLIPS": str(clips), "OUT": str(tmp_path / "out")}
    assert main(["prepare", *(places.get(word, word) for word in words)]) == 2
    written = capsys.readouterr()
    (line,) = written.err.splitlines()
    assert line.startswith("flowmag-train: error: ")
    assert says in line
    assert written.out == ""
    assert not (tmp_path / "out").exists()


def test_only_damaged_clips_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_text("no video")
    assert main(["prepare", str(tmp_path / "clips"), "-o", str(tmp_path / "out"), *FLAGS]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[1/1] passed over: clips/a.mp4")
    assert lines[1].startswith("flowmag-train: error: not one of 1 clips can be read")
    assert len(lines) == 2


def test_a_folder_that_cannot_be_written_to(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file")
    assert main(["prepare", str(clips), "-o", str(tmp_path / "out"), *FLAGS]) == 2
    assert "out" in capsys.readouterr().err.splitlines()[-1]


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["prepare", "--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Largest 99.9th percentile of the motion in px" in text
    assert "Share of the pairs to put into a test split" in text


def test_the_face_starts_without_torch() -> None:
    code = "import sys, napari_flowmag.cli.prepare; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
