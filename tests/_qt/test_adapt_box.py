"""The Adapt section: learns in the background, keeps the best, hands the model on."""

from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag import load_magnifier
from napari_flowmag._command import command_for
from napari_flowmag._layers import own
from napari_flowmag._qt.loss_curve import LossCurve
from napari_flowmag._qt.magnify_dock import MagnifyDock
from napari_flowmag.cli import main
from napari_flowmag.provenance import state_sha256

from .conftest import moved_texture


@pytest.fixture
def dock(qtbot, model, monkeypatch):
    from napari_flowmag import models
    from napari_flowmag.adapt import adaptation, settings

    original = models.load_magnifier

    def hurt(name, device="auto"):
        import torch

        magnifier = original(name, device)
        if str(name) == "default":
            torch.manual_seed(0)
            with torch.no_grad():
                for key, weight in magnifier.named_parameters():
                    if "updates" in key and weight.ndim > 1:
                        weight.mul_(1 + 1.5 * torch.randn_like(weight))
        return magnifier

    monkeypatch.setattr(adaptation, "load_magnifier", hurt)
    quick = {**settings.PRESETS, "default": {"crop": 48, "batch": 1, "check_every": 2, "lr": 1e-3}}
    monkeypatch.setattr(settings, "PRESETS", quick)
    model.add_image(moved_texture(12), name="beat")
    made = MagnifyDock(model)
    qtbot.addWidget(made)
    made.form.alpha.set_value(4)
    made.adapt.unit.setCurrentText("steps")
    return made


def test_the_adapted_model_is_chosen_used_and_saved(dock, model, idle, tmp_path, qtbot):
    dock.adapt.amount.setValue(12)
    dock.adapt.button.click()
    assert dock.running
    assert not dock.run_button.isEnabled()
    assert not dock.adapt.button.isEnabled()
    idle()
    assert "less) after" in dock.adapt.result.text()
    assert len(dock.adapt.curve.learnt) >= 6
    assert dock.adapt.curve.held_back[0][0] == 0
    assert dock.form.model.currentText() == "adapted to beat ×4"
    magnifier, record = dock.form.model.magnifier()
    assert record["clip"]["shape"] == [12, 48, 64]

    dock.run()
    idle()
    result = model.layers["beat ×4"]
    model_record = own(result)["provenance"]["model"]
    assert model_record["sha256"] == state_sha256(magnifier)

    with qtbot.waitSignal(dock.adapt.saved):
        dock.adapt.save(str(tmp_path / "heart.2024.safetensors"))
    idle()
    path = tmp_path / "heart.2024.safetensors"
    assert dock.adapt.place.text() == f"Saved {path}"
    assert state_sha256(load_magnifier(path, "cpu")) == state_sha256(magnifier)
    assert dock.form.model.settings() == {"model": str(path)}
    assert dock.form.model.magnifier()[0] is None

    line = command_for(dock.form.value(), tmp_path)
    import shlex

    import tifffile

    words = shlex.split(line)[1:]
    assert main(words) == 0
    np.testing.assert_array_equal(tifffile.imread(words[words.index("-o") + 1]), result.data)


def test_stopping_keeps_the_best_so_far(dock, idle, qtbot):
    dock.adapt.amount.setValue(100_000)
    dock.adapt.button.click()
    qtbot.waitUntil(lambda: len(dock.adapt.curve.held_back) > 2, timeout=60_000)
    dock.adapt.bar.cancel_button.click()
    idle()
    assert not dock.running
    assert dock.run_button.isEnabled()
    text = dock.adapt.result.text()
    assert "cancelled" in text.lower() or "left alone" in text
    assert dock.adapt.save_button.isEnabled() == ("less) after" in text)


def test_a_clip_too_short_is_one_notification(dock, model, idle, monkeypatch):
    told = []
    monkeypatch.setattr("napari_flowmag._qt.adapt_box.show_error", told.append)
    dock.form.last.setValue(1)
    dock.adapt.button.click()
    idle()
    assert [str(e) for e in told] == [str(told[0])]
    assert "needs 2 frames" in str(told[0])
    assert dock.form.model.currentText() == "default (bundled)"


def test_the_budget_is_minutes_or_steps(dock):
    dock.adapt.unit.setCurrentText("minutes")
    dock.adapt.amount.setValue(1.5)
    assert dock.adapt.budget() == {"minutes": 1.5}
    dock.adapt.unit.setCurrentText("steps")
    dock.adapt.amount.setValue(30)
    assert dock.adapt.budget() == {"steps": 30}


def test_the_curve_takes_the_colours_of_another_theme(qtbot):
    curve = LossCurve()
    qtbot.addWidget(curve)
    curve.clear()
    curve.show()
    for colour in ("#f0f1f2", "#3b3a39"):
        curve.setStyleSheet(f"QWidget {{ color: {colour} }}")
        assert curve._plot.getAxis("left").textPen().color().name() == colour
