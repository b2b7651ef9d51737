from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_flowmag import demo as module
from napari_flowmag.cli import main


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAMES", 9)  # the cells rest for the first six


def test_demo_tells_what_was_asked_and_what_came_out(
    models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # An untrained model of this kind is a plain optical-flow solver: good enough for a factor.
    options = ["--model", str(models["field"]), "--alpha", "8", "--kind", "cells", "--json"]
    assert main(["demo", "-o", str(tmp_path / "out"), *options]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["alpha"] == 8
    assert 4 < facts["measured"] < 12
    assert all(Path(path).is_file() for path in facts["files"])

    assert main(["demo", "-o", str(tmp_path / "out"), *options[:-1]]) == 0
    assert "factor measured:" in capsys.readouterr().out


def test_unknown_scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path / "out"), "--kind", "drum"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
