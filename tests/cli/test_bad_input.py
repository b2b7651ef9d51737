"""Whatever is wrong with the input: exit 2, one line that says so, nothing written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from napari_flowmag.cli import main


def _tif(path: str, frames: np.ndarray) -> str:
    tifffile.imwrite(path, frames, photometric="minisblack")
    return path


def _text(path: str, content: bytes | str) -> str:
    Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _cut(path: str, source: str = "clip.tif") -> str:
    content = Path(source).read_bytes()
    return _text(path, content[: len(content) // 2])


def _picture(path: str, values: np.ndarray) -> str:
    Image.fromarray(values).save(path)
    return path


def _folder(path: str) -> str:
    Path(path).mkdir()
    return path


def _full_folder(path: str) -> str:
    _text(f"{_folder(path)}/notes.txt", "Dear diary")
    return path


def _nan(path: str) -> str:
    frames = np.random.default_rng(0).random((4, 20, 20)).astype(np.float32)
    frames[2, 3, 4] = np.nan
    return _tif(path, frames)


def _pickle(path: str) -> str:
    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    torch.save({"state_dict": Evil()}, path)
    return path


# Each gives the words that replace or follow those of a command that works, and a part of the line.
CLIPS = {
    "missing": (lambda: "missing.tif", "no such file"),
    "empty file": (lambda: _text("empty.tif", b""), "empty"),
    "cut off": (lambda: _cut("cut.tif"), "cut.tif"),
    "not a TIFF": (lambda: _text("text.tif", "Dear Sir or Madam"), "text.tif"),
    "not a video": (lambda: _text("text.mp4", "Dear Sir or Madam"), "text.mp4"),
    "unknown suffix": (lambda: _text("clip.xyz", "?"), ".xyz"),
    "no suffix": (lambda: _text("clip", "?"), "suffix"),
    "empty folder": (lambda: _folder("nothing"), "nothing"),
    "NaN pixels": (lambda: _nan("nan.tif"), "frame 2 has 1 NaN"),
    "complex pixels": (lambda: _tif("complex.tif", np.zeros((3, 9, 9), "c8")), "complex64"),
    "picture cut off": (
        lambda: _cut("cut.png", _picture("whole.png", np.zeros((90, 90), "u1"))),
        "cut.png",
    ),
}
OPTIONS = {
    "alpha negative": (["--alpha", "-1"], "alpha -1"),
    "alpha not finite": (["--alpha", "inf"], "alpha inf"),
    "alpha not a number": (["--alpha", "nan"], "alpha nan"),
    "alpha a word": (["--alpha", "much"], "'--alpha'"),
    "reference a word": (["--reference", "last"], "reference 'last'"),
    "reference beyond the end": (["--reference", "6"], "6 frames"),
    "reference before the start": (["--reference", "-7"], "6 frames"),
    "start beyond the end": (["--start", "6"], "the clip has 6"),
    "start negative": (["--start", "-1"], "start -1"),
    "stop beyond the end": (["--stop", "7"], "the clip has 6"),
    "stop before start": (["--start", "3", "--stop", "2"], "stop 2"),
    "start a word": (["--start", "now"], "'--start'"),
    "tile too small": (["--tile", "16"], "tile of 16 px"),
    "batch of none": (["--batch", "0"], "batch of 0"),
    "unknown precision": (["--precision", "float8"], "float8"),
    "unknown device": (["--device", "tpu9"], "tpu9"),
    "no such GPU": (["--device", "cuda:99"], "cuda:99"),
    "fps of nothing": (["--fps", "0"], "--fps 0"),
    "fps not finite": (["--fps", "nan"], "--fps nan"),
    "soft negative": (["--soft", "-1"], "soft of -1 px"),
    "feather not a number": (["--feather", "nan"], "feather of nan px"),
    "no such channel": (["--motion-channels", "3"], "the clip has 1"),
    "channels as words": (["--motion-channels", "red"], "--motion-channels red"),
    "channel twice": (["--motion-channels", "0,0"], "repeat"),
    "no such moved channel": (["--channels", "1"], "channels 1: the clip has 1"),
    "slice without depth": (["--z", "0"], "no depth"),
    "label without alpha": (["--label-alpha", "2"], "--label-alpha 2: give a label"),
    "negative outside": (["--outside", "-1"], "alpha -1"),
    "one value as range": (["--value-range", "3"], "value range of 1"),
    "falling range": (["--value-range", "3,2"], "value range 3 to 2"),
    "unknown model": (["--model", "nonsense"], "nonsense"),
    "missing model": (["--model", "missing.safetensors"], "no such file: missing.safetensors"),
    "unknown option": (["--alfa", "3"], "No such option: --alfa"),
    "second clip": (["another.tif"], "another.tif"),
    "missing mask": (["--mask", "missing.png"], "missing.png"),
}
MASKS = {
    "wrong size": (lambda: _picture("small.png", np.ones((9, 9), "u1")), "shape (9, 9)"),
    "empty": (lambda: _picture("black.png", np.zeros((40, 48), "u1")), "mask is empty"),
    "several pictures": (lambda: _tif("stack.tif", np.ones((3, 40, 48), "u1")), "one picture"),
    "weights above 1": (lambda: _tif("big.tif", np.full((40, 48), 2.0, "f4")), "from 0 to 1"),
    "not a picture": (lambda: _text("mask.png", "Dear Sir or Madam"), "mask.png"),
}
MODELS = {
    "text": (lambda: _text("text.safetensors", "Dear Sir or Madam"), "text.safetensors"),
    "text as .pth": (lambda: _text("text.pth", "Dear Sir or Madam"), "text.pth"),
    "code inside": (lambda: _pickle("evil.pth"), "evil.pth"),
    "cut off": (lambda: _cut("cut.safetensors", "model.safetensors"), "cut.safetensors"),
}
OUTPUTS = {
    "unknown suffix": (lambda: "out.xyz", ".xyz"),
    "missing folder": (lambda: "missing/out.tif", "missing"),
    "the input itself": (lambda: "clip.tif", "clip.tif"),
    "a folder in use": (lambda: _full_folder("out.tif"), "out.tif"),
}


@pytest.fixture
def folder(clip_file, models, tmp_path, monkeypatch):
    """A folder with a clip and a model, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    Path("model.safetensors").write_bytes(models["field"].read_bytes())
    return tmp_path


