from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

import napari_flowmag
from napari_flowmag.cli import main
from napari_flowmag.cli.app import COMMANDS


def test_help_lists_every_command_and_each_has_help(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert f" {name} " in listed
        assert main([name, "--help"]) == 0
        assert f"flowmag {name}" in capsys.readouterr().out


def test_without_a_command_help_is_shown(capsys):
    assert main([]) == 0
    assert "magnify" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flowmag {napari_flowmag.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["magnify", "--help"], ["--version"]])
def test_help_comes_without_heavy_imports(arguments):
    code = (
        "import sys; from napari_flowmag.cli import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'dask', 'scipy', 'av', 'zarr', 'cv2', 'skimage'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_letters_that_the_terminal_lacks_are_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert main(["models"]) == 0
    sys.stdout.flush()
    assert rb"\u03b1" in written.getvalue()


def test_models(capsys):
    assert main(["models", "--json"]) == 0
    infos = json.loads(capsys.readouterr().out)
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert infos[0]["name"] == "default"
    assert {"phase", "linear", "lucas-kanade", "oh"} <= {info["name"] for info in infos}
    for info in infos:
        assert f"\n{info['name']}" in "\n" + text
        assert (info["source"] if info["baseline"] else info["sha256"]) in text
        assert (info["params"] > 0) != info["baseline"]
