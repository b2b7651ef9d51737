from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.models import optical_flow

from napari_flowmag import FlowmagError, load_flow
from napari_flowmag.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def raft():
    torch.manual_seed(0)
    return load_flow("raft_small", weights=None, updates=2)


def test_large_enough_frames_reach_torchvision_as_they_are(raft) -> None:
    """Only normalised to [-1, 1]; the last of the given number of updates is the flow."""
    first, second = torch.rand(2, 1, 3, 128, 136)
    estimates = raft.network(2 * first - 1, 2 * second - 1, num_flow_updates=2)
    torch.testing.assert_close(raft(first, second), estimates[-1])
    assert len(estimates) == 2


@pytest.mark.parametrize("size", [(16, 20), (50, 131)])
def test_any_size_with_gradients(raft, size: tuple[int, int]) -> None:
    first, second = torch.rand(2, 2, 1, *size)
    second.requires_grad_()
    flow = raft(first, second)
    assert flow.shape == (2, 2, *size)
    flow.abs().mean().backward()
    assert second.grad.abs().max() > 0
    assert all(p.grad is None for p in raft.parameters())


def test_padding_is_cut_where_it_was_added(raft) -> None:
    """What is added on each side takes its share of the flow with it."""
    first, second = torch.rand(2, 1, 3, 125, 130)
    padded = (torch.nn.functional.pad(x, (3, 3, 1, 2), mode="replicate") for x in (first, second))
    torch.testing.assert_close(raft(first, second), raft(*padded)[..., 1:126, 3:133])


def test_updates_change_the_flow(raft) -> None:
    first, second = torch.rand(2, 1, 3, 128, 128)
    more = load_flow("raft_small", weights=None, updates=5)
    more.load_state_dict(raft.state_dict())
    assert not torch.equal(more(first, second), raft(first, second))


def test_local_weights_are_read(tmp_path: Path, raft) -> None:
    path = tmp_path / "raft.pth"
    torch.save(raft.network.state_dict(), path)
    again = load_flow("raft_small", weights=path, updates=2)
    first, second = torch.rand(2, 1, 3, 128, 128)
    assert torch.equal(again(first, second), raft(first, second))
    with pytest.raises(FlowmagError, match="weights of RAFT large"):
        load_flow("raft_large", weights=path)


def test_own_format_keeps_variant_and_updates(tmp_path: Path, raft) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, raft, kind="flow", architecture="raft", config=raft.config, training={})
    assert load_flow(path).config == {"variant": "small", "updates": 2}


@pytest.mark.parametrize(
    ("name", "enum", "weights"),
    [
        ("raft_large", "Raft_Large_Weights", "C_T_V1"),
        ("raft_small", "Raft_Small_Weights", "C_T_V2"),
    ],
)
def test_offline_it_says_what_to_fetch(tmp_path: Path, monkeypatch, name, enum, weights) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FlowmagError, match="no network") as error:
        load_flow(name)
    assert getattr(optical_flow, enum)[weights].url in str(error.value)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_bad_options_are_refused() -> None:
    with pytest.raises(FlowmagError, match="0 updates"):
        load_flow("raft_small", weights=None, updates=0)
    with pytest.raises(FlowmagError, match="steps"):
        load_flow("raft_small", steps=3)
