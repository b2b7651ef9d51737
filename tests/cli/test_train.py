from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import yaml

from napari_flowmag.checkpoint import read_checkpoint, save_checkpoint
from napari_flowmag.cli.train import main
from napari_flowmag.flow.gauss_newton import GaussNewtonFlow
from napari_flowmag.models import load_magnifier
from napari_flowmag.train.magnifier import MagnifierTask


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a flow, frame pairs and a clip."""
    root = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    flow = GaussNewtonFlow(4, 4, (1,) * 6)
    facts: Any = {"kind": "flow", "architecture": "gauss_newton", "training": {}}
    save_checkpoint(root / "flow.safetensors", flow, config=flow.config, **facts)
    rng = np.random.default_rng(0)
    for side in ("frameA", "frameB"):
        folder = root / "pairs" / "train" / side
        folder.mkdir(parents=True)
        for i in range(4):
            tifffile.imwrite(folder / f"{i}.tif", rng.integers(0, 255, (72, 80, 3), np.uint8))
    (root / "pairs" / "train_fn.json").write_text(json.dumps([f"{i}.tif" for i in range(4)]))
    (root / "clips").mkdir()
    tifffile.imwrite(root / "clips" / "clip.tif", rng.integers(0, 255, (9, 72, 80), np.uint8))
    return root


def arguments(place: Path, out: Path, *more: str, data: str = "pairs") -> list[str]:
    flags = "--architecture unet --model.width 4 --crop 64 --batch 2 --held-out 1"
    flags += " --steps 3 --log-every 1 --workers 0 --threads 1 --device cpu"
    flow = ["--flow", str(place / "flow.safetensors")]
    return [str(place / data), "-o", str(out), *flags.split(), *flow, *more]


def test_three_steps_make_a_magnifier(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(arguments(place, out)) == 0
    written = capsys.readouterr()
    assert written.out.strip() == str(out / "model.safetensors")
    assert "3 pairs to train on, 1 held out" in written.err
    assert "step 3  loss" in written.err
    model = load_magnifier(out / "model.safetensors", "cpu")
    picture = torch.rand(1, 3, 64, 64)
    assert model(picture, picture, torch.tensor([4.0])).shape == picture.shape
    assert {"config.yaml", "metrics.jsonl", "state.pt"} <= {p.name for p in out.iterdir()}
    trained = read_checkpoint(out / "model.safetensors").training
    assert trained["settings"]["crop"] == 64
    assert str(place) not in json.dumps(trained), "paths of this machine stay here"


def test_settings_go_to_yaml_and_back(place: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    more = ["--area", "[0.5,0.9]", "--jitter=[0.1,0.1,0.1,0.1]", "--max-motion", "9", "--seed=5"]
    assert main(arguments(place, one, *more)) == 0
    assert main(["--config", str(one / "config.yaml"), "-o", str(other)]) == 0
    settings = yaml.safe_load((one / "config.yaml").read_text())
    assert settings == yaml.safe_load((other / "config.yaml").read_text())
    assert settings["area"] == [0.5, 0.9]
    assert settings["max_motion"] == 9.0
    name = "model.safetensors"
    assert (one / name).read_bytes() == (other / name).read_bytes()


def test_an_interrupted_run_resumes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts, name = tmp_path / "whole", tmp_path / "parts", "model.safetensors"
    assert main(arguments(place, whole)) == 0
    loss = MagnifierTask.loss

    def interrupted(task: MagnifierTask, batch: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return loss(task, batch)

    with monkeypatch.context() as patch:
        patch.setattr(MagnifierTask, "loss", interrupted)
        assert main(arguments(place, parts)) == 130
    assert "stopped after step 1" in capsys.readouterr().err
    assert (parts / name).is_file()
    assert main(["-o", str(parts), "--resume"]) == 0
    assert (parts / name).read_bytes() == (whole / name).read_bytes()


def test_a_resume_that_is_refused_leaves_the_settings(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(arguments(place, out, "--steps", "1")) == 0
    before = (out / "config.yaml").read_bytes()
    assert main(["-o", str(out), "--resume", "--steps", "2", "--model.width", "6"]) == 2
    assert "resume with the settings it began with" in capsys.readouterr().err
    assert (out / "config.yaml").read_bytes() == before
    assert main(["-o", str(out), "--resume", "--steps", "2"]) == 0


def test_a_killed_run_resumes(place: Path, tmp_path: Path, killed: Any) -> None:
    # Anywhere after the first save; before the state or the weights get their name.
    moments = [("layer", 900), ("layer", 2600), ("file", 3), ("file", 4)]
    flags = ("--steps", "6", "--save-every", "2", "--validate-every", "3")

    def begin(out: Path) -> list[str]:
        return ["flowmag-train", *arguments(place, out, *flags)]

    whole = tmp_path / "whole"
    runs: list[Any] = [(begin(whole), None)]
    for number, moment in enumerate(moments):
        out = tmp_path / str(number)
        runs += [(begin(out), moment), (["flowmag-train", "-o", str(out), "--resume"], None)]
    assert killed(*runs) == [0, *[-signal.SIGKILL, 0] * len(moments)]
    for number in range(len(moments)):
        out = tmp_path / str(number)
        name = "model.safetensors"
        assert (out / name).read_bytes() == (whole / name).read_bytes()
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
        assert not [path for path in out.iterdir() if path.name.endswith(".part")]


def selection(place: Path, more: str = "") -> list[str]:
    """Return settings that let any pair pass."""
    bounds = f"--max-p80 99 --max-p999 99 --max-p001 99 {more}"
    return [*bounds.split(), "--selection-flow", str(place / "flow.safetensors")]


def test_clips_are_made_into_pairs_once(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = selection(place, "--strides [1,5] --pairs-per-clip 3")
    assert main(arguments(place, out, *more, data="clips")) == 0
    assert "clip.tif: 3 fit pairs" in capsys.readouterr().err
    assert len(json.loads((out / "pairs" / "train_fn.json").read_text())) == 3
    assert main(["-o", str(out), "--resume", "--steps", "4"]) == 0
    assert "fit pairs" not in capsys.readouterr().err
    for asked in (["--min-mse", "11"], [str(place / "clips" / "clip.tif")]):
        assert main([*asked, "-o", str(out), "--resume"]) == 2
        assert "the pairs of this run were made with" in capsys.readouterr().err


def test_a_start_that_failed_leaves_no_pairs_of_other_clips(place: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "run", tmp_path / "other.tif"
    other.write_bytes((place / "clips" / "clip.tif").read_bytes())
    few = selection(place, "--pairs-per-clip 3")
    wrong = ["--flow", str(tmp_path / "nowhere.safetensors")]
    assert main(arguments(place, out, *few, *wrong, data="clips")) == 2
    assert not (out / "state.pt").exists()
    more = [*few, "--min-mse", "1"]
    assert main(arguments(place, out, *more, data=str(other))) == 0
    names = json.loads((out / "pairs" / "train_fn.json").read_text())
    assert len(names) == 3
    assert all(name.startswith("other") for name in names)


@pytest.mark.parametrize("data", ["pairs", "clips"])
def test_a_dry_run_tells_the_cost_and_writes_nothing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    more = selection(place, "--accumulate 2 --dry-run")
    if data == "clips":  # of which it looks at fewer pairs than a run holds out
        more += ["--held-out", "16"]
    assert main(arguments(place, tmp_path / "run", *more, data=data)) == 0
    line = capsys.readouterr().out
    cost = re.fullmatch(
        r"loss (.*), (.*) s a step, of which (.*) s to prepare its data, (.*) MiB at most; "
        r"nothing was written\n",
        line,
    )
    assert cost is not None, line
    loss, step, waiting, memory = map(float, cost.groups())
    assert 0 < loss < 100
    assert 0 < waiting < step
    assert memory > 50
    assert not list(tmp_path.iterdir())


def test_a_dry_run_without_a_fit_pair_says_how_to_find_out_why(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = selection(place, "--min-mse 99999 --dry-run")
    assert main(arguments(place, tmp_path / "run", *more, data="clips")) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "no frame pair is fit to learn from" in last
    assert "`flowmag-train prepare CLIP -o OUT` shows why, in OUT/index.html" in last


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_full_memory_gets_one_line(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dry: list[str],
) -> None:
    def loss(task: MagnifierTask, batch: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 4915200 bytes")

    monkeypatch.setattr(MagnifierTask, "loss", loss)
    assert main(arguments(place, tmp_path / "run", *dry)) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        "flowmag-train: error: memory is full: lower --batch or --crop, or use --accumulate"
    )


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = MagnifierTask.loss

    def spoilt(task: MagnifierTask, batch: Any) -> Any:
        total, terms = loss(task, batch)
        return total * torch.nan, terms

    monkeypatch.setattr(MagnifierTask, "loss", spoilt)


def test_a_dry_run_whose_loss_is_not_finite_says_so(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(monkeypatch)
    assert main(arguments(place, tmp_path / "run", "--dry-run")) == 2
    assert "the loss is not finite" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_end_with_one_line_and_status_2(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(monkeypatch)
    out = tmp_path / "run"
    assert main(arguments(place, out, "--seed", "7")) == 2
    *_, counted, line = capsys.readouterr().err.splitlines()
    assert counted.endswith("held out")
    assert line.startswith("flowmag-train: error: training stopped at step 0: the loss is not fin")
    assert str(out / "bad_batch.pt") in line
    saved = torch.load(out / "bad_batch.pt", weights_only=True)
    assert saved["seed"] == 7
    assert saved["config"]["settings"]["crop"] == 64
    assert saved["batches"][0]["frame"].shape == (2, 3, 64, 64)


def test_the_flow_is_trained_by_the_same_command(tmp_path: Path) -> None:
    flags = "--crop 32 --batch 1 --width 4 --context 4 --gauss-newton-steps [0,1,1,0,1,1] --steps 1"
    flags += " --workers 0 --threads 1 --device cpu"
    assert main(["flow", "-o", str(tmp_path), *flags.split()]) == 0
    assert read_checkpoint(tmp_path / "model.safetensors").kind == "flow"
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert settings["gauss_newton_steps"] == [0, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--crop", "5"], "setting crop = 5: must be at least 32 px"),
        (["--crop", "x"], "crop"),
        (["--lr", "-1"], "setting lr = -1.0: must be above 0"),
        (["--lr", ".inf"], "setting lr = inf: must be finite"),
        (["--alpha-max", ".inf"], "must be finite"),
        (["--flow", "lucas_kanade", "--flow-options", "{sigma: a}"], "options of flow"),
        (["--area", "[0.9,0.1]"], "setting area"),
        (["--alpha-max", "0.5"], "alpha_min, alpha_max"),
        (["--nonsense", "5"], "nonsense"),
        (["--schedule", "steep"], "schedule"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", "NONSENSE"], "nonsense"),
        (["--config", "BROKEN"], "Problems parsing config"),
        (["--model.depth", "4"], "depth"),
        (["--config", "BINARY"], "the file is no text"),
        (["--model.width=-3"], "setting model = {'width': -3}"),
        (["--seed", "99999999999999999999"], "setting seed"),
        (["--crop", "80"], "80×72 px is too small for a crop of 80 px"),
        (["--flow", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--textures", "nowhere", "--synthetic", "0.5"], "nowhere"),
        (["--resume"], "nothing to resume"),
    ],
)
def test_bad_usage_gets_one_line(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: Sequence[str],
    says: str,
) -> None:
    files = {"NONSENSE": b"nonsense: 3\n", "BROKEN": b"crop: [\n", "BINARY": b"\x80\xff\xfe"}
    for name, content in files.items():
        path = tmp_path / f"{name.lower()}.yaml"
        path.write_bytes(content)
        more = [str(path) if argument == name else argument for argument in more]
    out = tmp_path / "run"
    assert main(arguments(place, out, *more)) == 2
    written = capsys.readouterr()
    last = written.err.splitlines()[-1]
    assert last.startswith("flowmag-train: error: ")
    assert says in last
    assert not out.exists()
    assert "Traceback" not in written.err
    assert written.out == ""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["-o", "RUN"], "name the folder"),
        (["DATA"], "-o"),
        (["nowhere", "-o", "RUN"], "nowhere: no such file or folder"),
    ],
)
def test_what_must_be_given(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(place / "pairs") if argument == "DATA" else argument for argument in given]
    flow = ["--selection-flow", str(place / "flow.safetensors")]
    assert main([*given, *flow]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help_explains_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Height and width of a training picture in px" in text
    assert "go on with the run in the folder" in text


def test_the_face_starts_without_torch() -> None:
    code = "import sys, napari_flowmag.cli.train; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
