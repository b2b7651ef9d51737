from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest

from napari_flowmag import Clip, read_clip, write_clip
from napari_flowmag.io._lazy import PerProcess


def means(clip, answers):
    answers.put([float(frame.mean()) for frame in clip])


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here"
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", ["clip.tif", "clip.ome.zarr", "clip.mp4", "clip"])
def test_a_clip_that_was_read_from_can_be_read_in_forked_processes(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 255, (6, 32, 32), np.uint8)
    clip = read_clip(write_clip(Clip.from_array(values, "TYX"), tmp_path / name))
    expected = [float(frame.mean()) for frame in clip]
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=means, args=(clip, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [answers.get(timeout=300) for _ in workers] == [expected] * 2
    for worker in workers:
        worker.join(timeout=300)
        assert worker.exitcode == 0


def test_a_handle_is_opened_once_and_closed_when_nobody_needs_it():
    events = []
    handle = PerProcess(lambda: events.append("open") or len(events), events.append)
    assert (handle.get(), handle.get()) == (1, 1)
    del handle
    assert events == ["open", 1]


def test_another_process_opens_its_own_and_leaves_the_first_alone(monkeypatch):
    events = []
    handle = PerProcess(lambda: events.append("open"), lambda _: events.append("close"))
    handle.get()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    handle.get()
    assert events == ["open", "open"]
    del handle
    assert events == ["open", "open", "close"]
