from __future__ import annotations

import json
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from torch import Tensor

from napari_flowmag.checkpoint import read_checkpoint
from napari_flowmag.cli.train import main
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow import load_flow
from napari_flowmag.flow.matching import RADIUS, SCORES, Matches
from napari_flowmag.train.config import LoopConfig
from napari_flowmag.train.flow import (
    FlowConfig,
    FlowTask,
    apartness,
    bin_name,
    flow_loss,
    match_loss,
)
from napari_flowmag.train.loop import fit


def config(**changes) -> FlowConfig:
    small = {"crop": 32, "batch": 4, "width": 8, "context": 4, "motion": (0.05, 4.0)}
    return FlowConfig(**{**small, "gauss_newton_steps": (1,) * 6, **changes})


@pytest.fixture(scope="module")
def textures(tmp_path_factory) -> Path:
    """Ten pictures, each of one colour."""
    folder = tmp_path_factory.mktemp("textures")
    for i in range(10):
        picture = np.full((40, 40, 3), 20 * i, np.uint8)
        (folder / f"{i}.png").write_bytes(imagecodecs.png_encode(picture))
    return folder


# what it learns from


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    one, again, other = (FlowTask(config(), seed).dataset for seed in (3, 3, 4))
    assert one[5].keys() == {"first", "second", "flow", "occluded"}
    for name, value in one[5].items():
        assert len(value) == 4
        assert torch.equal(value, again[5][name])
    assert not torch.equal(one[5]["first"], one[6]["first"])
    assert not torch.equal(one[5]["first"], other[5]["first"])


def test_every_eighth_texture_is_held_out(textures: Path) -> None:
    task = FlowTask(config(textures=textures))
    colours = [int(t[0, 0, 0]) for t in task.held_out]
    assert colours == [0, 160]
    seen = [int(t[0, 0, 0]) for t in task.dataset.textures]
    assert seen == [20 * i for i in range(10) if i not in (0, 8)]


