"""What is drawn with the default settings is what the paper draws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor

from napari_flowmag.train import augment as module
from napari_flowmag.train.augment import augment
from napari_flowmag.train.config import AugmentConfig, LoopConfig, MagnifierConfig
from napari_flowmag.train.data import PairBatches, PairFolder
from napari_flowmag.train.distributed import start_fabric
from napari_flowmag.train.magnifier import draw_alpha
from napari_flowmag.train.run import start_run

SIZE = (150, 160)
CROP = 64


def places() -> Tensor:
    """A pair whose frames tell row and column of each pixel, as shares from 0 to 1."""
    rows = torch.linspace(0, 1, SIZE[0])[:, None].expand(SIZE)
    columns = torch.linspace(0, 1, SIZE[1]).expand(SIZE)
    return torch.stack([rows, columns, rows]).expand(2, -1, -1, -1).contiguous()


def steps(picture: Tensor) -> np.ndarray:
    """Return (2, 2): px of the source, rows and columns, that a step down and right leads."""
    middle = picture[:2, 24:40, 24:40].double()
    found = [[float(part.diff(dim=d).mean()) for d in (0, 1)] for part in middle]
    return np.array(found) * (np.array(SIZE)[:, None] - 1)


def test_windows_flips_and_turns() -> None:
    config = AugmentConfig(crop=CROP, jitter=(0.0, 0.0, 0.0, 0.0))
    shares, flips, angles = [], [], []
    for seed in range(500):
        first, second = augment(places(), config, np.random.default_rng(seed))
        assert torch.equal(first, second)
        matrix = steps(first)
        shares.append(abs(np.linalg.det(matrix)) * CROP**2 / math.prod(SIZE))
        signs = np.sign(np.diag(matrix))
        flips.append(signs < 0)
        # Undo the stretch of the window, then flips turn the other way round.
        matrix = matrix / np.linalg.norm(matrix, axis=0) * signs
        angles.append(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])))
    assert 0.68 < min(shares) < 0.72
    assert 0.98 < max(shares) < 1.02
    assert np.mean(shares) == pytest.approx(0.85, abs=0.02)
    assert np.mean(flips, 0) == pytest.approx([0.5, 0.5], abs=0.07)
    assert abs(np.corrcoef(np.array(flips, float).T)[0, 1]) < 0.13
    assert 14 < max(angles) < 15.5
    assert -15.5 < min(angles) < -14
    assert np.std(angles) == pytest.approx(15 / math.sqrt(3), abs=0.5)


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[float]] = {
        name: [] for name in ("brightness", "contrast", "saturation", "hue")
    }
    for name, amounts in drawn.items():

        def spy(picture: Tensor, amount: float, amounts: list[float] = amounts) -> Tensor:
            assert picture.shape == (3, 2 * 32, 32)  # both frames at once
            amounts.append(amount)
            return picture

        monkeypatch.setattr(module.TF, f"adjust_{name}", spy)
    for seed in range(400):
        augment(torch.zeros(2, 3, 40, 40), AugmentConfig(crop=32), np.random.default_rng(seed))
    for name, amounts in drawn.items():
        middle, most = (0.0, 0.3) if name == "hue" else (1.0, 0.5)
        assert middle - most <= min(amounts) < middle - 0.97 * most
        assert middle + most >= max(amounts) > middle + 0.97 * most


def test_magnifications_are_2_to_the_power_of_0_to_4(tmp_path: Path) -> None:
    for side in ("frameA", "frameB"):
        (tmp_path / side).mkdir()
        tifffile.imwrite(tmp_path / side / "0.tif", np.zeros((32, 32, 3), np.uint8))
    batches = PairBatches(PairFolder(tmp_path, ("0.tif",)), 40, AugmentConfig(crop=32), seed=0)
    draws = torch.cat([batches[i]["draw"] for i in range(10)])
    alpha = draw_alpha(draws, torch.zeros(len(draws), 2, 8, 8), MagnifierConfig())
    power = alpha.log2().numpy()
    assert 0 <= power.min() < 0.1
    assert 3.9 < power.max() <= 4
    assert np.histogram(power, 4, (0, 4))[0] == pytest.approx(np.full(4, 100), rel=0.25)


def test_adam_with_a_largest_rate_of_3e_4(tmp_path: Path) -> None:
    class Task:
        module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
        loss = None

    config = LoopConfig(tmp_path, device="cpu")
    run = start_run(Task(), config, start_fabric(config))  # type: ignore[arg-type]
    for group in run.optimiser.param_groups:
        # Without decay of the weights, AdamW is Adam.
        assert (group["lr"], group["betas"], group["eps"]) == (3e-4, (0.9, 0.999), 1e-8)
        assert group["weight_decay"] == 0
    trained = {id(p) for group in run.optimiser.param_groups for p in group["params"]}
    assert trained == {id(p) for p in Task.module.parameters()}
