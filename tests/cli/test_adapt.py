from __future__ import annotations

import json
import random
import signal

import numpy as np
import pytest
import tifffile
import torch

from napari_flowmag import load_magnifier, read_clip
from napari_flowmag.cli import main
from napari_flowmag.models import available_models
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
    said = capsys.readouterr()
    assert "adapted:" in said.err
    record = read_clip(out).metadata["provenance"]
    model = next(info for info in available_models() if info.name == "default")
    assert record["adaptation"]["from"] == model.sha256
    changed = record["model"]["sha256"] != model.sha256
    assert ("model default, adapted (" in said.out) == changed
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


# Seeded moments: anywhere in the run, and before the state (in it: half, then all of the run) or
# the model gets its name.
MOMENTS = [
    *(("layer", random.Random(seed).randrange(100, 2500)) for seed in range(2)),
    ("file", 1),
    ("file", 2),
]


def test_a_killed_run_goes_on_with_the_same_command(clip, tmp_path, killed):
    def command(out):
        return ["flowmag", "adapt", str(clip), "-o", str(out), *QUICK, "--steps", "22"]

    whole, folder = tmp_path / "whole.safetensors", tmp_path / "killed"
    folder.mkdir()
    runs = [(command(whole), None)]
    for number, moment in enumerate(MOMENTS):
        line = command(folder / f"{number}.safetensors")
        runs += [(line, moment), (line, None)]
    assert killed(*runs) == [0, *[-signal.SIGKILL, 0] * len(MOMENTS)]
    names = {f"{number}.safetensors" for number in range(len(MOMENTS))}
    assert {path.name for path in folder.iterdir()} == names
    expected = state_sha256(load_magnifier(whole, "cpu"))
    for name in names:
        assert state_sha256(load_magnifier(folder / name, "cpu")) == expected


def test_ctrl_c_before_it_goes_on_keeps_what_a_killed_run_left(clip, tmp_path, monkeypatch):
    from napari_flowmag.adapt import adaptation

    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        return fingerprint(*args)

    fingerprint = adaptation.fingerprint
    monkeypatch.setattr(adaptation, "fingerprint", interrupted)
    state = tmp_path / "model.safetensors.state"
    state.write_bytes(b"what a killed run left")
    assert main(["adapt", str(clip), "-o", str(tmp_path / "model.safetensors"), *QUICK]) == 130
    assert state.read_bytes() == b"what a killed run left"
    assert not (tmp_path / "model.safetensors").exists()


def test_ctrl_c_ends_it_with_a_usable_model_or_nothing(clip, tmp_path, monkeypatch, capsys):
    rng = random.Random(0)
    for number in range(4):
        out = tmp_path / f"{number}.safetensors"
        layers = iter(range(rng.randrange(50, 2500)))

        def count(module, inputs, layers=layers):
            if next(layers, "last") == "last":
                signal.raise_signal(signal.SIGINT)

        hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
        try:
            assert main(["adapt", str(clip), "-o", str(out), *QUICK, "--steps", "100000"]) == 130
        finally:
            hook.remove()
        assert "Traceback" not in capsys.readouterr().err
        if out.exists():
            load_magnifier(out, "cpu")
    assert {path.suffix for path in tmp_path.iterdir()} <= {".tif", ".safetensors"}