def test_one_texture_cannot_be_divided(textures: Path, tmp_path: Path) -> None:
    shutil.copy(textures / "0.png", tmp_path)
    with pytest.raises(FlowmagError, match="one texture is too few"):
        FlowTask(config(textures=tmp_path))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crop": 16}, "crop = 16"),
        ({"batch": 0}, "batch = 0"),
        ({"width": 0}, "width = 0"),
        ({"motion": (0.0, 1.0)}, "motion"),
        ({"noise": (0.2, 0.1)}, "noise"),
        ({"gauss_newton_steps": ()}, "give 6 numbers"),
        ({"gauss_newton_steps": (1, 1)}, "give 6 numbers"),
        ({"gauss_newton_steps": (1, 1, -1, 1, 1, 1)}, "give 6 numbers"),
        ({"gauss_newton_steps": (1, 1, 1, 1, 1, 0)}, "the last of them above 0"),
        ({"light": 1.5}, "must be from 0 to 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict, says: str) -> None:
    with pytest.raises(FlowmagError, match=says):
        config(**changes)


# the loss


def loss_of(flow: Tensor, truth: Tensor, hidden: Tensor | None = None) -> float:
    nothing = torch.zeros_like(truth[:, :1], dtype=torch.bool)
    return float(flow_loss(flow, [], truth, nothing if hidden is None else hidden)[0])


def test_the_loss_is_least_for_the_truth() -> None:
    truth = torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    errors = [loss_of(truth + wrong, truth) for wrong in (0, 0.01, 0.1, 1)]
    assert errors == sorted(errors)
    assert errors[0] < 0.3 * errors[2]


def test_errors_count_relative_to_the_motion_and_less_where_hidden() -> None:
    truth = torch.ones(1, 2, 32, 32)
    small, large = loss_of(1.5 * truth, truth), loss_of(15 * truth, 10 * truth)
    assert large == pytest.approx(small, rel=0.15)
    hidden = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    assert loss_of(1.5 * truth, truth, hidden) == pytest.approx(0.3 * small)


@pytest.mark.parametrize("crop", [32, 33, 36, 41])
def test_steps_are_compared_on_their_own_grids(crop: int) -> None:
    """Whatever the crop: the same motion everywhere is right at every level."""
    truth = torch.full((1, 2, crop, crop), 3.0)
    nothing = torch.zeros(1, 1, crop, crop, dtype=torch.bool)
    sizes = {stride: -(-crop // stride) for stride in (8, 4)}
    steps = [torch.full((1, 2, n, n), 3.0 / stride) for stride, n in sizes.items()]
    right, _ = flow_loss(truth, steps, truth, nothing)
    alone, terms = flow_loss(truth, [], truth, nothing)
    assert float(right) == pytest.approx(float(alone) * (1 + (0.8**2 + 0.8) / 2), rel=1e-3)
    assert terms["epe"] == 0


def test_matching_is_best_where_the_truth_is_likely() -> None:
    truth = torch.zeros(1, 2, 64, 64)
    truth[:, 0], truth[:, 1] = 16.0, -4.0  # 2 and -0.5 cells
    visible = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    start = torch.zeros(1, 2, 8, 8)
    start[:, 0] = 1.0  # of which 1 and -0.5 are left

    def of(chances: dict[tuple[int, int], float], hidden: Tensor = visible) -> float:
        likely = torch.full((1, SCORES, 8, 8), 1e-6)
        for (x, y), chance in chances.items():
            likely[:, (y + RADIUS) * (2 * RADIUS + 1) + x + RADIUS] = chance
        return float(match_loss(Matches(start, likely.log()), truth, hidden))

    right = of({(1, 0): 0.5, (1, -1): 0.5})
    assert right == pytest.approx(np.log(2), rel=1e-3)
    assert right < of({(1, 0): 0.9, (1, -1): 0.1}) < of({(2, 0): 1.0})
    assert of({(1, 0): 0.5, (1, -1): 0.5}, ~visible) == 0, "what is hidden cannot be matched"


def test_shares_of_a_batch_have_the_loss_of_the_batch() -> None:
    """However much each pair has in view: or several processes would not train as one does."""
    torch.manual_seed(0)
    task = FlowTask(config(batch=2, motion=(2.0, 20.0)))
    batch = task.dataset[3]
    batch["occluded"][0, :, : batch["occluded"].shape[-1] // 2] = True
    with torch.no_grad():
        whole = task.loss(batch)[0]
        parts = [task.loss({k: v[i : i + 1] for k, v in batch.items()})[0] for i in range(2)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("crop", [160, 141])  # the coarsest pictures have 5x5 px
def test_every_weight_learns(crop: int) -> None:
    task = FlowTask(config(crop=crop))
    for parameter in task.module.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    loss, terms = task.loss(task.dataset[0])
    loss.backward()
    assert [n for n, p in task.module.named_parameters() if not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in task.module.parameters())
    assert terms.keys() == {"epe", "relative", "apart", "match", "final"}


def test_training_lowers_the_loss() -> None:
    task = FlowTask(config(motion=(0.5, 2.0), noise=(0.05, 0.1)))
    batches = [task.dataset[i] for i in range(3)]

    def total() -> float:
        with torch.no_grad():
            return sum(float(task.loss(batch)[0]) for batch in batches)

    before = total()
    optimiser = torch.optim.AdamW(task.module.parameters(), lr=3e-3)
    for i in range(15):
        optimiser.zero_grad()
        task.loss(batches[i % 3])[0].backward()
        optimiser.step()
    assert total() < 0.95 * before


# validation


@pytest.mark.parametrize(
    ("size", "name"),
    [(0, "0-0.1 px"), (0.1, "0.1-0.5 px"), (1.9, "0.5-2 px"), (2, "2-8 px"), (50, "8-99 px")],
)
def test_bins_of_motion(size: float, name: str) -> None:
    assert bin_name(size) == name


def test_validation_tells_the_error_by_the_size_of_the_motion() -> None:
    task = FlowTask(config(motion=(0.02, 10.0)))
    found = task.validate()
    assert {"epe 0-0.1 px", "epe 0.1-0.5 px", "epe 0.5-2 px", "epe 2-8 px"} <= found.keys()
    assert found == task.validate(), "always on the same pairs"

    class Still(torch.nn.Linear):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return 0 * first[:, :2]

    task.module = Still(1, 1)
    still = task.validate()
    # Where nothing is found, the error is the motion itself.
    assert 0 < still["epe 0-0.1 px"] < 0.1
    assert 0.1 < still["epe 0.1-0.5 px"] < 0.5
    assert 2 < still["epe 2-8 px"] < 8
    assert found["epe 2-8 px"] < still["epe 2-8 px"]


# from start to end


def test_two_steps_on_the_command_line_make_a_flow(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--crop 32 --batch 1 --width 4 --context 4 --gauss-newton-steps [0,1,0,0,0,1] --steps 2"
    flags += f" --log-every 1 --workers 0 --threads 1 --device cpu --textures {textures}"
    out = tmp_path / "run"
    assert main(["flow", "-o", str(out), *flags.split()]) == 0
    assert capsys.readouterr().out.strip() == str(out / "model.safetensors")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {"epe", "relative", "apart", "match", "final"} <= lines[0].keys()
    assert any(key.startswith("val_epe") for key in lines[-1])
    flow = load_flow(out / "model.safetensors")
    first, second = torch.rand(2, 1, 3, 40, 48)
    assert flow(first, second).shape == (1, 2, 40, 48)
    saved = read_checkpoint(out / "model.safetensors", "flow")
    assert saved.architecture == "gauss_newton"
    assert saved.training["settings"]["textures"] == textures.name
    assert saved.training["settings"]["crop"] == 32
    for folder in (textures.parent, tmp_path):
        assert str(folder) not in json.dumps(saved.training), "paths of this machine stay here"


def test_training_goes_on_from_another_flow(tmp_path: Path) -> None:
    loop = LoopConfig(tmp_path / "a", steps=1, warmup=0, ema=0.0, workers=0, device="cpu")
    weights = fit(FlowTask(config(batch=1)), loop)
    task = FlowTask(config(init=weights), seed=9)
    torch.testing.assert_close(
        dict(task.module.state_dict()), read_checkpoint(weights).state, rtol=0, atol=0
    )
    assert task.checkpoint()["training"]["settings"]["init"] == "model.safetensors"
    with pytest.raises(FlowmagError, match="does not fit the settings of the flow"):
        FlowTask(config(init=weights, width=12))


def test_a_thin_line_that_moves_alone_counts() -> None:
    truth = torch.zeros(2, 2, 96, 96)
    truth[0, 0, :, 47:49] = 0.5  # 2 px wide
    truth[1, 0, :, 48:] = 0.5  # half of the picture
    scale = torch.full((2, 1, 1, 1), 0.15)
    apart, weight = apartness(truth, scale)
    inside = slice(34, -34)
    assert apart[0, 0, inside, 47:49].min() > 0.45
    assert apart[0, 0, inside, :20].max() == 0
    line, ground = weight[0, 0, inside, 47:49].sum(), weight[0, 0, inside].sum()
    assert line > 0.7 * ground, "the background about it would outweigh it"
    one, other = weight[1, 0, inside, 44:48].mean(), weight[1, 0, inside, 48:52].mean()
    torch.testing.assert_close(one, other, rtol=0.1, atol=0)


def test_taking_a_thin_line_for_still_costs_more_than_moving_its_cell() -> None:
    truth = torch.zeros(1, 2, 96, 96)
    truth[0, 0, :, 47:49] = 0.5
    moved = torch.zeros_like(truth)
    moved[0, 0, :, 44:52] = 0.5  # two cells of a grid of 4 px
    nothing = torch.zeros(1, 1, 96, 96)
    as_still, terms = flow_loss(torch.zeros_like(truth), [], truth, nothing)
    as_moved, fewer = flow_loss(moved, [], truth, nothing)
    assert float(as_moved) < 0.5 * float(as_still)
    assert terms["apart"] > 0.7
    assert fewer["apart"] < 0.2
