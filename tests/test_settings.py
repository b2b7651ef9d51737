from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from napari_flowmag.errors import FlowmagError
from napari_flowmag.settings import MagnifySettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": -1},
        {"alpha": float("nan")},
        {"alpha": float("inf")},
        {"soft": -1},
        {"feather": float("nan")},
        {"reference": "last"},
        {"start": -1},
        {"start": 5, "stop": 5},
        {"stop": 0},
        {"value_range": (1, 1)},
        {"value_range": (1,)},
        {"value_range": (0, float("inf"))},
        {"precision": "float8"},
        {"tile": 64},
        {"tile": -1},
        {"batch": 0},
        {"motion_channels": ()},
        {"motion_channels": (1, 1)},
        {"channels": ()},
        {"channels": (0, 2, 0)},
        {"z": -1},
        {"outside": -1},
        {"label_alphas": {1: -2}},
        {"label_alphas": [(1, 2), (1, 3)]},
    ],
)
def test_senseless_values_are_refused_in_one_line(wrong):
    with pytest.raises(FlowmagError) as error:
        MagnifySettings(**{"alpha": 2, **wrong})
    assert "\n" not in str(error.value)


def test_command_names_only_what_was_changed():
    settings = MagnifySettings(alpha=8, reference=-1, mask="my mask.png", value_range=(0.5, 2))
    assert shlex.split(settings.to_command("in put.tif", "out.tif")) == [
        *["flowmag", "magnify", "in put.tif", "-o", "out.tif", "--alpha", "8"],
        *["--mask", "my mask.png", "--reference", "-1", "--value-range", "0.5,2"],
    ]


@pytest.mark.parametrize("alpha", [0.1, 1 / 3, 1e6, 12345.678901234567])
def test_command_keeps_every_digit(alpha):
    words = shlex.split(MagnifySettings(alpha=alpha).to_command("a", "b"))
    assert float(words[words.index("--alpha") + 1]) == alpha


def test_numbers_of_numpy_lists_and_paths_become_plain():
    given = MagnifySettings(
        np.float32(2), reference=np.int64(3), motion_channels=[np.uint8(1)], model=Path("m.pth")
    )
    plain = MagnifySettings(2.0, reference=3, motion_channels=(1,), model="m.pth")
    assert given == plain
    assert json.dumps(given.to_dict()) == json.dumps(plain.to_dict())
