from __future__ import annotations

import itertools
import threading

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_flowmag import engine
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.frames import as_frames
from napari_flowmag.magnify import Magnification, magnify, magnify_frames
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.settings import MagnifySettings
from napari_flowmag.strength import strength

INNER = (..., slice(10, -10), slice(12, -12))
TYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", ">u2", ">f4"]


@pytest.fixture
def clip(texture):
    return texture([(0, 0), (0.2, -0.1), (0.4, 0.3)])


def as_type(clip, dtype):
    """(T, H, W) in [0, 1] in a type, using much of its range."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return clip > 0.5
    if dtype.kind == "f":
        return (clip * 100 - 30).astype(dtype)
    top = min(np.iinfo(dtype).max, 2**40)
    return (clip * top * 0.9).astype(dtype)


# what comes out


@pytest.mark.parametrize("alpha", [0.5, 4, 10])
def test_motion_is_alpha_times_as_large(clip, texture, shift_magnifier, alpha):
    magnified = magnify(clip, alpha, model=shift_magnifier)
    exact = texture([(0, 0), (0.2 * alpha, -0.1 * alpha), (0.4 * alpha, 0.3 * alpha)])
    np.testing.assert_allclose(magnified[INNER], exact[INNER], atol=0.01)


@pytest.mark.parametrize("alpha", [16, 100, 1000])
def test_alpha_beyond_the_model_takes_several_passes(texture, shift_magnifier, alpha):
    clip = texture([(0, 0), (4 / alpha, 2 / alpha)])
    magnified = magnify(clip, alpha, model=shift_magnifier)
    np.testing.assert_allclose(magnified[INNER], texture([(0, 0), (4, 2)])[INNER], atol=0.02)


def test_alpha_map(clip, texture, shift_magnifier):
    alpha = np.ones(clip.shape[1:])
    alpha[:, 32:] = 6
    magnified = magnify(clip, alpha, model=shift_magnifier)
    np.testing.assert_allclose(magnified[..., :28], clip[..., :28], atol=1e-4)
    exact = texture([(0, 0), (1.2, -0.6), (2.4, 1.8)])
    np.testing.assert_allclose(magnified[:, 10:-10, 36:-12], exact[:, 10:-10, 36:-12], atol=0.01)


def test_mask_keeps_the_outside(clip, texture, shift_magnifier):
    mask = np.zeros(clip.shape[1:], bool)
    mask[:, 36:] = True
    magnified = magnify(clip, 6, model=shift_magnifier, mask=mask, soft=4)
    np.testing.assert_allclose(magnified[..., :32], clip[..., :32], atol=1e-4)
    exact = texture([(0, 0), (1.2, -0.6), (2.4, 1.8)])
    np.testing.assert_allclose(magnified[:, 10:-10, 36:-12], exact[:, 10:-10, 36:-12], atol=0.01)


@pytest.mark.parametrize("dtype", TYPES)
def test_any_type_comes_out_as_it_went_in(clip, shift_magnifier, dtype):
    frames = as_type(clip, dtype)
    magnified = magnify(frames, 3, model=shift_magnifier)
    assert magnified.dtype == frames.dtype
    assert magnified.shape == frames.shape
    np.testing.assert_array_equal(magnified[0], frames[0])
    assert (magnified[1:] != frames[1:]).any()
    assert magnified.min() >= frames.min()
    assert magnified.max() <= frames.max()


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "f8", "u8"])
def test_values_far_from_zero_keep_their_steps(clip, shift_magnifier, dtype):
    small = (clip * 900).round()
    plain = magnify(small.astype("f4"), 3, model=shift_magnifier)
    offset = {"u2": 60_000, "i4": 10**9, "f4": 10**4, "f8": 10**12, "u8": 2**50}[dtype]
    shifted = magnify((small + offset).astype(dtype), 3, model=shift_magnifier)
    # half a step, and what float64 itself rounds at 2 ** 50
    np.testing.assert_allclose(shifted.astype("f8") - offset, plain, atol=0.7)


@given(
    hnp.arrays(
        st.sampled_from(TYPES), hnp.array_shapes(min_dims=3, max_dims=4, max_side=5), unique=False
    ),
    st.floats(0, 100),
)
@example(np.array([[[2**53 + 1]]], np.uint64), 0.0)  # float64 has no such number
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_shape_and_values(shift_magnifier, frames, alpha):
    if frames.dtype.kind == "f":
        frames = np.nan_to_num(frames, nan=0, posinf=1, neginf=-1).clip(-1e4, 1e4).round(4)
    magnified = magnify(frames, alpha, model=shift_magnifier)
    assert magnified.shape == frames.shape
    assert magnified.dtype == frames.dtype
    np.testing.assert_array_equal(magnified[0], frames[0])


def test_alpha_1_is_the_input_and_0_the_reference(clip, shift_magnifier, paint_magnifier):
    frames = as_type(clip, "u2")
    for model in (shift_magnifier, paint_magnifier):
        np.testing.assert_array_equal(magnify(frames, 1, model=model), frames)
        still = magnify(frames, 0, model=model, reference=2)
        np.testing.assert_array_equal(still, np.broadcast_to(frames[2], frames.shape))


def test_still_clips_and_single_frames_stay_as_they_are(clip, paint_magnifier):
    paint_magnifier.predict = None  # not even asked
    for frames in (np.full((4, 20, 20), 7, np.uint16), clip[:1], clip[[0, 0, 0]]):
        np.testing.assert_array_equal(magnify(frames, 9, model=paint_magnifier), frames)


@pytest.mark.parametrize(
    "axes", ["TYX", "TZYX", "TCYX", "TYXS", "TYXC", "TZCYX", "TZCYXS", "TXY", "TCXYZ"]
)
def test_axes_in_any_order(shift_magnifier, texture, axes):
    frame = {"Z": 2, "C": 2, "S": 3}
    axis = {a: i for i, a in enumerate("TZYXCS")}
    planes = np.stack([texture([(0, 0), (0.3, 0)], seed=s) for s in range(12)])
    full = planes.reshape(2, 2, 3, 2, 48, 64).transpose(3, 0, 4, 5, 1, 2)  # T Z Y X C S
    take = tuple(slice(None) if a in axes else 0 for a in "TZYXCS")
    present = [a for a in axis if a in axes]
    frames = full[take].transpose([present.index(a) for a in axes])
    exact = np.stack([texture([(0, 0), (1.2, 0)], seed=s) for s in range(12)])
    exact = exact.reshape(2, 2, 3, 2, 48, 64).transpose(3, 0, 4, 5, 1, 2)
    exact = exact[take].transpose([present.index(a) for a in axes])
    assert frames.shape == tuple({"T": 2, "Y": 48, "X": 64, **frame}[a] for a in axes)
    magnified = magnify(frames, 4, model=shift_magnifier, axes=axes)
    inner = tuple(slice(12, -12) if a in "YX" else slice(None) for a in axes)
    np.testing.assert_allclose(magnified[inner], exact[inner], atol=0.01)


def test_opacity_is_not_moved(texture, shift_magnifier):
    rgb = [texture([(0, 0), (0.3, 0)], seed=s) for s in range(3)]
    opacity = np.random.default_rng(0).random((2, 48, 64))
    frames = (np.stack([*rgb, opacity], -1) * 255).astype(np.uint8)
    magnified = magnify(frames, 4, model=shift_magnifier, axes="TYXS")
    np.testing.assert_array_equal(magnified[..., 3], frames[..., 3])
    assert (magnified[1, ..., :3] != frames[1, ..., :3]).any()
    alone = magnify(frames[..., :3], 4, model=shift_magnifier)
    np.testing.assert_array_equal(magnified[..., :3], alone)


def test_opacity_has_no_part_in_the_range_of_colours(texture, paint_magnifier):
    rgb = [texture([(0, 0), (0.3, 0)], seed=s) for s in range(3)]
    dark = (100 + 300 * np.stack(rgb, -1)).astype(np.uint16)
    opaque = np.concatenate([dark, np.full((*dark.shape[:3], 1), 65535, np.uint16)], -1)
    magnified = magnify(opaque, 4, model=paint_magnifier, axes="TYXS")
    np.testing.assert_array_equal(
        magnified[..., :3], magnify(dark, 4, model=paint_magnifier, axes="TYXS")
    )


@pytest.mark.parametrize("reference", [0, "previous"])
def test_values_of_the_reference_come_out_of_a_range_declared_too_narrow(
    clip, shift_magnifier, reference
):
    frames = (100 + 800 * clip).astype(np.uint16)
    frames[0, 5:9, 5:9], frames[0, 20:24, 20:24] = 5000, 20
    # As the default model does with a small alpha, and with every alpha where motion is small.
    shift_magnifier.render = lambda prediction, reference, frame, alpha: reference
    magnified = magnify(
        frames, 2, model=shift_magnifier, reference=reference, value_range=(100, 900)
    )
    np.testing.assert_array_equal(magnified[1], frames[0])


def test_motion_seen_in_one_channel_moves_all(texture, shift_magnifier):
    moving = texture([(0, 0), (0.3, 0.1)])
    noise = np.random.default_rng(0).random(moving.shape)
    frames = np.stack([noise * 1000, moving], -1)
    magnified = magnify(frames, 5, model=shift_magnifier, motion_channels=(1,))
    exact = texture([(0, 0), (1.5, 0.5)])
    np.testing.assert_allclose(magnified[..., 1][INNER], exact[INNER], atol=0.01)
    assert not np.allclose(magnified[1, ..., 0], frames[1, ..., 0])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_models_of_three_channels_take_any_number(paint_magnifier, channels):
    frames = np.random.default_rng(0).integers(300, 700, (3, 40, 50, channels), np.uint16)
    frames[0], alpha = 500, 1.5
    magnified = magnify(frames, alpha, model=paint_magnifier)
    low, high = frames.min((0, 1, 2)).astype(float), frames.max((0, 1, 2))
    exact = np.clip(500 + alpha * (frames - 500.0), low, high)
    np.testing.assert_allclose(magnified, exact, atol=0.51)
    assert all(size[1] == 3 for size in paint_magnifier.sizes)


# references


@pytest.mark.parametrize("reference", [0, 1, -1, "first"])
def test_reference_frame_comes_out_bit_by_bit(clip, shift_magnifier, reference):
    place = 0 if reference == "first" else reference
    magnified = magnify(clip, 7.3, model=shift_magnifier, reference=reference)
    np.testing.assert_array_equal(magnified[place], clip[place])


@pytest.mark.parametrize("name", ["mean", "median"])
def test_motion_from_the_mean_or_median(texture, shift_magnifier, name):
    clip = texture([(-0.2, 0), (0, 0), (0.2, 0)])
    magnified = magnify(clip, 5, model=shift_magnifier, reference=name)
    exact = texture([(-1, 0), (0, 0), (1, 0)])
    np.testing.assert_allclose(magnified[INNER], exact[INNER], atol=0.02)


@pytest.mark.parametrize("batch", [1, 3])
def test_motion_from_the_previous_frame(texture, shift_magnifier, batch):
    clip = texture([(0, 0), (0.2, 0), (0.3, 0), (0.3, 0.1), (0, 0)])
    magnified = magnify(clip, 5, model=shift_magnifier, reference="previous", batch=batch)
    exact = texture([(0, 0), (1, 0), (0.7, 0), (0.3, 0.5), (-1.2, -0.4)])
    np.testing.assert_allclose(magnified[INNER], exact[INNER], atol=0.02)


def test_part_of_a_clip_is_part_of_the_result(texture, shift_magnifier):
    clip = as_type(texture([(0.1 * t, 0) for t in range(8)]), "u2")
    whole = magnify(clip, 4, model=shift_magnifier)
    part = magnify(clip, 4, model=shift_magnifier, start=3, stop=6)
    np.testing.assert_array_equal(part, whole[3:6])
    first = magnify(clip, 4, model=shift_magnifier, start=3, stop=6, reference="first")
    np.testing.assert_array_equal(first[0], clip[3])


# ways to compute


@pytest.mark.parametrize("reference", [0, "previous"])
@pytest.mark.parametrize("alpha", [3, 50])
def test_tiles_and_batches_do_not_change_the_result(paint_magnifier, reference, alpha):
    rng = np.random.default_rng(0)
    frames = rng.random((5, 200, 300)) * 0.02 + 0.5
    plain = magnify(frames, alpha, model=paint_magnifier, reference=reference, tile=0)
    paint_magnifier.sizes.clear()
    pieces = magnify(frames, alpha, model=paint_magnifier, reference=reference, tile=130, batch=2)
    np.testing.assert_allclose(pieces, plain, atol=1e-5)
    assert max(max(size[2:]) for size in paint_magnifier.sizes) <= 130
    assert max(size[0] for size in paint_magnifier.sizes) == 2


def test_mask_and_map_in_tiles(paint_magnifier):
    frames = np.random.default_rng(0).random((2, 200, 300)) * 0.02 + 0.5
    mask = np.zeros((200, 300))
    mask[50:120, 100:280] = 0.5
    alpha = np.linspace(1, 3, 300) * np.ones((200, 1))
    plain = magnify(frames, alpha, model=paint_magnifier, mask=mask)
    pieces = magnify(frames, alpha, model=paint_magnifier, mask=mask, tile=128)
    np.testing.assert_allclose(pieces, plain, atol=1e-5)


def test_reference_is_prepared_once_for_a_clip_and_tile(texture, shift_magnifier):
    clip = texture([(0.1 * t, 0) for t in range(6)])
    magnify(clip, 3, model=shift_magnifier)
    assert shift_magnifier.prepared == 1
    wide = np.tile(clip, (1, 1, 4))
    shift_magnifier.prepared = 0
    magnify(wide, 3, model=shift_magnifier, tile=128)
    assert shift_magnifier.prepared == 3


def test_prepared_references_that_do_not_fit_are_prepared_again(
    texture, shift_magnifier, monkeypatch
):
    wide = np.tile(texture([(0.1 * t, 0) for t in range(3)]), (1, 1, 4))
    kept = magnify(wide, 3, model=shift_magnifier, tile=128)
    shift_magnifier.prepared = 0
    monkeypatch.setattr(engine, "cache_budget", lambda device: 1000)
    np.testing.assert_array_equal(magnify(wide, 3, model=shift_magnifier, tile=128), kept)
    assert shift_magnifier.prepared == 5  # one of three stays; the others for both frames


def test_large_frames_are_tiled_unasked(paint_magnifier):
    frames = np.zeros((2, 1500, 1500), np.uint8)
    frames[1] = 1
    magnify(frames, 2, model=paint_magnifier)
    assert max(max(size[2:]) for size in paint_magnifier.sizes) <= 1024


def test_same_result_every_time(clip, shift_magnifier):
    first = magnify(clip, 5, model=shift_magnifier)
    np.testing.assert_array_equal(magnify(clip, 5, model=shift_magnifier), first)


def test_half_precision(clip, paint_magnifier):
    exact = magnify(clip, 2, model=paint_magnifier)
    half = magnify(clip, 2, model=paint_magnifier, precision="bfloat16")
    np.testing.assert_allclose(half, exact, atol=0.02)


class _Full:
    """Stands in for a device that holds so many pixels and no more."""

    def __init__(self, magnifier, pixels, error=torch.cuda.OutOfMemoryError):
        self.predict, self.pixels, self.error = magnifier.predict, pixels, error

    def __call__(self, prepared, frame, alpha):
        if frame[:, 0].numel() > self.pixels:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.predict(prepared, frame, alpha)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, MemoryError, RuntimeError])
def test_smaller_pieces_when_memory_is_full(paint_magnifier, error):
    frames = np.random.default_rng(0).random((8, 200, 300)) * 0.02 + 0.5
    plain = magnify(frames, 3, model=paint_magnifier)
    paint_magnifier.predict = _Full(paint_magnifier, 30_000, error)
    lines: list[str] = []
    pieces = magnify(frames, 3, model=paint_magnifier, batch=4, notify=lines.append)
    np.testing.assert_allclose(pieces, plain, atol=1e-5)
    assert [line.split()[-2:] for line in lines[:2]] == [["at", "once"], ["at", "once"]]
    assert "tiles of 150 px" in lines[2]
    assert len(lines) == 3


def test_memory_that_never_suffices(paint_magnifier):
    paint_magnifier.predict = _Full(paint_magnifier, 10)
    frames = np.random.default_rng(0).random((2, 200, 300))
    with pytest.raises(FlowmagError, match="full even with tiles of 128 px"):
        magnify(frames, 3, model=paint_magnifier, notify=lambda line: None)


def test_other_errors_of_a_model_are_not_hidden(paint_magnifier):
    def broken(*args):
        raise RuntimeError("shapes do not match")

    paint_magnifier.predict = broken
    with pytest.raises(RuntimeError, match="shapes"):
        magnify(np.random.default_rng(0).random((2, 20, 30)), 3, model=paint_magnifier)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("alpha", [0.3, 6])
def test_engine_gives_what_the_module_gives(texture, alpha, batch):
    torch.manual_seed(0)
    module = FieldMagnifier().eval()
    clips = [texture([(0, 0), (0.3, 0.1), (0.5, -0.4)], 45, 62, seed=seed) for seed in range(3)]
    frames = np.stack(clips, -1).astype(np.float32)
    frames = (frames - frames.min()) / np.ptp(frames)  # so that module and engine see the same
    magnified = magnify(frames, alpha, model=module, batch=batch, axes="TYXS")
    tensor = torch.from_numpy(frames).movedim(-1, 1)
    with torch.inference_mode():
        exact = module(tensor[:1].expand(3, -1, -1, -1), tensor, torch.full((3,), alpha))
    exact = exact.clamp(0, 1).movedim(1, -1)
    # The reference comes out as it is, whatever an untrained module makes of it.
    np.testing.assert_array_equal(magnified[0], frames[0])
    np.testing.assert_allclose(magnified[1:], exact[1:], atol=1e-3)


# streaming


class Counting:
    """Array-like that knows which frames were read, and gives one at a time only."""

    def __init__(self, data):
        self.data, self.read = data, []
        self.shape, self.dtype = data.shape, data.dtype

    def __getitem__(self, index):
        self.read.append(int(index))
        return self.data[index]


def test_reads_a_frame_only_when_it_is_needed(clip, shift_magnifier):
    frames = Counting(as_type(clip, "u1"))
    stream = magnify_frames(frames, 3, model=shift_magnifier)
    assert frames.read == []
    next(stream)
    assert frames.read == [0, 0]  # as the reference and as a frame
    next(stream)
    assert frames.read == [0, 0, 1]


def test_range_of_values_costs_one_more_reading(clip, shift_magnifier):
    frames = Counting(clip)
    list(magnify_frames(frames, 3, model=shift_magnifier))
    assert sorted(frames.read) == [0, 0, 0, 1, 1, 2, 2]  # the first is the reference, too
    frames.read.clear()
    list(magnify_frames(frames, 3, model=shift_magnifier, value_range=(0, 1)))
    assert sorted(frames.read) == [0, 0, 1, 2]


@pytest.mark.parametrize("kind", ["dask", "zarr", "list", "memmap"])
def test_kinds_of_arrays(clip, shift_magnifier, tmp_path, kind):
    if kind == "dask":
        frames = da.from_array(clip, chunks=(1, -1, -1))
    elif kind == "zarr":
        frames = zarr.array(clip, chunks=(1, 48, 64))
    elif kind == "list":
        frames = clip.tolist()
    else:
        np.save(tmp_path / "clip.npy", clip)
        frames = np.load(tmp_path / "clip.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        magnify(frames, 3, model=shift_magnifier), magnify(clip, 3, model=shift_magnifier)
    )


def test_progress_counts_frames(clip, shift_magnifier):
    seen = []
    magnify(clip, 3, model=shift_magnifier, batch=2, progress=lambda *now: seen.append(now))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_cancel_between_frames_and_tiles(paint_magnifier):
    cancel = threading.Event()
    frames = np.random.default_rng(0).random((4, 200, 300))
    stream = magnify_frames(frames, 2, model=paint_magnifier, tile=128, cancel=cancel)
    for frame in itertools.islice(stream, 2):
        assert frame.shape == (200, 300)
    done, predict = len(paint_magnifier.sizes), paint_magnifier.predict

    def then_cancel(*args):
        cancel.set()
        return predict(*args)

    paint_magnifier.predict = then_cancel
    with pytest.raises(Cancelled):
        next(stream)
    assert len(paint_magnifier.sizes) == done + 1


def test_cancel_while_the_clip_is_read(clip, shift_magnifier):
    cancel = threading.Event()
    cancel.set()
    frames = Counting(clip)
    with pytest.raises(Cancelled):
        magnify(frames, 2, model=shift_magnifier, cancel=cancel)
    assert frames.read == []


# what faces use


def test_one_frame_is_what_the_run_gives(texture, shift_magnifier):
    clip = as_type(texture([(0.1 * t, 0) for t in range(5)]), "u2")
    for reference in ("first", "mean", "previous"):
        job = Magnification(
            clip, MagnifySettings(4, reference=reference), magnifier=shift_magnifier
        )
        frames = list(job.frames())
        for index in (3, 0, 4, 2):
            np.testing.assert_array_equal(job.frame(index), frames[index])


def test_preview_follows_a_slider_without_work_done_twice(texture, shift_magnifier):
    clip = Counting(texture([(0.1 * t, 0) for t in range(5)]))
    job = Magnification(clip, MagnifySettings(2), magnifier=shift_magnifier)
    job.frame(2)
    clip.read.clear()
    job.strength = strength(5, (48, 64))
    again = magnify(clip.data, 5, model=shift_magnifier)[2]
    shift_magnifier.prepared = 0
    np.testing.assert_array_equal(job.frame(2), again)
    assert clip.read == [2]
    assert shift_magnifier.prepared == 0


@pytest.mark.parametrize("alpha", [0, 3])
def test_one_slice_that_is_looked_at(texture, shift_magnifier, alpha):
    deep = np.stack([texture([(0, 0), (0.3, 0.1)], seed=z) for z in (1, 2)], axis=1)
    job = Magnification(deep, MagnifySettings(alpha), axes="TZYX", magnifier=shift_magnifier)
    seen = job.frame(1, depth=0)
    np.testing.assert_array_equal(seen[0], job.frame(1)[0])
    np.testing.assert_array_equal(seen[1], deep[1, 1])


def test_what_was_cancelled_stops_nothing_later(clip, shift_magnifier):
    cancel = threading.Event()
    cancel.set()
    job = Magnification(clip, MagnifySettings(2), magnifier=shift_magnifier)
    with pytest.raises(Cancelled):
        list(job.frames(cancel=cancel))
    assert job.limits.high == clip.max()
    with pytest.raises(Cancelled):
        job.frame(1, cancel)
    assert len(list(job.frames())) == 3


def test_frame_that_is_not_selected(clip, shift_magnifier):
    job = Magnification(clip, MagnifySettings(2, start=1), magnifier=shift_magnifier)
    with pytest.raises(FlowmagError, match="frames 1 to 2"):
        job.frame(0)


def test_close_lets_go_and_the_next_frame_loads_again(clip, shift_magnifier):
    job = Magnification(clip, MagnifySettings(2), magnifier=shift_magnifier)
    first = job.frame(2)
    job.close()
    shift_magnifier.prepared = 0
    np.testing.assert_array_equal(job.frame(2), first)
    assert shift_magnifier.prepared == 1


def test_provenance_tells_models_and_masks_apart(clip, shift_magnifier):
    import json

    mask = np.zeros(clip.shape[1:])
    mask[10] = 1
    one = Magnification(clip, MagnifySettings(20), mask=mask, magnifier=shift_magnifier)
    other = Magnification(clip, MagnifySettings(20), mask=mask.T.T + 0, magnifier=shift_magnifier)
    record = json.loads(json.dumps(one.provenance()))
    assert record == json.loads(json.dumps(other.provenance()))
    assert record["passes"] == 2
    assert record["settings"]["alpha"] == 20
    assert record["model"]["architecture"] == "shift"
    mask[11] = 1
    changed = Magnification(clip, MagnifySettings(20), mask=mask, magnifier=shift_magnifier)
    assert changed.provenance()["mask"] != record["mask"]


def test_provenance_of_masks_over_time_is_of_a_frame_that_has_one(clip, shift_magnifier):
    masks = np.zeros(clip.shape, bool)
    masks[1:, 10:20] = True
    settings = MagnifySettings(20)
    record = Magnification(clip, settings, mask=masks, magnifier=shift_magnifier).provenance()
    assert (record["alpha"], record["passes"]) == (20, 2)


# refusals


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (np.zeros((0, 10, 10)), "empty"),
        (np.zeros((3, 0, 10)), "empty"),
        (np.zeros((10, 10)), r"shape \(10, 10\)"),
        (np.zeros((1, 2, 3, 4, 5)), "name the axes"),
        (np.zeros((3, 10, 10), complex), "complex128"),
        (np.zeros((3, 10, 10), "M8[s]"), "datetime64"),
        (np.full((3, 10, 10), "a"), "<U1"),
        (np.zeros((3, 10, 10), object), "object"),
    ],
)
def test_what_is_no_clip(frames, says, shift_magnifier):
    with pytest.raises(FlowmagError, match=says):
        magnify(frames, 2, model=shift_magnifier)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers(clip, shift_magnifier, value):
    clip[1, 3, 4:6] = value
    with pytest.raises(FlowmagError, match="frame 1 has 2 NaN or infinite pixels"):
        magnify(clip, 2, model=shift_magnifier)


def test_pixels_that_no_output_comes_from_may_be_anything(clip, shift_magnifier):
    holes = np.concatenate([np.full_like(clip[:1], np.nan), clip])
    expected = magnify(clip, 2, model=shift_magnifier)
    np.testing.assert_array_equal(magnify(holes, 2, model=shift_magnifier, start=1,
                                          reference="first"), expected)  # fmt: skip
    with pytest.raises(FlowmagError, match="frame 0 has 3072 NaN"):
        magnify(holes, 2, model=shift_magnifier, start=1, reference=-4)


@pytest.mark.parametrize(
    ("scale", "dtype", "options"),
    [(1e-50, "f8", {}), (200, "u1", {"value_range": (100, 100.000001)})],
)
def test_values_too_close_together(clip, shift_magnifier, scale, dtype, options):
    with pytest.raises(FlowmagError, match="too close together: rescale"):
        magnify((clip * scale).astype(dtype), 4, model=shift_magnifier, **options)


def test_a_range_far_from_the_values_changes_none(clip, shift_magnifier):
    given = clip.astype(np.float32)
    found = magnify(given, 1, model=shift_magnifier, value_range=(1e8, 2e8))
    np.testing.assert_array_equal(found, given)


def test_an_offset_costs_no_digits(clip, shift_magnifier):
    given = (clip + 1e5).astype(np.float32)
    fine = magnify(given.astype(np.float64), 8, model=shift_magnifier)
    found = magnify(given, 8, model=shift_magnifier)
    assert np.abs(found - fine).max() <= np.spacing(np.float32(1e5))  # that of the output itself


@pytest.mark.parametrize("order", ["<", ">"])
def test_held_still_to_the_last_digit(shift_magnifier, order):
    clip = (np.arange(1600).reshape(4, 20, 20) + 2**60 + 1).astype(f"{order}i8")
    assert (magnify(clip, 0, model=shift_magnifier) == clip[0]).all()


def test_frames_may_come_in_one_buffer(clip, shift_magnifier):
    class Buffered:
        shape, dtype = clip.shape, clip.dtype
        buffer = np.empty_like(clip[0])

        def __getitem__(self, index):
            self.buffer[...] = clip[index]
            return self.buffer

    for reference in (0, "mean", "previous"):
        expected = magnify(clip, 8, model=shift_magnifier, reference=reference)
        found = magnify(Buffered(), 8, model=shift_magnifier, reference=reference)
        np.testing.assert_array_equal(found, expected)


def test_values_too_far_apart(clip, shift_magnifier):
    with pytest.raises(FlowmagError, match="too far apart"):
        magnify(clip * 1e300 - 5e299, 2, model=shift_magnifier)


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"start": 3}, "clip has 3"),
        ({"stop": 4}, "clip has 3"),
        ({"reference": 3}, "clip has 3 frames"),
        ({"motion_channels": (1,)}, "the clip has 1"),
        ({"motion_channels": (-1,)}, "the clip has 1"),
        ({"device": "warp drive"}, "unknown device"),
        ({"axes": "TYXC"}, "do not fit"),
        ({"axes": "YXT"}, "T first"),
        ({"axes": "TYY"}, "each once"),
        ({"model": "no such model"}, "no such model"),
        ({"model": "missing.safetensors"}, "missing.safetensors"),
        ({"alpha": "much"}, "alpha"),
        ({"alpha": [[1, 2]]}, "alpha map"),
        ({"alpha": -2}, "alpha"),
        ({"alpha": 1e39}, "from 0 to 1,000,000"),
        ({"alpha": 2, "mask": np.ones((40, 56)), "outside": 1e39}, "from 0 to 1,000,000"),
        ({"reference": 1.5}, "reference 1.5: give a frame's number"),
    ],
)
def test_arguments_that_do_not_fit(clip, shift_magnifier, keywords, says):
    arguments = {"alpha": 2, "model": shift_magnifier, **keywords}
    with pytest.raises(FlowmagError, match=says) as error:
        magnify(clip, **arguments)
    assert "\n" not in str(error.value)


def test_what_a_model_cannot_do(clip, paint_magnifier):
    with pytest.raises(FlowmagError, match="motion channels cannot be chosen"):
        magnify(clip, 2, model=paint_magnifier, motion_channels=(0,))
    paint_magnifier.alpha_range = (1, 4)
    with pytest.raises(FlowmagError, match="cannot go below 1"):
        magnify(clip, 0, model=paint_magnifier)
    later = np.zeros(clip.shape, bool)
    later[2] = True
    frames = Counting(clip)
    with pytest.raises(FlowmagError, match="cannot go below 1"):
        magnify(frames, 0.5, model=paint_magnifier, mask=later)
    assert frames.read == []


def test_planes_and_back():
    frames = as_frames(np.arange(2 * 3 * 4 * 5 * 2).reshape(2, 3, 4, 5, 2), "TZYXC")
    np.testing.assert_array_equal(frames.frame(frames.planes(1)), frames.data[1])


# the paper's model, exact to the outputs of the authors' code


@pytest.mark.parametrize("name", ["even", "odd"])
@pytest.mark.parametrize(
    ("alpha", "key"),
    [(2, "alpha2"), (16, "alpha16"), (5, "masked_alpha5"), (64, "recursive_alpha64")],
)
def test_authors_model_through_the_engine(shared_fixtures, name, alpha, key):
    expected = np.load(shared_fixtures / "authors_unet_ndf8_io.npz")
    frames = np.moveaxis(expected[f"{name}_frames"], 1, -1)
    mask = expected[f"{name}_mask"] if "masked" in key else None
    magnified = magnify(
        frames,
        alpha,
        model=shared_fixtures / "authors_unet_ndf8.pth",
        mask=None if mask is None else mask.reshape(frames.shape[1:3]),
        value_range=(0, 1),
        axes="TYXS",
        start=2,
        stop=3,
    )
    exact = np.moveaxis(expected[f"{name}_{key}"], 0, -1)
    # Colours stay within the range of the clip, which the bare network may leave.
    np.testing.assert_allclose(magnified[0], exact, atol=1e-5)


# channels, depth, masks over time, stopping


def test_carriers_that_do_not_follow(texture, shift_magnifier):
    moving = texture([(0, 0), (0.3, 0), (0.5, 0.2)])
    still = np.repeat(moving[:1], 3, axis=0)
    frames = np.stack([still, moving, still], axis=-1)
    magnified = magnify(frames, 4, model=shift_magnifier, motion_channels=(1,), channels=(0,))
    np.testing.assert_array_equal(magnified[..., 1:], frames[..., 1:])
    # The frame is read where its motion leads: what stood still moves by (α - 1) times the motion.
    assert np.abs(magnified[1:, ..., 0] - frames[1:, ..., 0])[INNER].max() > 0.05


def test_painting_models_leave_other_channels_alone(clip, paint_magnifier):
    rgb = np.stack([clip, clip[:, ::-1], clip[:, :, ::-1]], axis=-1)
    whole = magnify(rgb, 2, model=paint_magnifier)
    part = magnify(rgb, 2, model=paint_magnifier, channels=(2, 0))
    np.testing.assert_array_equal(part[..., 1], rgb[..., 1])
    np.testing.assert_array_equal(part[..., [0, 2]], whole[..., [0, 2]])


def test_one_slice_of_a_clip_with_depth(texture, shift_magnifier):
    deep = np.stack([texture([(0, 0), (0.3 * z, 0.1)], seed=z) for z in (1, 2, 3)], axis=1)
    one = magnify(deep, 3, model=shift_magnifier, axes="TZYX", z=1)
    np.testing.assert_array_equal(one, magnify(deep[:, 1], 3, model=shift_magnifier))
    np.testing.assert_array_equal(
        one, magnify(da.from_array(deep), 3, model=shift_magnifier, axes="TZYX", z=1)
    )
    for z, line in ((3, "the clip has 3"), (0, "no depth")):
        frames, axes = (deep, "TZYX") if z else (deep[:, 0], "TYX")
        with pytest.raises(FlowmagError, match=line):
            magnify(frames, 3, model=shift_magnifier, axes=axes, z=z)


def test_each_frame_has_its_own_mask(clip, shift_magnifier):
    masks = np.zeros(clip.shape, np.uint8)
    masks[1, :, :30] = 1
    magnified = magnify(clip, 5, model=shift_magnifier, mask=masks)
    alone = magnify(clip, 5, model=shift_magnifier, mask=masks[1])
    np.testing.assert_array_equal(magnified[1], alone[1])
    np.testing.assert_array_equal(magnified[2], clip[2])  # nothing is selected in it


def test_value_range_is_not_read_again(clip, shift_magnifier):
    settings = MagnifySettings(3, model="in memory")
    first = Magnification(clip, settings, magnifier=shift_magnifier)
    expected = list(first.frames())
    read = []

    class Counted:
        shape, dtype = clip.shape, clip.dtype

        def __getitem__(self, index):
            read.append(index)
            return clip[index]

    second = Magnification(
        Counted(), settings, axes="TYX", magnifier=shift_magnifier, limits=first.limits
    )
    np.testing.assert_array_equal(second.frame(2), expected[2])
    assert sorted(set(read)) == [0, 2]


def test_stops_in_the_middle_of_a_network(clip):
    cancel = threading.Event()

    class Layer(torch.nn.Identity):
        calls = 0

        def forward(self, x):
            self.calls += 1
            cancel.set()
            return x

    model = FieldMagnifier()
    first, second = Layer(), Layer()
    model.late = second
    original = model.predict

    def predict(prepared, frame, alpha):
        second(first(frame))
        return original(prepared, frame, alpha)

    model.first, model.predict = first, predict
    job = Magnification(clip, MagnifySettings(3, model="in memory"), magnifier=model)
    with pytest.raises(Cancelled):
        job.frame(1, cancel)
    assert (first.calls, second.calls) == (1, 0)
    # The work can be done after all.
    assert job.frame(1).shape == clip[1].shape
