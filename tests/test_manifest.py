"""What napari is told about the plugin."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from napari_flowmag._settings import PluginSettings
from napari_flowmag.io import readable_suffixes, writable_suffixes

npe2 = pytest.importorskip("npe2")

MANIFEST = Path(__file__).parents[1] / "src/napari_flowmag/napari.yaml"


@pytest.fixture(scope="module")
def contributions():
    return npe2.PluginManifest.from_file(MANIFEST).contributions


def test_distribution_manifest_and_entry_point_have_one_name():
    # `napari --plugin NAME` finds a plugin only if they do.
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    (entry_point,) = distribution("flowmag").entry_points.select(group="napari.manifest")
    assert {manifest.name, manifest.display_name, entry_point.name} == {"flowmag"}
    assert entry_point.value == "napari_flowmag:napari.yaml"


def test_one_reader_of_each_suffix_that_is_read(contributions):
    (reader,) = contributions.readers
    assert reader.accepts_directories
    assert {pattern.removeprefix("*") for pattern in reader.filename_patterns} == {
        *readable_suffixes()
    }


def test_what_writers_promise_can_be_written(contributions):
    promised = {suffix for w in contributions.writers for suffix in w.filename_extensions}
    assert promised == {".tif", ".tiff", ".mp4", ".ome.zarr", ".zarr"}
    assert {".tif", ".tiff", ".mp4"} <= {*writable_suffixes()}


def test_every_command_is_there_and_of_use():
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    parts = manifest.contributions
    entries = [e for items in parts.menus.values() for e in items]
    used = [*parts.readers, *parts.writers, *parts.sample_data, *parts.widgets, *entries]
    assert {command.id for command in parts.commands} == {part.command for part in used}


def test_magnify_is_the_first_widget(contributions):
    # It is the one that `napari -w flowmag` opens.
    names = [widget.display_name for widget in contributions.widgets]
    assert names == ["Magnify", "Mask", "Kymograph"]


def test_each_dock_is_in_the_menu_of_its_kind(contributions):
    menus = {menu: [e.command for e in entries] for menu, entries in contributions.menus.items()}
    assert menus == {
        "napari/layers/filter": ["flowmag.magnify_dock"],
        "napari/layers/segment": ["flowmag.mask_dock"],
        "napari/layers/measure": ["flowmag.kymograph_dock"],
    }


def test_preferences_and_defaults_without_napari_agree(contributions):
    (page,) = contributions.configurations.values()
    defaults = {name: field.default for name, field in page.properties.items()}
    assert defaults == dataclasses.asdict(PluginSettings())


def test_no_command_imports_a_model_library(contributions):
    pytest.importorskip("qtpy.QtWidgets", exc_type=ImportError)
    modules = {command.python_name.split(":")[0] for command in contributions.commands}
    code = (
        f"import sys, {', '.join(sorted(modules))}\n"
        "print({'torch', 'cv2', 'segment_anything', 'skimage', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
