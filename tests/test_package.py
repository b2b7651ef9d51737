from __future__ import annotations

import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

import napari_flowmag

ROOT = Path(__file__).parents[1]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module", ["napari_flowmag", "napari_flowmag._reader", "napari_flowmag.io"]
)
def test_opening_clips_does_not_import_torch_or_a_viewer(module):
    heavy = "{'torch', 'cv2', 'napari', 'qtpy', 'skimage', 'av', 'zarr'}"
    assert run_python(f"import sys, {module}; print({heavy} & set(sys.modules))") == "set()"


def test_every_public_name_is_there():
    for name in napari_flowmag.__all__:
        assert getattr(napari_flowmag, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        napari_flowmag.nothing  # noqa: B018


def test_magnify_is_the_function_even_after_its_module_was_imported():
    code = "import napari_flowmag.magnify; from napari_flowmag import magnify; print(type(magnify))"
    assert run_python(code) == str(types.FunctionType)


def test_the_wheel_holds_what_the_package_needs(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="needs hatchling to build")
    (path,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(
            next(n for n in names if n.endswith("entry_points.txt"))
        ).decode()
    weights = (ROOT / "src/napari_flowmag/weights").glob("*")
    needed = {
        f"napari_flowmag/weights/{f.name}" for f in weights if f.suffix != ".pyc" and f.is_file()
    }
    assert needed | {"napari_flowmag/napari.yaml", "napari_flowmag/py.typed"} <= names
    assert "flowmag = napari_flowmag:napari.yaml" in entry_points
    assert not [n for n in names if n.startswith("tests")]
