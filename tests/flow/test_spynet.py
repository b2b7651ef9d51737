from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_flowmag import FlowmagError, load_flow
from napari_flowmag.flow.spynet import SPyNet

CHANNELS = (8, 32, 64, 32, 16, 2)


@pytest.fixture(scope="module")
def weights(formula_weights) -> dict[str, torch.Tensor]:
    """SPyNet's parameters by the names that BasicSR gives them."""
    state = {}
    for level in range(6):
        for i, (inputs, outputs) in enumerate(itertools.pairwise(CHANNELS)):
            name = f"basic_module.{level}.basic_module.{2 * i}"
            for part, shape in (("weight", [outputs, inputs, 7, 7]), ("bias", [outputs])):
                key = f"{name}.{part}"
                state[key] = torch.from_numpy(formula_weights(key, shape))
    return state


@pytest.fixture(scope="module")
def spynet(weights: dict[str, torch.Tensor], tmp_path_factory) -> SPyNet:
    path = tmp_path_factory.mktemp("spynet") / "spynet.pth"
    torch.save({"params": weights}, path)
    return load_flow(f"spynet={path}")


def test_flow_and_gradient_are_those_of_basicsr(data: Path, spynet: SPyNet, waves) -> None:
    stored = np.load(data / "authors_spynet.npz")
    first = torch.from_numpy(waves(80, 144, (0, 0, 0), 0))
    second = torch.from_numpy(waves(80, 144, (1.3, 2.6, 3.9), -1.3)).requires_grad_()
    flow = spynet(first, second)
    flow.abs().mean().backward()
    found, gradient = flow.detach()[..., ::4, ::4], second.grad[..., ::4, ::4]
    torch.testing.assert_close(found, torch.from_numpy(stored["flow"]), atol=1e-4, rtol=1e-4)
    expected = torch.from_numpy(stored["grad_im2"])
    torch.testing.assert_close(gradient, expected, atol=3e-6, rtol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (50, 131)])
def test_any_size(spynet: SPyNet, size: tuple[int, int]) -> None:
    flow = spynet(*torch.rand(2, 2, 1, *size))
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()


def as_mmagic(name: str) -> str:
    level, _, index, part = name.removeprefix("basic_module.").split(".")
    return f"basic_module.{level}.basic_module.{int(index) // 2}.conv.{part}"


@torch.inference_mode()
@pytest.mark.parametrize("form", ["mmagic", "part of BasicVSR", "part of MMagic's BasicVSR"])
def test_weights_are_found_in_other_files(
    form: str, weights: dict[str, torch.Tensor], spynet: SPyNet, tmp_path: Path
) -> None:
    other: dict[str, Any] = {"backbone.conv.weight": torch.ones(3)}
    content: dict[str, Any]
    if form == "mmagic":
        content = {as_mmagic(k): v for k, v in weights.items()}
    elif form == "part of BasicVSR":
        content = {"params": other | {f"spynet.{k}": v for k, v in weights.items()}}
    else:
        named = {f"generator.spynet.{as_mmagic(k)}": v for k, v in weights.items()}
        content = {"meta": {}, "state_dict": other | named}
    torch.save(content, tmp_path / "a.pth")
    pair = torch.rand(2, 1, 3, 32, 48)
    torch.testing.assert_close(load_flow(f"spynet={tmp_path / 'a.pth'}")(*pair), spynet(*pair))


@pytest.mark.parametrize("content", [{"weight": torch.ones(3)}, {"params": 3}, {1: torch.ones(3)}])
def test_other_files_are_refused_with_one_line(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(FlowmagError, match="does not hold SPyNet's six levels") as error:
        load_flow(f"spynet={tmp_path / 'a.pth'}")
    assert "\n" not in str(error.value)


def test_without_a_file_it_says_what_is_missing() -> None:
    with pytest.raises(FlowmagError, match="missing a required argument: 'path'"):
        load_flow("spynet")