def check(words, says, capsys):
    before = {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")}
    code = main(["magnify", *words])
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("flowmag: error: ")
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    assert says in printed.err
    assert "Traceback" not in printed.err
    assert {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")} == before


def words(clip="clip.tif", output="out.tif", model="model.safetensors"):
    return [clip, "-o", output, "--alpha", "2", "--model", model]


@pytest.mark.parametrize("kind", CLIPS)
def test_clip(folder, capsys, kind):
    make, says = CLIPS[kind]
    check(words(clip=make()), says, capsys)


@pytest.mark.parametrize("kind", OPTIONS)
def test_option(folder, capsys, kind):
    options, says = OPTIONS[kind]
    check([*words(), *options], says, capsys)


@pytest.mark.parametrize("kind", MASKS)
def test_mask(folder, capsys, kind):
    make, says = MASKS[kind]
    check([*words(), "--mask", make()], says, capsys)


@pytest.mark.parametrize("kind", MODELS)
def test_model(folder, capsys, kind):
    make, says = MODELS[kind]
    check(words(model=make()), says, capsys)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_output(folder, capsys, kind):
    make, says = OUTPUTS[kind]
    check(words(output=make()), says, capsys)


@pytest.mark.parametrize("left_out", ["clip.tif", "-o", "--alpha"])
def test_what_must_be_given(folder, capsys, left_out):
    given = words()
    at = given.index(left_out)
    del given[at : at + (1 if left_out == "clip.tif" else 2)]
    check(given, "Missing", capsys)


def test_model_that_cannot_attenuate(folder, models, capsys):
    check([*words(model=str(models["unet"])), "--alpha", "0.5"], "cannot go below 1", capsys)


def test_as_a_process_of_its_own(folder):
    code = "import sys; from napari_flowmag.cli import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", code, "magnify", *words(clip="missing.tif")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("flowmag: error: ")
    assert result.stderr.count("\n") == 1
