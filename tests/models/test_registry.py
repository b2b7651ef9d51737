from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_flowmag import FlowmagError, checkpoint, load_magnifier
from napari_flowmag.checkpoint import import_from, save_checkpoint
from napari_flowmag.models import ARCHITECTURES, available_models
from napari_flowmag.models.base import Magnifier
from napari_flowmag.models.unet import UNetMagnifier


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch) -> Path:
    """A folder of bundled weights with one magnifier, ``tiny``, and a flow."""
    monkeypatch.setattr(checkpoint, "_WEIGHTS", tmp_path)
    unet = UNetMagnifier(width=2)
    for name, kind in (("magnifier_tiny", "magnifier"), ("flow_default", "flow")):
        save_checkpoint(
            tmp_path / f"{name}.safetensors",
            unet,
            kind=kind,
            architecture="unet",
            config=unet.config,
            training={"description": "two channels"},
        )
    return tmp_path


def test_bundled_models_are_listed_and_loaded(bundled: Path) -> None:
    info, *others = available_models()
    assert all(other.baseline for other in others)
    assert not info.baseline
    assert (info.name, info.architecture, info.description) == ("tiny", "unet", "two channels")
    module = load_magnifier("tiny", "cpu")
    assert info.params == sum(p.numel() for p in module.parameters())
    assert info.path == bundled / "magnifier_tiny.safetensors"
    assert not module.training


def test_architectures_keep_the_protocol() -> None:
    for name, location in ARCHITECTURES.items():
        cls = import_from(location)
        assert issubclass(cls, Magnifier)
        module = cls()
        assert module.architecture == name
        assert cls(**module.config).state_dict().keys() == module.state_dict().keys()


def test_unknown_names_say_what_there_is(bundled: Path) -> None:
    with pytest.raises(FlowmagError, match=r"unknown model 'huge': give one of tiny"):
        load_magnifier("huge")


def test_a_flow_is_no_magnifier(bundled: Path) -> None:
    with pytest.raises(FlowmagError, match="holds a flow model"):
        load_magnifier(bundled / "flow_default.safetensors")


def test_unknown_devices_are_refused(bundled: Path) -> None:
    with pytest.raises(FlowmagError, match="abacus"):
        load_magnifier("tiny", "abacus")
    assert load_magnifier("tiny", torch.device("cpu")).head.weight.device.type == "cpu"


def test_the_registries_cost_no_torch() -> None:
    """Faces list names before anything is computed."""
    code = (
        "import sys, napari_flowmag.flow as f, napari_flowmag.models as m; "
        "f.available_flows(), m.available_models; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
