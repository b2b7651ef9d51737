from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_flowmag import FlowmagError, checkpoint, load_flow
from napari_flowmag.checkpoint import import_from, save_checkpoint
from napari_flowmag.flow import ARCHITECTURES, available_flows
from napari_flowmag.flow.arflow import ARFlow


def test_every_listed_flow_can_be_imported() -> None:
    for info in available_flows():
        assert callable(import_from(info.factory)), info.name


@pytest.mark.parametrize("name", ["raft_small", "dis"])
def test_the_list_says_whether_gradients_pass(name: str) -> None:
    options = {"weights": None} if name.startswith("raft") else {}
    (info,) = (i for i in available_flows() if i.name == name)
    assert load_flow(name, **options).differentiable == info.differentiable


def test_architectures_can_be_rebuilt_from_their_config() -> None:
    for location in ARCHITECTURES.values():
        cls = import_from(location)
        module = cls()
        assert module.differentiable
        assert cls(**module.config).state_dict().keys() == module.state_dict().keys()


def test_loaded_flows_are_frozen(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, ARFlow(), kind="flow", architecture="arflow", config={}, training={})
    flow = load_flow(path, device="cpu")
    assert not flow.training
    assert not any(p.requires_grad for p in flow.parameters())


def test_the_default_is_the_bundled_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "_WEIGHTS", tmp_path)
    with pytest.raises(FlowmagError, match="bundled flow is missing"):
        load_flow("default")
    module = ARFlow()
    save_checkpoint(
        tmp_path / "flow_default.safetensors",
        module,
        kind="flow",
        architecture="arflow",
        config={},
        training={},
    )
    for found, expected in zip(load_flow("default").parameters(), module.parameters(), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("magic", {}, "unknown flow 'magic': give one of default, raft_large"),
        ("raft:small", {}, "unknown flow 'raft:small'"),
        ("ptlflow", {}, "unknown flow 'ptlflow'"),
        ("arflow", {}, "options of flow 'arflow': missing a required argument: 'path'"),
        ("dis", {"speed": 3}, "unexpected keyword argument 'speed'"),
        ("dis=a.pth", {}, "flow 'dis=a.pth': dis takes no file of weights"),
        ("raft_small=", {}, "unknown flow 'raft_small='"),
        ("raft_small=missing.pth", {}, "no such file: missing.pth"),
        ("missing.tar", {}, "no such file: missing.tar"),
        ("missing.safetensors", {}, "no such file: missing.safetensors"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(name: str, options: dict, reason: str) -> None:
    with pytest.raises(FlowmagError, match=reason) as error:
        load_flow(name, **options)
    assert "\n" not in str(error.value)


def test_weights_on_disk_are_named_after_an_equals_sign(tmp_path: Path) -> None:
    module = load_flow("raft_small", weights=None)
    path = tmp_path / "a = b.pth"
    torch.save(module.network.state_dict(), path)
    loaded = load_flow(f"raft_small={path}", updates=3)
    assert loaded.updates == 3
    for found, expected in zip(loaded.parameters(), module.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_checkpoint_may_have_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "lr=0.1.safetensors"
    save_checkpoint(path, ARFlow(), kind="flow", architecture="arflow", config={}, training={})
    assert isinstance(load_flow(path), ARFlow)
