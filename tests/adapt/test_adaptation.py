from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from napari_flowmag import adapt, load_flow, load_magnifier, magnify
from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.adaptation import Adaptation, learnt_alphas
from napari_flowmag.adapt.parts import trained_parameters
from napari_flowmag.adapt.state import discard_state
from napari_flowmag.checkpoint import read_checkpoint
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.metrics import motion_error
from napari_flowmag.models import find_model
from napari_flowmag.models.unet import UNetMagnifier
from napari_flowmag.provenance import file_sha256, model_sha256, state_sha256

SMALL = {"crop": 48, "batch": 1, "held_back": 2, "check_every": 2, "alpha": 4, "device": "cpu"}


def run(frames, magnifier="default", report=None, cancel=None, state=None, **changes):
    axes, mask = changes.pop("axes", None), changes.pop("mask", None)
    settings = AdaptSettings.of(changes.pop("preset", "default"), **{**SMALL, **changes})
    job = Adaptation(frames, settings, magnifier=magnifier, axes=axes, mask=mask)
    return job.run(report, cancel, state)


def error(magnifier, clip, alpha=4.0):
    """Motion error at the asked factor by Farnebäck, which is in no loss."""
    flow, first = load_flow("farneback"), torch.from_numpy(clip[:1])[:, None]
    sums = 0.0
    with torch.inference_mode():
        for i in (1, 5, 8):
            frame = torch.from_numpy(clip[i : i + 1])[:, None]
            magnified = magnifier(first, frame, torch.tensor([alpha]))
            sums += float(motion_error(flow(first, magnified), flow(first, frame), alpha)[0])
    return sums / 3


def test_a_hurt_model_gets_better_by_a_judge_that_was_not_asked(clip, hurt):
    before, untouched = error(hurt, clip), state_sha256(hurt)
    adapted = run(clip, hurt, steps=40, lr=1e-3, check_every=10)
    assert adapted.improved
    assert adapted.after < 0.9 * adapted.before
    assert error(adapted.magnifier, clip) < 0.9 * before
    assert state_sha256(hurt) == untouched
    assert "less) after" in adapted.summary()


def test_nothing_better_gives_the_original_back_and_says_so(clip):
    adapted = run(clip, steps=4, lr=0.5, warmup=0, clip_gradient=0.0)
    assert not adapted.improved
    assert "left alone" in adapted.summary()
    original = load_magnifier("default", "cpu")
    assert state_sha256(adapted.magnifier) == state_sha256(original)
    assert model_sha256(adapted.magnifier) == file_sha256(find_model("default"))
    assert adapted.record["from"] == model_sha256(adapted.magnifier)
    assert all(p.requires_grad for p in adapted.magnifier.parameters())


def test_a_loss_that_is_not_finite_ends_it(clip, hurt, monkeypatch):
    from napari_flowmag.adapt import adaptation

    real = adaptation.Objective.__call__

    def broken(self, magnifier, pairs):
        return real(self, magnifier, pairs) * (float("nan") if magnifier.bad() else 1.0)

    steps = iter([False] * 7 + [True] * 100)
    monkeypatch.setattr(type(hurt), "bad", lambda self: next(steps), raising=False)
    monkeypatch.setattr(adaptation.Objective, "__call__", broken)
    adapted = run(clip, hurt, steps=30)
    assert adapted.stopped == "diverged"
    assert all(torch.isfinite(p).all() for p in adapted.magnifier.parameters())


def test_weights_that_are_not_finite_end_it_at_once(clip, hurt):
    with torch.no_grad():
        next(hurt.parameters()).fill_(torch.nan)
    adapted = run(clip, hurt, steps=5)
    assert (adapted.stopped, adapted.steps) == ("diverged", 0)
    assert state_sha256(adapted.magnifier) == state_sha256(hurt)


