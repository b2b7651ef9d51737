from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_flowmag import FlowmagError
from napari_flowmag.checkpoint import build, read_checkpoint, read_pickle, save_checkpoint

REGISTRY = {"linear": "torch.nn:Linear"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def save(path: Path, module: nn.Module | None = None, **changes) -> Path:
    facts = {
        "kind": "magnifier",
        "architecture": "linear",
        "config": {"in_features": 2, "out_features": 3},
        "training": {"description": "for a test"},
    }
    save_checkpoint(path, module or nn.Linear(2, 3), **(facts | changes))
    return path


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    path = save(tmp_path / "a.safetensors", module)
    found = read_checkpoint(path, "magnifier")
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.training == {"description": "for a test"}
    again = build(found, REGISTRY)
    assert isinstance(again, nn.Linear)
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@settings(max_examples=25)
@given(st.dictionaries(st.text(), json_values))
def test_any_settings_survive(tmp_path_factory, facts) -> None:
    path = tmp_path_factory.mktemp("facts") / "a.safetensors"
    found = read_checkpoint(save(path, training=facts, config=facts))
    assert (found.training, found.config) == (facts, facts)


def test_tied_and_transposed_weights_are_stored(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[1].weight = module[0].weight
    module[0].bias = nn.Parameter(torch.rand(2, 2).t()[0])
    state = read_checkpoint(save(tmp_path / "a.safetensors", module)).state
    for name, value in module.state_dict().items():
        assert torch.equal(state[name], value)


def test_the_file_can_be_read_like_any_other(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        path = save(tmp_path / "a.safetensors")
    finally:
        os.umask(mask)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path / "a.safetensors")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FlowmagError, match=r"cannot write .*No space left"):
        save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_writing_into_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FlowmagError, match="cannot write"):
        save(tmp_path / "missing" / "a.safetensors")


def test_bad_checkpoints_are_refused_in_a_line(tmp_path: Path) -> None:
    good = save(tmp_path / "good.safetensors").read_bytes()
    bare = safetensors.torch.save({"x": torch.zeros(1)})
    contents = {
        "empty": (b"", "damaged"),
        "text": (b"weights, honestly " * 9, "damaged"),
        "cut": (good[:-3], "damaged"),
        "bare": (bare, "not a flowmag checkpoint"),
        "other": (safetensors.torch.save({}, {"flowmag": "[]"}), "not a flowmag checkpoint"),
        "broken": (safetensors.torch.save({}, {"flowmag": "{"}), "not a flowmag checkpoint"),
    }
    for name, (content, reason) in contents.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(FlowmagError, match=reason) as error:
            read_checkpoint(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for read in (read_checkpoint, read_pickle):
        with pytest.raises(FlowmagError, match="no such file"):
            read(tmp_path / "missing")
    with pytest.raises(FlowmagError, match="cannot read"):
        read_checkpoint(tmp_path)


def test_the_other_kind_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", kind="flow")
    with pytest.raises(FlowmagError, match="holds a flow model, not a magnifier model"):
        read_checkpoint(path, "magnifier")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "novel"}, "architecture 'novel'"),
        ({"config": {"in_features": 2, "out_features": 4}}, "does not fit"),
        ({"config": {"in_features": 2, "no_such": 4}}, "does not fit"),
        ({"module": nn.Conv2d(1, 1, 1)}, "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict, reason: str) -> None:
    found = read_checkpoint(save(tmp_path / "a.safetensors", **changes))
    with pytest.raises(FlowmagError, match=reason) as error:
        build(found, REGISTRY)
    assert "\n" not in str(error.value)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_pickles_cannot_run_code(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.pth"
    torch.save({"state_dict": Malicious(mark)}, path)
    with pytest.raises(FlowmagError, match="not opened for safety"):
        read_pickle(path)
    path.write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(FlowmagError, match="not opened for safety"):
        read_pickle(path)
    assert not mark.exists()


def test_pickles_hold_a_dictionary(tmp_path: Path) -> None:
    torch.save(torch.zeros(1), tmp_path / "a.pth")
    with pytest.raises(FlowmagError, match="no dictionary of weights"):
        read_pickle(tmp_path / "a.pth")
