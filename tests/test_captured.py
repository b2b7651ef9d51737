"""What a card replays is what it would have computed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from napari_flowmag import load_magnifier
from napari_flowmag.captured import Captures, _once, _place
from napari_flowmag.errors import Cancelled
from napari_flowmag.magnification import Magnification
from napari_flowmag.recorded import Recorded
from napari_flowmag.settings import MagnifySettings
from napari_flowmag.synthetic.clips import disk_on_still_ground

needs_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.rand(1, 3, 4, 5).expand(6, 3, 4, 5),
        torch.rand(2, 3, 8, 9)[..., 2:6, 1:5],
        torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.rand(1).expand(4),
        torch.tensor(3.0),
        torch.rand(0, 3),
    ],
    ids=["repeated", "cut out", "channels last", "one number", "no axis", "empty"],
)
def test_a_place_for_a_tensor_is_like_it(tensor):
    place = _place(tensor)
    assert place.stride() == tensor.stride()
    assert place.data_ptr() != tensor.data_ptr() or tensor.numel() == 0
    _once(place).copy_(_once(tensor) + 1)
    assert torch.equal(place, tensor + 1)


class OnACard:
    """Recorded methods, as if their tensors were on a card; counts what is computed."""

    def __init__(self, monkeypatch, capture):
        monkeypatch.setattr(torch.Tensor, "is_cuda", True)
        magnifier = torch.nn.Module()
        magnifier.recordable = ("predict",)
        magnifier.predict = self._predict
        self.computed, self.captured = [], []
        self.recorded = Recorded(magnifier)
        self.recorded._methods = {"predict": self._predict}

        def captured(act, given):
            self.captured.append(threading.get_ident())
            return capture(act, given)

        monkeypatch.setattr(self.recorded._captures, "capture", captured)

    def _predict(self, *inputs):
        self.computed.append(threading.get_ident())
        return sum(inputs)

    def __call__(self, *inputs):
        return self.recorded._do("predict", *inputs)


def plain(act, given):
    """Capture as a card does: what is called later is another thing than what was captured."""
    act(*given)
    return lambda *others: (sum(others),)


def test_what_comes_once_is_not_captured(monkeypatch):
    there = OnACard(monkeypatch, plain)
    for k, size in enumerate((4, 4, 4, 3)):
        assert torch.equal(
            there(torch.full((size,), k), torch.ones(size)), torch.full((size,), k + 1.0)
        )
    assert len(there.captured) == 1
    assert len(there.computed) == 3  # the first, to capture the second, and the last


def test_each_thread_computes_before_it_captures(monkeypatch):
    there, one = OnACard(monkeypatch, plain), torch.ones(4)
    there(one)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(there, one).result()
        assert not there.captured
        pool.submit(there, one).result()
    assert len(there.captured) == 1
    assert there.captured[0] != threading.get_ident()
    there(one)  # what others have captured is replayed at once
    assert len(there.computed) == 3


def test_what_cannot_be_captured_is_computed(monkeypatch):
    def failing(act, given):
        raise RuntimeError("operation not permitted when stream is capturing")

    there = OnACard(monkeypatch, failing)
    for k in range(4):
        assert torch.equal(there(torch.full((4,), k)), torch.full((4,), k))
    assert len(there.captured) == 1
    assert len(there.computed) == 4


@needs_card
def test_it_computes_with_the_numbers_it_is_given():
    captures = Captures()

    def act(x, y):
        return x * 2 + y, x.sum(1)

    made = {}
    for size in (3, 5):
        x, y = torch.rand(4, size, device="cuda"), torch.rand(1, 1, device="cuda").expand(4, size)
        act(x, y)
        made[size] = captures.capture(act, [x, y])
    for size in (5, 3, 3):
        x, y = torch.rand(4, size, device="cuda"), torch.rand(1, 1, device="cuda").expand(4, size)
        for got, want in zip(made[size](x, y), act(x, y), strict=True):
            torch.testing.assert_close(got, want)


def moving_disk(count, side=192):
    places = [(0.4 * np.sin(t / 2), 0.2 * t / count) for t in range(count)]
    frames = disk_on_still_ground(places, size=(side, side), radius=side // 6)
    return (255 * frames).round().astype(np.uint8)


def magnified(frames, captured, **options):
    settings = MagnifySettings(alpha=10.0, device="cuda", **options)
    magnifier = load_magnifier("default", "cuda")
    if not captured:
        magnifier.recordable = ()
    work = Magnification(frames, settings, magnifier=magnifier)
    found = np.stack(list(work.frames()))
    recorded = work._model[0]._recorded
    made = (
        {key[0]: act is not None for key, act in recorded._recordings.items()} if recorded else {}
    )
    del recorded  # which holds memory
    work.close()
    return found.astype(int), made


@needs_card
@pytest.mark.parametrize(
    "options",
    [
        {"batch": 4},
        {"batch": 1},
        {"batch": 4, "precision": "bfloat16"},
        {"batch": 4, "tile": 128},
        {"batch": 4, "reference": "previous"},
    ],
    ids=str,
)
def test_clips_come_out_the_same(options):
    frames = moving_disk(18)
    want, none = magnified(frames, False, **options)
    got, made = magnified(frames, True, **options)
    assert not none
    assert made.keys() >= {"predict", "single"}
    assert all(made.values())
    # Sums on a card are made in any order.
    most = 8 if options.get("precision") else 1
    assert np.abs(got - want).max() <= most


@needs_card
def test_threads_take_turns():
    magnifier = load_magnifier("default", "cuda").eval()
    recorded = Recorded(magnifier)
    pictures = torch.from_numpy(moving_disk(9, 96)).movedim(-1, 1).float().to("cuda") / 255
    alpha = torch.tensor([8.0], device="cuda")

    def predict(model, k):
        with torch.inference_mode():
            return model.predict(prepared, pictures[k : k + 1], alpha)

    with torch.inference_mode():
        prepared = magnifier.prepare(pictures[:1])
    want = [predict(magnifier, k) for k in range(9)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            found = pool.map(lambda k: predict(recorded, k), range(9))
            for got, right in zip(found, want, strict=True):
                torch.testing.assert_close(got, right, atol=1e-3, rtol=1e-3)


@needs_card
def test_a_cancelled_capture_can_be_made_later():
    frames, cancel = moving_disk(12, 96), threading.Event()
    settings = MagnifySettings(alpha=6.0, device="cuda", batch=1)
    work = Magnification(frames, settings, magnifier=load_magnifier("default", "cuda"))
    captures = work._model[0]._recorded._captures
    plain = captures.capture

    def cancelling(act, given):
        cancel.set()
        return plain(act, given)

    captures.capture = cancelling
    with pytest.raises(Cancelled):
        list(work.frames(cancel=cancel))
    captures.capture = plain
    assert len(list(work.frames())) == 12
    work.close()


@needs_card
def test_its_memory_is_given_back():
    magnified(moving_disk(12), True, batch=4)  # libraries keep some for good
    before = torch.cuda.memory_reserved()
    magnified(moving_disk(12), True, batch=4)
    assert torch.cuda.memory_reserved() <= before
