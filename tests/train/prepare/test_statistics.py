from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_flowmag.train.prepare.config import SelectionConfig
from napari_flowmag.train.prepare.statistics import (
    PairStatistics,
    measure_pair,
    motion_magnitude,
    rejection,
)

FIT = PairStatistics(p999=20.0, p80=2.0, p001=0.1, mse=10.1)


def test_a_pair_is_measured_by_the_papers_statistics() -> None:
    magnitude = np.linspace(0, 10, 100 * 101, dtype=np.float32).reshape(100, 101)
    second = torch.full((3, 100, 101), 0.1)
    found = measure_pair(torch.zeros(3, 100, 101), second, magnitude)
    assert found.p999 == pytest.approx(9.99, abs=2e-3)
    assert found.p80 == pytest.approx(8.0, abs=2e-3)
    assert found.p001 == pytest.approx(0.001, abs=2e-3)
    assert found.mse == pytest.approx(25.5**2, rel=1e-4)


class Wild(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        motion = torch.full((1, 2, 4, 4), 3.0)
        motion[0, 0, 0, 0], motion[0, 1, 1, 1] = float("nan"), float("inf")
        return motion


def test_motion_that_is_no_number_is_too_much() -> None:
    magnitude = motion_magnitude(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), Wild())
    assert magnitude[0, 0] == magnitude[1, 1] == 1e6
    assert magnitude[2, 2] == pytest.approx(3 * 2**0.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"p999": 20.1}, "p999 20.1 > 20"),
        ({"p80": 2.01}, "p80 2.01 > 2"),
        ({"p001": 0.11}, "p001 0.11 > 0.1"),
        ({"mse": 10.0}, "mse 10 ≤ 10"),
        ({"p80": 3.0, "mse": 1.0}, "p80 3 > 2, mse 1 ≤ 10"),
        ({"p999": 0.0, "p80": 0.0, "p001": 0.0}, None),
    ],
)
def test_the_bounds_are_the_papers(change: dict[str, float], reason: str | None) -> None:
    assert rejection(replace(FIT, **change), SelectionConfig()) == reason
