from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_flowmag.cli import main
from napari_flowmag.magnification import Magnification

# A clip that never ends: the third frame says that it has come, then nothing more happens.
STUCK = """
import sys, threading
from napari_flowmag.cli import main
from napari_flowmag.magnification import Magnification

frames = Magnification.frames

def stuck(self, *arguments):
    for number, frame in enumerate(frames(self, *arguments)):
        if number == 2:
            print("stuck", flush=True)
            threading.Event().wait()
        yield frame

Magnification.frames = stuck
sys.exit(main())
"""


@pytest.fixture
def words(clip_file, models, tmp_path):
    output = tmp_path / "results" / "out.tif"
    output.parent.mkdir()
    return ["magnify", clip_file, "-o", output, "--alpha", "2", "--model", models["field"]]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_output_from_a_run_that_was_ended(words, tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    left = [path.name for path in (tmp_path / "results").iterdir()]
    if number == signal.SIGKILL:
        assert "out.tif" not in left
    else:
        assert process.returncode == 130
        assert error == "flowmag: interrupted\n"
        assert left == []


ENDING = [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)]


@pytest.mark.parametrize("number", ENDING)
def test_an_older_output_survives_an_interrupt(words, tmp_path, monkeypatch, capsys, number):
    older = tmp_path / "results" / "out.tif"
    tifffile.imwrite(older, np.ones((2, 3), np.uint8))
    content = older.read_bytes()

    def interrupted(self, *arguments):
        yield np.zeros((40, 48), np.uint16)
        signal.raise_signal(number)

    monkeypatch.setattr(Magnification, "frames", interrupted)
    # Under nohup, or in the background of a script, the command would ignore some of them, too.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        assert main([str(word) for word in words]) == 130
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == "flowmag: interrupted\n"
    assert older.read_bytes() == content
    assert [path.name for path in older.parent.iterdir()] == ["out.tif"]
