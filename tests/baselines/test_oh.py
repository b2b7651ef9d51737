from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_flowmag import FlowmagError, load_magnifier, magnify
from napari_flowmag.baselines.oh import _PUBLISHED, OhMagnifier
from napari_flowmag.checkpoint import read_checkpoint, save_checkpoint
from napari_flowmag.cli.train import main
from napari_flowmag.models.base import MaskedAlpha
from napari_flowmag.train.oh import OhConfig, OhTask, oh_loss


@pytest.fixture(scope="module")
def network() -> OhMagnifier:
    torch.manual_seed(0)
    return OhMagnifier().eval()


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def a(*alpha: float) -> Tensor:
    return torch.tensor(alpha)


# the network


def test_it_has_as_many_weights_as_was_published(network: OhMagnifier) -> None:
    """0.92 million in the paper's own comparison."""
    count = sum(p.numel() for p in network.parameters())
    assert 0.9e6 < count < 1.0e6
    assert f"{count:,}" in OhMagnifier.__doc__


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (16, 62)])
@torch.inference_mode()
def test_any_size_goes_through(network: OhMagnifier, size: tuple[int, int]) -> None:
    reference, frame = noise(2, 3, *size), noise(2, 3, *size).flip(0)
    found = network(reference, frame, a(3.0, 8.0))
    assert found.shape == frame.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert torch.equal(network(reference, frame, torch.ones(2)), frame)


@torch.inference_mode()
def test_the_factor_enlarges_the_difference_of_shapes(network: OhMagnifier) -> None:
    reference, frame = noise(1, 3, 32, 32), noise(1, 3, 32, 32).flip(-1)
    (other,) = network.prepare(reference)
    texture, shape = network.encode(frame)
    painted = network.predict((other,), frame, a(5.0))
    by_hand = network.decode(texture, shape, other, a(5.0).view(1, 1, 1, 1))
    torch.testing.assert_close(painted, by_hand)
    assert not torch.allclose(painted, network.predict((other,), frame, a(9.0)), atol=1e-4)


@torch.inference_mode()
def test_a_map_keeps_the_frame_outside(network: OhMagnifier) -> None:
    reference, frame = noise(1, 3, 40, 50), noise(1, 3, 40, 50).flip(-1)
    mask = torch.zeros(1, 1, 40, 50)
    mask[..., :20] = 1
    found = network(reference, frame, MaskedAlpha(a(7.0), mask))
    assert torch.equal(found[..., 20:], frame[..., 20:])
    assert not torch.equal(found[..., :20], frame[..., :20])
    torch.testing.assert_close(found, network(reference, frame, 1 + 6 * mask))


def test_tiles_give_what_the_whole_gives(network: OhMagnifier) -> None:
    frames = np.random.default_rng(0).random((2, 64, 340, 3)).astype(np.float32)
    whole, tiled = (
        magnify(frames, 4, model=network, device="cpu", tile=tile)[1] for tile in (0, 320)
    )
    assert np.abs(whole - frames[1]).max() > 0.01
    assert np.abs(whole - tiled).mean() < 0.02 * np.abs(whole - frames[1]).mean()


def test_it_takes_colour_alone_and_magnifies_alone(network: OhMagnifier) -> None:
    with pytest.raises(FlowmagError, match="takes RGB pictures, not 2 channels"):
        network.prepare(noise(1, 2, 32, 32))
    grey = np.random.default_rng(0).integers(0, 60_000, (2, 32, 32), np.uint16)
    assert magnify(grey, 3, model=network, device="cpu").dtype == np.uint16
    with pytest.raises(FlowmagError, match=r"alpha 0\.5: this model cannot go below 1"):
        magnify(grey, 0.5, model=network, device="cpu")


# weights


