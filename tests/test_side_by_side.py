"""Frames that are magnified side by side, each on a thread of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from napari_flowmag import engine
from napari_flowmag.errors import Cancelled
from napari_flowmag.magnify import magnify, magnify_frames
from napari_flowmag.models import load_magnifier
from napari_flowmag.models.base import Magnifier
from napari_flowmag.side_by_side import _share_of, process_threads, side_by_side

ALPHA = 6


@pytest.fixture(autouse=True)
def cores() -> Iterator[None]:
    """Three of them, whatever this machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def default() -> Magnifier:
    return load_magnifier("default")


@pytest.fixture
def clip() -> NDArray[np.uint8]:
    """Five frames, no two alike."""
    rng = np.random.default_rng(0)
    still = rng.integers(60, 190, (64, 80, 3))
    smooth = sum(np.roll(still, (y, x), (0, 1)) for y in range(4) for x in range(4)) / 16
    moved = [smooth + 0.1 * t * (np.roll(smooth, 1, 1) - smooth) for t in range(5)]
    return np.stack(moved).round().astype(np.uint8)


def helpers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("flowmag")]


@pytest.mark.parametrize("reference", [0, "previous"])
def test_the_same_as_one_after_the_other(clip, default, reference):
    beside = magnify(clip, ALPHA, model=default, reference=reference)
    after = magnify(clip, ALPHA, model=default, reference=reference, batch=1)
    assert abs(beside.astype(int) - after).max() <= 1
    assert (beside != after).mean() < 1e-3
    assert (beside != clip).mean() > 0.5


def test_as_many_at_once_as_there_are_cores(clip, default, monkeypatch):
    together = threading.Barrier(3, timeout=30)
    inside, wait = engine.Engine._batch, iter([True] * 3)

    def meet(self, *args):
        if next(wait, False):
            together.wait()  # passes only where three are here at the same time
            assert torch.get_num_threads() == 1
        return inside(self, *args)

    monkeypatch.setattr(engine.Engine, "_batch", meet)
    magnify(clip[[1, 2, 3, 4]], ALPHA, model=default, reference="mean")
    assert not together.broken


def test_what_the_reference_gives_is_computed_once(clip, default, monkeypatch):
    prepared = []
    prepare = default.prepare
    monkeypatch.setattr(
        default, "prepare", lambda picture: (prepared.append(1), prepare(picture))[1]
    )
    magnify(clip, ALPHA, model=default)
    assert len(prepared) == 1


def test_threads_end_and_torch_has_its_own_again(clip, default):
    frames = magnify_frames(clip, ALPHA, model=default)
    next(frames), next(frames)
    assert not helpers()
    assert torch.get_num_threads() == 3
    frames.close()


def aside(work):
    """Do something on a thread that computes for the first time."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_what_else_computes_meanwhile_has_all_threads(clip, default, monkeypatch):
    seen, inside = [], engine.Engine._batch

    def look(self, *args):
        seen.append((torch.get_num_threads(), aside(torch.get_num_threads)))
        return inside(self, *args)

    monkeypatch.setattr(engine.Engine, "_batch", look)
    magnify(clip[[1, 2, 3]], ALPHA, model=default, reference="mean")
    assert set(seen) == {(1, 3)}


def test_two_magnifications_that_overlap_leave_torch_its_threads(clip, default, monkeypatch):
    torch.set_num_threads(4)
    first_in, second_in, first_done = (threading.Event() for _ in range(3))
    inside, used = engine.Engine._batch, {}

    def overlap(self, *args):
        first = self._size == (64, 80)
        (first_in if first else second_in).set()
        assert (second_in if first else first_done).wait(30)
        used[first] = torch.get_num_threads()
        return inside(self, *args)

    def first():
        magnify(clip[[1, 2]], ALPHA, model=default, reference="mean")
        first_done.set()

    monkeypatch.setattr(engine.Engine, "_batch", overlap)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(first)
        assert first_in.wait(30)
        magnify(clip[[1, 2], :48], ALPHA, model=default, reference="mean")
        job.result()
    assert used == {True: 2, False: 2}
    assert torch.get_num_threads() == aside(torch.get_num_threads) == 4


def test_who_found_a_share_finds_the_process_s_number_again():
    torch.set_num_threads(4)
    began, go_on = threading.Event(), threading.Event()

    def other():
        found = torch.get_num_threads()
        began.set()
        assert go_on.wait(30)
        return found, process_threads(), side_by_side(lambda _: torch.get_num_threads(), [0, 1], 2)

    with ThreadPoolExecutor(1) as pool:
        with _share_of(4):
            job = pool.submit(other)
            assert began.wait(30)
        go_on.set()
        assert job.result() == (1, 4, [2, 2])
    assert torch.get_num_threads() == aside(torch.get_num_threads) == 4


def test_threads_that_cannot_start_hold_up_nobody(monkeypatch):
    start, begun = threading.Thread.start, iter([True])

    def full(self):
        if not next(begun, False):
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(RuntimeError, match="start new thread"):
        side_by_side(abs, [1, 2], 2)
    assert not helpers()
    assert torch.get_num_threads() == 3


def test_cancelling_stops_all(clip, default, monkeypatch):
    cancel = threading.Event()
    predict = default.predict

    def cancelled(*args):
        cancel.set()
        return predict(*args)

    monkeypatch.setattr(default, "predict", cancelled)
    with pytest.raises(Cancelled):
        magnify(clip, ALPHA, model=default, cancel=cancel)
    assert not helpers()
    assert torch.get_num_threads() == 3


def test_full_memory_is_met_with_fewer_at_once(clip, default, monkeypatch):
    plain = magnify(clip, ALPHA, model=default, batch=1)
    predict, lines = default.predict, []
    crowded = threading.Semaphore(1)

    def full(*args):
        if not crowded.acquire(blocking=False):
            raise MemoryError
        try:
            return predict(*args)
        finally:
            crowded.release()

    monkeypatch.setattr(default, "predict", full)
    found = magnify(clip, ALPHA, model=default, notify=lines.append)
    assert all("memory is full" in line for line in lines)
    assert abs(found.astype(int) - plain).max() <= 1


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, "None"),
    ],
)
def test_cores_do_not_wait_for_each_other_in_vain(settings, found):
    code = "import os, napari_flowmag; print(os.environ.get('GOMP_SPINCOUNT'))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=settings)
    assert done.stdout.strip() == found
