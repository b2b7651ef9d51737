from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_flowmag.cli import main

pytest.importorskip("cv2")


def test_a_report_of_one_set(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["evaluate", "--quick", "-o", str(out), "--sets", "subpixel", "--method", "identity"]
    words += ["--flow", "farneback", "--device", "cpu", "--threads", "1"]
    assert main([*words, "--json"]) == 0
    (printed,) = json.loads(capsys.readouterr().out)
    assert printed["set"] == "subpixel"
    assert {mean["method"] for mean in printed["means"]} == {"identity"}
    assert all(mean["figures"]["ssim"] < 1 for mean in printed["means"])
    assert {path.name for path in out.iterdir()} == {
        "report.html", "report.json", "report.md", "results", "pictures",
    }  # fmt: skip
    before = [p.stat().st_mtime_ns for p in sorted((out / "results").rglob("*.jsonl"))]
    assert main(words) == 0
    assert before == [p.stat().st_mtime_ns for p in sorted((out / "results").rglob("*.jsonl"))]
    assert str(out / "report.html") in capsys.readouterr().out


def test_tasks_for_another_program_and_what_it_made(tmp_path, capsys):
    tasks, out = tmp_path / "tasks", tmp_path / "out"
    words = ["evaluate", "--quick", "-o", str(out), "--sets", "structure", "--flow", "farneback"]
    assert main([*words, "--export", str(tasks)]) == 0
    assert not out.exists()
    listed = json.loads((tasks / "tasks.json").read_text())
    assert {task["alpha"] for task in listed} == {10}
    frames = tifffile.imread(tasks / listed[0]["file"])
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == (240, 320, 3)
    for task in listed[1:]:
        (tasks / task["file"]).unlink()
    capsys.readouterr()
    options = ["--method", "identity", "--outputs", f"same={tasks}", "--threads", "1", "--json"]
    assert main([*words, *options]) == 0
    (printed,) = json.loads(capsys.readouterr().out)
    means = {(m["method"], m["group"]): m for m in printed["means"]}
    first = "mode 1, ×10"
    same, identity = means["same", first]["figures"], means["identity", first]["figures"]
    assert same["psnr"] == pytest.approx(identity["psnr"], abs=0.01)
    assert means["same", "mode 2, ×10"]["count"] == 0


def test_sets_are_named_together_or_one_by_one(tmp_path):
    words = [
        "evaluate",
        "--quick",
        "-o",
        str(tmp_path / "out"),
        "--export",
        str(tmp_path / "tasks"),
    ]
    assert main([*words, "--sets", "structure,known", "--sets", "lines"]) == 0
    listed = json.loads((tmp_path / "tasks/tasks.json").read_text())
    assert {task["file"].partition("/")[0] for task in listed} == {"structure", "known", "lines"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("no set 'stars'", "--sets stars"),
        ("give NAME=DIR", "--outputs folder"),
        ("no such folder", "--outputs mine=missing"),
        ("unknown model 'nobody'", "--method nobody"),
        ("unknown flow 'nobody'", "--flow nobody --method identity --sets lines"),
        ("give 1 or more", "--threads 0"),
        ("missing", "--sets pairs --pairs missing"),
    ],
)
def test_bad_input_is_one_line(words, line, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--quick", "-o", "out", *line.split()]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_opencv_what_needs_it_is_left_out(tmp_path, capsys, monkeypatch):
    from napari_flowmag.cli import evaluate

    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)
    asked = []
    monkeypatch.setattr(evaluate, "_costs", lambda *settings: [])
    monkeypatch.setattr(
        "napari_flowmag.evaluate.run.run",
        lambda sets, methods, flows, out, progress: asked.append((methods, list(flows))) or [],
    )
    out = tmp_path / "out"
    assert main(["evaluate", "--quick", "-o", str(out), "--sets", "structure"]) == 0
    ((methods, flows),) = asked
    assert flows == ["default", "lucas_kanade"]
    assert [method.name for method in methods] == [
        "default", "lucas-kanade", "linear", "phase", "identity", "exact",
    ]  # fmt: skip
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2
    assert all('pip install "flowmag[eval]"' in note for note in notes)
