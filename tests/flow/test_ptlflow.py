from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from napari_flowmag import FlowmagError, load_flow


class Network(nn.Module):
    """Called as ptlflow calls its networks; gives back what tells the channels apart."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        images = inputs["images"]
        assert images.shape[1:3] == (2, 3)
        # dx: blue of the first frame, dy: red of the second.
        return {"flows": torch.stack([images[:, 0, 0], images[:, 1, 2]], 1)[:, None]}


@pytest.fixture
def requests(monkeypatch) -> list[tuple[str, str | None]]:
    asked = []

    def get_model(name: str, ckpt_path: str | None = None) -> nn.Module:
        asked.append((name, ckpt_path))
        if name == "novel":
            raise ValueError("Unknown model name: novel.\nChoose from [pwcnet]")
        return Network()

    monkeypatch.setitem(sys.modules, "ptlflow", SimpleNamespace(get_model=get_model))
    return asked


def test_frames_go_in_as_bgr_pairs(requests) -> None:
    first, second = torch.rand(2, 2, 3, 20, 24)
    flow = load_flow("ptlflow:pwcnet", checkpoint="sintel")(first, second)
    assert torch.equal(flow, torch.stack([first[:, 2], second[:, 0]], 1))
    assert requests == [("pwcnet", "sintel")]


def test_what_ptlflow_refuses_is_one_line(requests) -> None:
    with pytest.raises(FlowmagError, match=r"novel .*Choose from \[pwcnet\]") as error:
        load_flow("ptlflow:novel")
    assert "\n" not in str(error.value)


def test_without_ptlflow_it_says_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ptlflow", None)
    with pytest.raises(FlowmagError, match=r'pip install "flowmag\[ptlflow\]"'):
        load_flow("ptlflow:gmflow")


@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_weights_are_read_from_disk(requests, tmp_path: Path, key: str | None) -> None:
    path = tmp_path / "pwcnet.pth"
    weights = {"module.scale": torch.tensor([3.0])}
    torch.save({key: weights} if key else weights, path)
    flow = load_flow(f"ptlflow:pwcnet={path}")
    assert flow.network.scale == 3
    assert requests == [("pwcnet", None)]


@pytest.mark.parametrize("content", [{"state_dict": {"other": torch.ones(1)}}, {"model": 3}])
def test_weights_that_do_not_fit_are_one_line(requests, tmp_path: Path, content: dict) -> None:
    path = tmp_path / "pwcnet.pth"
    torch.save(content, path)
    with pytest.raises(FlowmagError, match="does not hold weights of ptlflow's pwcnet") as error:
        load_flow(f"ptlflow:pwcnet={path}")
    assert "\n" not in str(error.value)
