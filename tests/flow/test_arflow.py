from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_flowmag import FlowmagError, load_flow
from napari_flowmag.checkpoint import save_checkpoint
from napari_flowmag.flow.arflow import ARFlow, correlate


@pytest.fixture(scope="module")
def authors_file(tmp_path_factory, data: Path, formula_weights) -> Path:
    """A checkpoint in ARFlow's format, its names spelled out in a stored list."""
    shapes = json.loads((data / "authors_arflow_shapes.json").read_text())
    state = {name: torch.from_numpy(formula_weights(name, s)) for name, s in shapes.items()}
    path = tmp_path_factory.mktemp("arflow") / "pwclite_ar.tar"
    torch.save({"epoch": 1, "state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def arflow(authors_file: Path) -> ARFlow:
    return load_flow(authors_file)


def test_flow_and_gradient_are_the_authors(data: Path, arflow: ARFlow, waves) -> None:
    stored = np.load(data / "authors_arflow.npz")
    first = torch.from_numpy(waves(128, 192, (0, 0, 0), 0))
    second = torch.from_numpy(waves(128, 192, (1.3, 2.6, 3.9), -1.3)).requires_grad_()
    flow = arflow(first, second)
    flow.abs().mean().backward()
    found, gradient = flow.detach()[..., ::4, ::4], second.grad[..., ::4, ::4]
    torch.testing.assert_close(found, torch.from_numpy(stored["flow"]), atol=1e-4, rtol=0)
    expected = torch.from_numpy(stored["grad_im2"])
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=0)


def test_published_files_give_the_authors_flow(shared_fixtures: Path) -> None:
    stored = np.load(shared_fixtures / "authors_arflow_io.npz")
    first, second, flow, gradient = (
        torch.from_numpy(stored[k]) for k in ("im1", "im2", "flow", "grad_im2")
    )
    second.requires_grad_()
    found = load_flow(shared_fixtures / "authors_arflow_random.tar")(first, second)
    found.abs().mean().backward()
    torch.testing.assert_close(found.detach(), flow, atol=1e-5, rtol=0)
    torch.testing.assert_close(second.grad, gradient, atol=1e-8, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (64, 64), (50, 131)])
def test_any_size(arflow: ARFlow, size: tuple[int, int]) -> None:
    flow = arflow(*torch.rand(2, 2, 1, *size))
    assert flow.shape == (2, 2, *size)
    assert flow.isfinite().all()


@torch.inference_mode()
def test_other_sizes_are_resized_and_the_flow_scaled(arflow: ARFlow, waves) -> None:
    first, second = (
        torch.from_numpy(waves(100, 192, dx, dy))
        for dx, dy in (((0, 0, 0), 0), ((1.3, 2.6, 3.9), -1.3))
    )

    def resize(x: torch.Tensor, height: int) -> torch.Tensor:
        return F.interpolate(x, (height, 192), mode="bilinear")

    by_hand = resize(arflow(resize(first, 128), resize(second, 128)), 100)
    by_hand[:, 1] *= 100 / 128
    torch.testing.assert_close(arflow(first, second), by_hand)


def test_correlation_finds_a_shift() -> None:
    torch.manual_seed(0)
    first = torch.randn(1, 128, 12, 14)
    second = torch.zeros_like(first)
    second[..., 2:, :-3] = first[..., :-2, 3:]  # moved by dx = -3, dy = 2
    scores = correlate(first, second)
    assert scores.shape == (1, 81, 12, 14)
    best = scores[0, :, 5, 7].argmax().item()
    assert (best % 9 - 4, best // 9 - 4) == (-3, 2)
    expected = (first[0, :, 5, 7] * second[0, :, 7, 4]).mean()
    torch.testing.assert_close(scores[0, best, 5, 7], expected)
    # Nothing lies outside the picture.
    assert scores[0, 0, 0, 0] == 0


def test_own_format_gives_the_same_flow(tmp_path: Path, arflow: ARFlow, waves) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(
        path, arflow, kind="flow", architecture="arflow", config=arflow.config, training={}
    )
    first, second = (torch.from_numpy(waves(64, 64, (d, d, d), d)) for d in (0.0, 1.0))
    assert torch.equal(load_flow(path)(first, second), arflow(first, second))


def test_foreign_weights_are_refused(tmp_path: Path, authors_file: Path) -> None:
    content = torch.load(authors_file, weights_only=True)
    name = "flow_estimators.conv1.0.weight"
    bad = {
        "multi-frame": {"state_dict": content["state_dict"] | {name: torch.zeros(128, 198, 3, 3)}},
        "incomplete": {"state_dict": {name: content["state_dict"][name]}},
        "elsewhere": {"model": {}},
    }
    for kind, wrong in bad.items():
        torch.save(wrong, tmp_path / f"{kind}.tar")
        with pytest.raises(FlowmagError, match="ARFlow"):
            load_flow(tmp_path / f"{kind}.tar")
