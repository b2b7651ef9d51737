from __future__ import annotations

import pytest
import torch

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.judges import judges_key, load_judges
from napari_flowmag.evaluate.keys import deciding_files


def test_pictures_are_taken_to_where_the_estimator_computes(monkeypatch):
    seen = []

    class Flow(torch.nn.Module):
        def forward(self, first, second):
            seen.append((first.device.type, second.device.type))
            return first[:, :2]

    monkeypatch.setattr("napari_flowmag.flow.load_flow", lambda name, device: Flow())
    # Torch's device without values stands for a card, which test machines have not.
    monkeypatch.setattr("napari_flowmag.device.resolve_device", torch.device)
    judges = load_judges(["mine"], "meta")
    picture = torch.zeros(1, 3, 16, 16)
    assert judges["mine"](picture, picture).shape == (1, 2, 16, 16)
    assert seen == [("meta", "meta")]


def test_what_cannot_be_loaded_is_left_out_or_an_error():
    told = []
    judges = load_judges(["lucas_kanade", "nobody"], "cpu", optional=told.append)
    assert list(judges) == ["lucas_kanade"]
    assert told[0].startswith("flow nobody is left out: unknown flow 'nobody'")
    with pytest.raises(FlowmagError, match="unknown flow 'nobody'"):
        load_judges(["lucas_kanade", "nobody"], "cpu")
    with pytest.raises(FlowmagError, match="no flow estimator is left"):
        load_judges(["nobody"], "cpu", optional=told.append)


def test_other_judges_have_another_key():
    assert judges_key(["dis"]) == judges_key(["dis"])
    assert judges_key(["dis"]) != judges_key(["dis", "farneback"])


def test_weights_on_disk_are_part_of_the_key(tmp_path):
    path = tmp_path / "raft.pth"
    path.write_bytes(b"one")
    before = judges_key([f"raft_large={path}"])
    path.write_bytes(b"two")
    assert judges_key([f"raft_large={path}"]) != before


def test_the_bundled_flows_weights_are_part_of_the_key(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_flowmag.checkpoint._WEIGHTS", tmp_path)
    path = tmp_path / "flow_default.safetensors"
    path.write_bytes(b"one")
    before = judges_key(["default"])
    path.write_bytes(b"two")
    assert judges_key(["default"]) != before


@pytest.mark.parametrize("library", ["torch", "torchvision", "opencv-python-headless"])
def test_another_version_of_a_flows_library_has_another_key(library, monkeypatch):
    versions = {}
    monkeypatch.setattr(
        "napari_flowmag.evaluate.keys.version", lambda name: versions.get(name, "1.0")
    )
    before = judges_key(["dis"])
    assert judges_key(["dis"]) == before
    versions[library] = "1.1"
    assert judges_key(["dis"]) != before


def test_raft_judges_by_twenty_updates_from_any_weights(monkeypatch):
    asked = []

    def load(name, device, **options):
        asked.append((name, options))
        return torch.nn.Identity()

    monkeypatch.setattr("napari_flowmag.flow.load_flow", load)
    load_judges(["raft_large", "raft_large=a.pth"], "cpu")
    assert [options for _, options in asked] == [{"updates": 20}] * 2


def test_weights_are_called_by_their_file_where_that_tells_them_apart(monkeypatch) -> None:
    monkeypatch.setattr("napari_flowmag.flow.load_flow", lambda *_, **__: torch.nn.Identity())
    judges = load_judges(["dis", "spynet=here/a.pth"], "cpu")
    assert list(judges) == ["dis", "spynet=a.pth"]
    assert judges["spynet=a.pth"].name == "spynet=here/a.pth"
    alike = ["spynet=here/a.pth", "spynet=there/a.pth"]
    assert list(load_judges(alike, "cpu")) == alike


def test_results_depend_on_all_that_decides_them():
    files = deciding_files().keys()
    assert {"evaluate/sets/pictures.py", "train/data.py", "models/field.py"} <= files
    assert {"evaluate/pictures.py", "cli/evaluate.py", "train/loop.py"}.isdisjoint(files)
