from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from torch import nn, zeros

from napari_flowmag.errors import Cancelled
from napari_flowmag.interruptible import interruptible
from napari_flowmag.magnify import magnify


def stop():
    raise Cancelled


def test_only_the_thread_that_is_to_stop_stops():
    network = nn.Sequential(nn.Identity())
    with interruptible(stop):
        with pytest.raises(Cancelled):
            network(zeros(1))
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(network, zeros(1)).result() == 0
            copied = copy.deepcopy(network)
    assert network(zeros(1)) == copied(zeros(1)) == 0


def test_work_within_work_has_its_own_check():
    calls = []
    with interruptible(lambda: calls.append("outer")):
        with interruptible(lambda: calls.append("inner")):
            nn.Identity()(zeros(1))
        nn.Identity()(zeros(1))
    nn.Identity()(zeros(1))
    assert calls == ["inner", "outer"]


def test_cancelling_a_magnification_leaves_others_with_the_same_model_alone(paint_magnifier):
    begun, finish, cancel = threading.Event(), threading.Event(), threading.Event()
    predict, main = paint_magnifier.predict, threading.current_thread()
    paint_magnifier.layer = nn.Identity()

    def slow(prepared, frame, alpha):
        if threading.current_thread() is not main:
            begun.set()
            assert finish.wait(30)
        return predict(prepared, paint_magnifier.layer(frame), alpha)

    paint_magnifier.predict = slow
    clip = np.random.default_rng(0).random((3, 40, 40))
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(magnify, clip, 2, model=paint_magnifier, cancel=cancel)
        assert begun.wait(30)
        cancel.set()
        assert magnify(clip, 2, model=paint_magnifier).shape == clip.shape
        finish.set()
        with pytest.raises(Cancelled):
            job.result()