def test_own_weights_are_read_by_name_of_the_file(network: OhMagnifier, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    config: dict[str, Any] = {"kind": "magnifier", "architecture": "oh", "training": {}}
    save_checkpoint(path, network, config=network.config, **config)
    again = load_magnifier(path, "cpu")
    assert isinstance(again, OhMagnifier)
    frame = noise(1, 3, 32, 32)
    expected = network(frame, 1 - frame, a(3.0))
    torch.testing.assert_close(again(frame, 1 - frame, a(3.0)), expected)


def published(module: OhMagnifier, prefix: str = "") -> dict[str, Tensor]:
    """Weights under the names that the published file has."""
    names = {ours: theirs for theirs, ours in _PUBLISHED.items()}
    out = {}
    for key, value in module.state_dict().items():
        ours = ".".join(key.split(".")[:2])
        out[prefix + names[ours] + key.removeprefix(ours)] = value
    return out


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_weights_are_read(prefix: str, tmp_path: Path) -> None:
    module = OhMagnifier(extra=True)
    state = published(module, prefix)
    assert f"{prefix}encoder.texture_resblk.1.conv2.bias" in state
    assert f"{prefix}decoder.res_decoder.conv_up_sample.weight" in state
    path = tmp_path / "epoch.tar"
    torch.save({"epoch": 3, "model_state_dict": state, "val_loss": 0.1}, path)
    again = load_magnifier(path, "cpu")
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"epoch": 3}, "holds no 'model_state_dict'"),
        ({"model_state_dict": {"encoder.conv": torch.ones(1)}}, "does not fit the network"),
        ({"model_state_dict": {}, "run": Path}, "not opened for safety"),
    ],
)
def test_other_files_are_refused_in_one_line(
    content: dict[str, Any], says: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "a.tar")
    with pytest.raises(FlowmagError, match=says) as error:
        load_magnifier(tmp_path / "a.tar", "cpu")
    assert "\n" not in str(error.value)


# training


def config(**changes: Any) -> OhConfig:
    return OhConfig(**{"crop": 32, "batch": 2, "alpha": (2.0, 8.0), "reach": 3.0, **changes})


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    one, again, other = (OhTask(config(), seed).dataset for seed in (3, 3, 4))
    assert one[5].keys() == {"first", "second", "magnified", "alpha", "draws"}
    for name, value in one[5].items():
        assert len(value) == 2
        assert torch.equal(value, again[5][name])
    assert not torch.equal(one[5]["first"], one[6]["first"])
    assert not torch.equal(one[5]["first"], other[5]["first"])
    part = one.part(1, 2)
    assert torch.equal(part[5]["first"], one[5]["first"][1:])


def test_every_weight_learns() -> None:
    task = OhTask(config())
    loss, terms = task.loss(task.dataset[0])
    loss.backward()
    assert [n for n, p in task.module.named_parameters() if not p.grad.any()] == []
    assert terms.keys() == {"error", "apart"}


def test_the_shares_of_a_batch_have_the_loss_of_the_batch() -> None:
    task = OhTask(config())
    batch = task.dataset[0]
    count = len(batch["first"]) // 2
    with torch.no_grad():
        whole = task.loss(batch)[0]
        parts = [
            task.loss({k: v[rows] for k, v in batch.items()})[0]
            for rows in (slice(count), slice(count, None))
        ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole, rtol=1e-5, atol=1e-6)


def test_the_loss_asks_for_the_magnified_frame_and_a_texture_that_does_not_move() -> None:
    task = OhTask(config())
    batch = task.dataset[0]

    def terms(**changes: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return oh_loss(task.module, {**batch, **changes}, 0.1)[1]

    still = terms(second=batch["first"], magnified=batch["first"])
    assert still["apart"] < terms()["apart"]
    other = terms(magnified=1 - batch["magnified"])
    assert not torch.equal(other["error"], terms()["error"])


def test_training_lowers_the_loss() -> None:
    task = OhTask(config())
    batch = task.dataset[0]
    optimiser = torch.optim.AdamW(task.module.parameters(), lr=1e-3)
    losses = []
    for _ in range(14):
        torch.manual_seed(0)
        loss, _terms = task.loss(batch)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.95 * losses[0]


def test_the_command_makes_a_model_that_magnify_takes(tmp_path: Path) -> None:
    flags = "--crop 32 --batch 1 --alpha [1,4] --steps 2 --workers 0 --threads 1 --device cpu"
    assert main(["oh", "-o", str(tmp_path), *flags.split()]) == 0
    checkpoint = read_checkpoint(tmp_path / "model.safetensors", "magnifier")
    assert checkpoint.architecture == "oh"
    assert checkpoint.training["settings"]["alpha"] == [1.0, 4.0]
    frames = np.random.default_rng(0).integers(0, 255, (2, 32, 36, 3), np.uint8)
    found = magnify(frames, 3, model=tmp_path / "model.safetensors", device="cpu")
    assert np.array_equal(found[0], frames[0])
    assert not np.array_equal(found[1], frames[1])
    more = ["--resume", "--steps", "3"]
    assert main(["oh", "-o", str(tmp_path), *more]) == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"crop": 30}, "crop = 30"),
        ({"crop": 28}, "crop = 28"),
        ({"batch": 0}, "batch = 0"),
        ({"alpha": (0.5, 4.0)}, "only magnifies"),
        ({"alpha": (4.0, 2.0)}, "alpha"),
        ({"motion": (0.0, 1.0)}, "motion"),
        ({"reach": 0.0}, "reach"),
        ({"regularisation": -1.0}, "regularisation"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(FlowmagError, match=says):
        config(**changes)
