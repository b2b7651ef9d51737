"""What is replayed is what Python would have computed, to the bit."""

from __future__ import annotations

import copy
import threading
import warnings
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_flowmag import engine, load_magnifier, recorded
from napari_flowmag.errors import Cancelled
from napari_flowmag.magnification import Magnification
from napari_flowmag.models.base import MaskedAlpha
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.recorded import Recorded
from napari_flowmag.settings import MagnifySettings
from napari_flowmag.synthetic.clips import disk_on_still_ground


@pytest.fixture(scope="module")
def magnifier():
    """One like the bundled model, of fewer operations: they take seconds to record."""
    torch.manual_seed(0)
    small = FieldMagnifier(width=8, context=4, steps=(1,) * 6)
    for parameter in small.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return small.eval()


def pictures(seed, height, width, channels=3):
    """A reference and two frames of smooth noise that moves."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 8, 8, generator=generator)
    picture = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return picture, picture.roll(1, 3), picture.roll(-1, 2)


def both(model, shown, frame, alpha, prepared):
    prediction = model.predict(prepared, frame, alpha)
    return prediction, model.render(prediction, shown, frame, alpha)


def assert_same(model, magnifier, reference, frame, alpha):
    with torch.inference_mode():
        prepared, shown = magnifier.prepare(reference), magnifier.show(reference)
        got = both(model, shown, frame, alpha, prepared)
        want = both(magnifier, shown, frame, alpha, prepared)
    for one, other in zip(got, want, strict=True):
        assert torch.equal(one, other)


def alphas(height, width):
    column = torch.linspace(0, 9, width).expand(1, 1, height, width)
    return {
        "number": torch.tensor([7.5]),
        "map": column.contiguous(),
        "mask": MaskedAlpha(torch.tensor([6.0]), column.contiguous() / 9, 1.0),
        "mask that holds the rest": MaskedAlpha(torch.tensor([6.0]), column.contiguous() / 9, 0.0),
    }


@settings(deadline=None, max_examples=2)
@given(st.integers(33, 90), st.integers(33, 90), st.integers(1, 4), st.integers(0, 99))
def test_it_is_the_same_to_the_bit(magnifier, height, width, channels, seed):
    reference, frame, other = pictures(seed, height, width, channels)
    model = Recorded(magnifier)
    assert_same(model, magnifier, reference, frame, torch.tensor([8.0]))
    assert_same(model, magnifier, reference, other, torch.tensor([3.0]))
    assert sum(replay is not None for replay in model._recordings.values()) == 2, "once for both"


def test_the_bundled_model_is_recorded():
    bundled = load_magnifier("default", "cpu").eval()
    model = Recorded(bundled)
    reference, *frames = pictures(6, 64, 80)
    for frame in frames:
        assert_same(model, bundled, reference, frame, torch.tensor([8.0]))
    assert None not in model._recordings.values()


def test_every_way_to_ask_for_a_magnification_has_its_own_recording(magnifier):
    model = Recorded(magnifier)
    reference, *frames = pictures(0, 40, 56)
    for alpha in alphas(40, 56).values():
        for frame in frames:
            assert_same(model, magnifier, reference, frame, alpha)
    # A number and maps; that masks become maps is no matter of the pictures.
    made = Counter(name for name, _ in model._recordings)
    assert made == {"predict": 4, "single": 2}
    assert None not in model._recordings.values()


def test_outlines_are_recorded_where_there_are_any(magnifier):
    model = Recorded(magnifier)
    frames = disk_on_still_ground([(0, 0), (0.5, 0)], size=(288, 320), radius=30)
    reference, frame = torch.from_numpy(frames).movedim(-1, 1).contiguous().split(1)
    motion = torch.zeros(1, 3, 288, 320)
    motion[:, :1, 120:170, 130:190] = 0.5
    for alpha, drawn in ((1.0, 0), (10.0, 1), (12.0, 1)):
        with torch.inference_mode():
            shown, factor = magnifier.show(reference), torch.tensor([alpha])
            found = model.render(motion, shown, frame, factor)
            assert torch.equal(found, magnifier.render(motion, shown, frame, factor))
        assert sum(name == "layers" for name, _ in model._recordings) == drawn


def test_sizes_do_not_get_mixed_up(magnifier):
    model = Recorded(magnifier)
    for height, width in ((40, 56), (56, 40), (40, 56)):
        reference, frame, _ = pictures(1, height, width)
        assert_same(model, magnifier, reference, frame, torch.tensor([5.0]))


def test_threads_wait_for_one_recording(magnifier, monkeypatch):
    made = []
    plain = recorded._replay_of
    monkeypatch.setattr(recorded, "_replay_of", lambda *a: made.append(1) or plain(*a))
    model = Recorded(magnifier)
    reference, *frames = pictures(2, 48, 48)
    with ThreadPoolExecutor(4) as pool:
        works = [
            pool.submit(
                assert_same, model, magnifier, reference, frames[i % 2], torch.tensor([4.0])
            )
            for i in range(12)
        ]
        for work in works:
            work.result()
    assert len(made) == 2  # predict and render


def test_recordings_go_at_once(magnifier):
    reference, frame, _ = pictures(3, 40, 40)
    model = Recorded(magnifier)
    assert_same(model, magnifier, reference, frame, torch.tensor([5.0]))
    model, there = None, weakref.ref(model)
    assert there() is None


def test_the_magnifier_itself_stays_trainable(magnifier):
    reference, frame, _ = pictures(3, 40, 40)
    trained = copy.deepcopy(magnifier).requires_grad_(True)
    assert_same(Recorded(trained), trained, reference, frame, torch.tensor([5.0]))
    assert all(p.requires_grad for p in trained.parameters())
    trained(reference, frame, torch.tensor([5.0])).sum().backward()
    assert any(p.grad is not None for p in trained.parameters())


def test_warnings_of_others_are_heard_while_it_records(magnifier, monkeypatch):
    reference, frame, _ = pictures(3, 40, 40)
    predict = type(magnifier).predict

    def warn(*inputs):
        warnings.warn("from another thread", UserWarning, stacklevel=2)
        return predict(*inputs)

    monkeypatch.setattr(type(magnifier), "predict", warn)
    model = Recorded(magnifier)
    with pytest.warns(UserWarning, match="from another thread") as told, torch.inference_mode():
        model.predict(magnifier.prepare(reference), frame, torch.tensor([5.0]))
    assert {type(warning.message) for warning in told} == {UserWarning}


def test_what_cannot_be_recorded_is_computed(magnifier, monkeypatch):
    def gone(*_):
        raise AttributeError("module 'torch._C' has no attribute '_create_graph_by_tracing'")

    monkeypatch.setattr(recorded, "_replay_of", gone)
    model = Recorded(magnifier)
    reference, frame, _ = pictures(4, 40, 40)
    assert_same(model, magnifier, reference, frame, torch.tensor([5.0]))
    assert set(model._recordings.values()) == {None}


@pytest.mark.parametrize("error", [Cancelled(), MemoryError()])
def test_a_stop_and_full_memory_are_not_mistaken_for_that(magnifier, monkeypatch, error):
    def stopped(*_):
        raise error

    monkeypatch.setattr(recorded, "_replay_of", stopped)
    reference, frame, _ = pictures(5, 40, 40)
    with torch.inference_mode(), pytest.raises(type(error)):
        Recorded(magnifier).predict(magnifier.prepare(reference), frame, torch.tensor([5.0]))


# in a run


def clip(count, dtype=np.uint8, channels=()):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 200, (40, 48, *channels)).astype(dtype)
    return np.stack([np.roll(picture, t % 3, 1) for t in range(count)])


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, np.uint8),
        ({"label_alphas": ((1, 4.0),)}, np.uint16),
        ({"reference": "previous"}, np.uint16),
    ],
)
def test_long_clips_are_replayed_and_come_out_the_same(magnifier, monkeypatch, options, dtype):
    frames = clip(6, dtype, (3,))
    mask = np.zeros((40, 48), int)
    mask[10:30, 8:40] = 1

    def run(many):
        monkeypatch.setattr(engine, "_MANY", many)
        settings = MagnifySettings(alpha=6.0, device="cpu", **options)
        work = Magnification(frames, settings, mask=mask, magnifier=magnifier)
        found = np.stack(list(work.frames()))
        replays = work._model[0]._recorded
        work.close()
        return found, replays

    (want, none), (got, replays) = run(7), run(6)
    assert none is None
    assert any(replay is not None for replay in replays._recordings.values())
    np.testing.assert_array_equal(got, want)


def test_a_cancelled_recording_leaves_nothing_behind(magnifier, monkeypatch):
    monkeypatch.setattr(engine, "_MANY", 1)
    cancel, asked = threading.Event(), []
    plain = recorded._replay_of

    def cancelling(act, tensors):
        asked.append(1)
        cancel.set()
        return plain(act, tensors)

    monkeypatch.setattr(recorded, "_replay_of", cancelling)
    settings = MagnifySettings(alpha=6.0, device="cpu")
    work = Magnification(clip(8), settings, magnifier=magnifier)
    with pytest.raises(Cancelled):
        list(work.frames(cancel=cancel))
    assert asked
    monkeypatch.setattr(recorded, "_replay_of", plain)
    assert len(list(work.frames())) == 8
    work.close()
