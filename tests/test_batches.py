from __future__ import annotations

import types

import numpy as np
import pytest
import torch

from napari_flowmag import batches
from napari_flowmag.batches import default_batch, fitting_batch
from napari_flowmag.frames import Frames

GB = 2**30
LIGHT, HEAVY = (types.SimpleNamespace(light=light) for light in (True, False))


def clip(*shape, axes="TYXS", dtype="u1"):
    """Frames that take no memory."""
    return Frames(np.broadcast_to(np.zeros((), dtype), (100, *shape)), axes)


COLOUR = clip(512, 512, 3)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_on_a_cpu_heavy_models_and_large_pictures_come_one_at_a_time():
    cpu = torch.device("cpu")
    assert default_batch(LIGHT, cpu, COLOUR) == 6
    assert default_batch(LIGHT, cpu, clip(100, 100, 3)) == 12
    assert default_batch(LIGHT, cpu, clip(1000, 1000, 3)) == 3
    assert default_batch(LIGHT, cpu, clip(4000, 4000, 3)) == 1
    assert default_batch(HEAVY, cpu, clip(64, 64, 3)) == 1


def test_one_thread_takes_one_frame_at_a_time(three_threads):
    torch.set_num_threads(1)
    assert default_batch(LIGHT, torch.device("cpu"), clip(64, 64, 3)) == 1


@pytest.mark.parametrize("free", [75 * GB, 40 * GB, 12 * GB])
def test_cards_with_room_take_as_many_as_keep_them_busy(free):
    assert fitting_batch(True, COLOUR, free) == 32
    assert fitting_batch(True, clip(1080, 1920, 3), free) == 4
    assert fitting_batch(True, clip(4000, 4000, 3), free) == 1
    assert fitting_batch(False, COLOUR, free) == 4


def test_small_cards_take_fewer():
    found = [fitting_batch(True, COLOUR, round(free * GB)) for free in (8, 4, 1, 0.3, 0.01, 0)]
    assert found == [25, 12, 3, 1, 1, 1]
    assert fitting_batch(False, COLOUR, 4 * GB) == 2
    assert fitting_batch(True, clip(20, 512, 512, axes="TCYX"), 8 * GB) < 20


def test_deep_stacks_of_large_numbers_do_not_fill_the_machines_memory():
    assert fitting_batch(True, clip(50, 512, 512, axes="TZYX", dtype="u2"), 75 * GB) == 20
    assert fitting_batch(True, clip(500, 512, 512, axes="TZYX", dtype="f8"), 75 * GB) == 1


def test_a_card_is_asked_what_it_has_left(monkeypatch):
    card = torch.device("cuda")
    monkeypatch.setattr(batches, "free_memory", lambda device: GB * (device == card))
    assert default_batch(LIGHT, card, COLOUR) == fitting_batch(True, COLOUR, GB)