def test_the_same_seed_gives_the_same_model(clip, hurt):
    first, second, other = (run(clip, hurt, steps=4, seed=seed) for seed in (3, 3, 4))
    assert state_sha256(first.magnifier) == state_sha256(second.magnifier)
    assert first.after == second.after != other.after


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_to_the_same_model(clip, hurt, tmp_path):
    state = tmp_path / "model.state"
    whole = run(clip, hurt, steps=8)

    def kill(at):
        def report(now):
            if now.step == at:
                raise Killed

        return report

    for at in (3, 6, 7):
        with pytest.raises(Killed):
            run(clip, hurt, kill(at), state=state, steps=8)
        assert state.exists()
    with pytest.raises(FlowmagError, match="other settings, clip or model"):
        run(clip, hurt, state=state, steps=9)
    seen = []
    resumed = run(clip, hurt, lambda r: seen.append(r.step), state=state, steps=8)
    assert seen[0] > 1
    assert state_sha256(resumed.magnifier) == state_sha256(whole.magnifier)
    assert (resumed.before, resumed.after) == (whole.before, whole.after)
    # Until its outcome is saved, a run that ended is found as it ended.
    again = run(clip, hurt, lambda r: seen.append(r.step), state=state, steps=8)
    assert state_sha256(again.magnifier) == state_sha256(whole.magnifier)
    (tmp_path / ".model.state.123.part").touch()  # of a run that was killed as it wrote
    discard_state(state)
    assert not list(tmp_path.iterdir())


def test_slow_steps_are_saved_between_two_looks(clip, hurt, monkeypatch, tmp_path):
    from napari_flowmag.adapt import adaptation

    ticks, saved = iter(range(0, 10**6, 4)), []
    monkeypatch.setattr(adaptation.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(
        adaptation, "write_state", lambda path, key, state: saved.append(state["place"]["step"])
    )
    run(clip, hurt, steps=9, check_every=100, state=tmp_path / "state")
    assert 3 <= len(saved) < 9
    assert saved[-1] == 9


def test_cancelling_anywhere_leaves_a_usable_model_and_nothing_else(clip, hurt, tmp_path):
    rng, threads = random.Random(0), threading.active_count()
    for _ in range(8):
        cancel, layers = threading.Event(), iter(range(rng.randrange(1, 400)))

        def count(module, inputs, layers=layers, cancel=cancel):
            if next(layers, None) is None:
                cancel.set()

        hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
        try:
            adapted = run(clip, hurt, cancel=cancel, state=tmp_path / "state", steps=50)
        finally:
            hook.remove()
        assert adapted.stopped == "cancelled"
        assert adapted.steps < 50
        out = magnify(clip[:2], 4, model=adapted.magnifier)
        assert np.isfinite(out).all()
        discard_state(tmp_path / "state")
        assert not list(tmp_path.iterdir())
    assert threading.active_count() == threads


def test_a_model_that_is_magnifying_can_be_adapted(clip, hurt, monkeypatch):
    predict, cancel = type(hurt).predict, threading.Event()
    begun, finish = threading.Event(), threading.Event()

    def slow(self, *args):
        if self is hurt:
            begun.set()
            assert finish.wait(30)
        return predict(self, *args)

    monkeypatch.setattr(type(hurt), "predict", slow)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(magnify, clip[:2], 4, model=hurt, cancel=cancel)
        assert begun.wait(30)
        cancel.set()
        adapted = run(clip, hurt, steps=1)
        finish.set()
        with pytest.raises(Cancelled):
            job.result()
    assert adapted.stopped == "steps"
    assert magnify(clip[:2], 4, model=adapted.magnifier).shape == (2, 48, 64)


def test_time_ends_it(clip, hurt, monkeypatch):
    from napari_flowmag.adapt import adaptation

    ticks = iter(range(10**6))
    monkeypatch.setattr(adaptation.time, "monotonic", lambda: float(next(ticks)))
    adapted = run(clip, hurt, minutes=0.5)
    assert adapted.stopped == "minutes"
    assert 0 < adapted.steps < 30


@pytest.mark.parametrize("what", ["all", "decoder", "affine"])
@pytest.mark.parametrize("model", ["field", "unet"])
def test_only_what_was_chosen_is_tuned(hurt, what, model):
    magnifier = hurt if model == "field" else UNetMagnifier(4)
    chosen = {id(p) for p in trained_parameters(magnifier, what)}
    rule = {
        "all": lambda n, p: True,
        "decoder": lambda n, p: n.startswith(tuple(magnifier.decoder)),
        "affine": lambda n, p: p.ndim < 2,
    }[what]
    for name, parameter in magnifier.named_parameters():
        assert (id(parameter) in chosen) == parameter.requires_grad == rule(name, parameter)
    assert 0 < len(chosen) < 1 + sum(1 for _ in magnifier.parameters())


def test_the_unet_adapts_to_grey_16_bit_with_depth(clip):
    torch.manual_seed(0)
    stack = (60000 * clip).astype(np.uint16)[:8]
    stack = np.stack([stack, stack[:, ::-1]], 1)
    adapted = run(stack, UNetMagnifier(4).eval(), axes="TZYX", steps=2, z=1, lr=1e-3)
    assert adapted.steps == 2
    assert adapted.record["clip"]["axes"] == "TYX"


def test_channels_and_labels_and_the_frame_before(clip, hurt):
    stack = np.stack([clip, clip[::-1]], 1)
    mask = np.zeros(clip.shape, np.uint8)
    mask[:, 10:20, 10:40] = 2
    adapted = run(
        stack, hurt, axes="TCYX", mask=mask, motion_channels=(1,), reference="previous", steps=2
    )
    assert adapted.steps == 2


def test_full_memory_makes_the_pieces_smaller(clip, hurt, monkeypatch):
    from napari_flowmag.adapt import adaptation

    real, sizes = adaptation.Objective.__call__, []

    def tight(self, magnifier, pairs):
        if torch.is_grad_enabled():
            sizes.append(len(pairs))
            if len(pairs) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, magnifier, pairs)

    plain = run(clip, hurt, steps=2, batch=4)
    monkeypatch.setattr(adaptation.Objective, "__call__", tight)
    pieces = run(clip, hurt, steps=2, batch=4)
    assert sizes == [4, 2, 1, 1, 1, 1, 1, 1, 1, 1]
    assert pieces.after == pytest.approx(plain.after, rel=1e-3)


def test_no_room_for_one_pair_is_one_clear_line(clip, hurt, monkeypatch):
    from napari_flowmag.adapt import adaptation

    def full(self, magnifier, pairs):
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(())

    monkeypatch.setattr(adaptation.Objective, "__call__", full)
    with pytest.raises(FlowmagError, match="crop smaller than 48 px"):
        run(clip, hurt, steps=2)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"flows": ("dis",)}, "no gradients pass"),
        ({"flows": ("nothing",)}, "nothing"),
        ({"stop": 99}, "the clip has 16"),
        ({"stop": 2}, "needs 2 frames"),
        ({"motion_channels": (1,)}, "the clip has 1"),
        ({"mask": np.zeros((48, 64), np.uint8)}, "mask is empty"),
        ({"mask": np.ones((5, 5), np.uint8)}, "mask has shape"),
        ({"z": 0}, "no depth"),
        ({"magnifier": UNetMagnifier(4), "alpha_range": (20.0, 30.0)}, "covers 1 to 16"),
        ({"magnifier": "nowhere.safetensors"}, "no such file"),
    ],
)
def test_what_cannot_be_done_is_refused(clip, changes, line):
    with pytest.raises(FlowmagError, match=line):
        run(clip, steps=1, **changes)


def test_a_model_without_weights_is_refused(clip, paint_magnifier):
    with pytest.raises(FlowmagError, match="has no such weights"):
        run(np.stack([clip] * 3, -1), paint_magnifier, steps=1)


def test_nan_pixels_are_refused(clip):
    holes = clip.copy()
    holes[3, 5, 5] = np.nan
    with pytest.raises(FlowmagError, match="frame 3 has 1 NaN"):
        run(holes, steps=1)


def test_what_takes_several_passes_is_learnt_as_one():
    low, asked, high = learnt_alphas(AdaptSettings.of(alpha=100), UNetMagnifier(4))
    assert asked == pytest.approx(10)
    assert (low, high) == pytest.approx((10 / 1.7, 16))
    low, asked, high = learnt_alphas(AdaptSettings.of(alpha=100), load_magnifier("default", "cpu"))
    assert asked == 100


def test_what_is_saved_says_where_it_comes_from(clip, hurt, tmp_path):
    adapted = run(clip, hurt, steps=2)
    path = adapted.save(tmp_path / "model.safetensors")
    facts = read_checkpoint(path).training
    assert facts["from"] == state_sha256(hurt)
    assert facts["clip"]["shape"] == [16, 48, 64]
    assert facts["settings"]["alpha"] == 4
    assert facts["before"] >= facts["after"]
    assert state_sha256(load_magnifier(path, "cpu")) == state_sha256(adapted.magnifier)


def test_the_public_function_gives_a_magnifier(clip, hurt):
    reports = []
    model = adapt(hurt, clip, 4, report=reports.append, steps=2, crop=48, held_back=1, batch=1)
    assert magnify(clip[:2], 4, model=model).shape == (2, 48, 64)
    assert [r.step for r in reports] == [0, 1, 2]
    assert reports[-1].done == 1
