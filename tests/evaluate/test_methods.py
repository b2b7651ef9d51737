from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile

from napari_flowmag import magnify
from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.methods import (
    folder_method,
    make_methods,
    model_method,
    trivial_method,
)


@pytest.fixture
def sample(texture):
    frames = texture([(0, 0), (0.3, 0)], 40, 48)
    return Sample(np.round(4000 * frames).astype(np.uint16), value_range=(0, 5000))


@pytest.fixture
def cases(sample):
    case = Case("a-1", 4.0, lambda: sample)
    return CaseSet("waves", "Waves", "Waves.", "0", (case, Case("b-1", 4.0, lambda: sample)))


def test_a_model_magnifies_as_the_command_does(cases, sample):
    found = model_method("default", "cpu").magnify(cases, cases.cases[0], sample)
    expected = magnify(sample.frames, 4, value_range=(0, 5000), device="cpu")
    np.testing.assert_array_equal(found, expected)
    assert (found[1] != sample.frames[1]).any()


def test_the_right_answer_where_it_is_known(cases, sample):
    exact = trivial_method("exact")
    assert exact.magnify(cases, cases.cases[0], sample) is None
    known = Sample(sample.frames, truth=sample.frames.astype(np.float32))
    assert exact.magnify(cases, cases.cases[0], known) is known.truth


def test_doing_nothing(cases, sample):
    assert trivial_method("identity").magnify(cases, cases.cases[0], sample) is sample.frames


def test_what_another_program_made(cases, sample, tmp_path):
    made = sample.frames[::-1]
    (tmp_path / "waves").mkdir()
    tifffile.imwrite(tmp_path / "waves" / "a-1.tif", made, imagej=True, metadata={"axes": "TYX"})
    method = folder_method("mine", tmp_path)
    np.testing.assert_array_equal(method.magnify(cases, cases.cases[0], sample), made)
    # A task without an answer is none, and a name that begins alike is another task.
    assert method.magnify(cases, cases.cases[1], sample) is None
    assert method.magnify(cases, Case("a", 4.0, lambda: sample), sample) is None


def test_shares_for_a_task_of_counts_are_refused_and_counts_are_not(cases, sample, tmp_path):
    (tmp_path / "waves").mkdir()
    path = tmp_path / "waves" / "a-1.tif"
    path.touch()
    counts, method = sample.frames.astype(np.float32), folder_method("mine", tmp_path)
    for made in (counts / 5000, np.where(counts > 4000, np.nan, counts / 5000)):
        tifffile.imwrite(path, made.astype(np.float32), imagej=True, metadata={"axes": "TYX"})
        with pytest.raises(FlowmagError, match=r"a-1.tif: its values end at 1 .* white is 5000"):
            method.magnify(cases, cases.cases[0], sample)
    tifffile.imwrite(path, counts, imagej=True, metadata={"axes": "TYX"})
    np.testing.assert_array_equal(method.magnify(cases, cases.cases[0], sample), counts)
    dark = np.zeros(sample.frames.shape, np.uint16)  # whole numbers are read as they are
    tifffile.imwrite(path, dark, imagej=True, metadata={"axes": "TYX"})
    np.testing.assert_array_equal(method.magnify(cases, cases.cases[0], sample), dark)


def test_pictures_of_8_bits_for_frames_of_floats(cases, tmp_path):
    frames = np.random.default_rng(0).random((2, 24, 32, 3), dtype=np.float32)
    folder = tmp_path / "waves" / "a-1"
    folder.mkdir(parents=True)
    bytes_ = np.round(255 * frames).astype(np.uint8)
    for t, picture in enumerate(bytes_):
        tifffile.imwrite(folder / f"{t:04d}.tif", picture, photometric="rgb")
    found = folder_method("mine", tmp_path).magnify(cases, cases.cases[0], Sample(frames))
    np.testing.assert_allclose(found, bytes_ / 255, atol=1e-6)


def test_another_folder_or_model_has_another_key(tmp_path):
    (tmp_path / "one.txt").write_text("1")
    first = folder_method("mine", tmp_path).key
    (tmp_path / "two.txt").write_text("2")
    assert folder_method("mine", tmp_path).key != first
    assert model_method("default").key == model_method("default").key


@pytest.mark.parametrize(
    ("words", "names", "outputs"),
    [
        ("unknown model 'nobody'", ["nobody"], []),
        ("no such folder", [], [("mine", "missing")]),
        ("empty folder", [], [("mine", "")]),
        ("unknown program 'peer:nobody'", ["peer:nobody"], []),
        ("give the band as LOW-HIGH", ["peer:vidmag:fast"], []),
        ("give the band as LOW-HIGH", ["peer:vidmag:3-1"], []),
        ("two methods are called 'identity'", ["identity", "identity"], []),
    ],
)
def test_methods_that_cannot_be(words, names, outputs, tmp_path):
    with pytest.raises(FlowmagError, match=words):
        make_methods(names, [(name, tmp_path / folder) for name, folder in outputs])


def test_frames_of_another_size_are_named(cases, sample, tmp_path):
    (tmp_path / "waves").mkdir()
    tifffile.imwrite(
        tmp_path / "waves" / "a-1.tif",
        sample.frames[:, :30],
        imagej=True,
        metadata={"axes": "TYX"},
    )
    with pytest.raises(FlowmagError, match=r"a-1.tif: frames of shape \(2, 30, 48\)"):
        folder_method("mine", tmp_path).magnify(cases, cases.cases[0], sample)


@pytest.mark.parametrize("name", ["", "../a", "a/b", "a b", ".a"])
def test_names_of_tasks_are_names_of_files(name, sample):
    with pytest.raises(FlowmagError, match="letters, digits"):
        Case(name, 2.0, lambda: sample)


def test_a_model_is_called_what_the_user_calls_it():
    (method,) = make_methods(["mine=default"])
    assert (method.name, method.model) == ("mine", "default")
    assert method.key == make_methods(["default"])[0].key


@pytest.mark.parametrize(
    ("text", "name", "model"),
    [
        ("warp-bilinear:raft_large=raft.pth", "warp-bilinear:raft_large=raft.pth", ...),
        ("warp-bilinear:raft_large=a/raft.pth", "warp-bilinear:raft_large=raft.pth", ...),
        ("mine=warp-bilinear:raft_small=a/b=1.pth", "mine", "warp-bilinear:raft_small=a/b=1.pth"),
        ("mine=runs/lr=0.1/model.safetensors", "mine", "runs/lr=0.1/model.safetensors"),
        ("lr=0.1.safetensors", "lr=0.1.safetensors", ...),  # there is such a file
        ("phase=lucas-kanade:3", "phase", "lucas-kanade:3"),
    ],
)
def test_a_sign_of_equality_may_be_part_of_a_method(text, name, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=0.1.safetensors").touch()
    (method,) = make_methods([text])
    assert (method.name, method.model) == (name, text if model is ... else model)


@pytest.mark.parametrize(
    ("method", "file"),
    [
        ("warp-nearest", "flow_default.safetensors"),
        ("warp-bilinear:default", "flow_default.safetensors"),
        ("warp-bilinear:raft_large=raft.pth", "raft.pth"),
        ("warp-bilinear:mine.safetensors", "mine.safetensors"),
    ],
)
def test_another_flow_of_a_warp_has_another_key(method, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("napari_flowmag.checkpoint._WEIGHTS", tmp_path)
    (tmp_path / file).write_bytes(b"one")
    before = model_method(method).key
    assert model_method(method).key == before
    (tmp_path / file).write_bytes(b"two")
    assert model_method(method).key != before


@pytest.fixture
def asked(monkeypatch):
    """What the other program was asked for; it gives the frames in reverse."""
    from napari_flowmag.baselines import peers

    calls = []

    def run(name, frames, alpha, fps, band):
        calls.append((name, frames.dtype, float(frames.max()) <= 1, alpha, fps, band))
        return frames[::-1]

    monkeypatch.setattr(peers, "magnify_with_peer", run)
    return calls


def test_another_program_lets_pass_what_the_task_oscillates_at(cases, sample, asked):
    own, named = make_methods(["peer:vidmag", "peer:vidmag:4-6"])
    clip = Sample(np.repeat(sample.frames, 8, axis=0), sample.value_range, fps=20.0)
    known = replace(clip, band=(1.25, 3.75))  # 16 frames, one period of 1.25 Hz
    assert own.magnify(cases, cases.cases[0], clip) is None
    assert own.magnify(cases, cases.cases[0], known) is not None
    assert named.magnify(cases, cases.cases[0], known) is not None
    assert [call[-1] for call in asked] == [(1.25, 3.75), (4.0, 6.0)]
    # A frame fewer, and it is shorter than that.
    short = replace(known, frames=known.frames[1:])
    assert own.magnify(cases, cases.cases[0], short) is None
    assert len(asked) == 2


def test_another_program_runs_on_clips_long_enough(cases, sample, asked):
    (method,) = make_methods(["peer:vidmag:3-5"])
    assert method.magnify(cases, cases.cases[0], sample) is None
    clip = Sample(np.repeat(sample.frames, 4, axis=0), sample.value_range, fps=20.0)
    found = method.magnify(cases, cases.cases[0], clip)
    np.testing.assert_allclose(found, clip.frames[::-1], atol=0.01)
    assert asked == [("peer:vidmag", np.float32, True, 4.0, 20.0, (3.0, 5.0))]
    slow = Sample(clip.frames, sample.value_range, fps=8.0)
    assert method.magnify(cases, cases.cases[0], slow) is None
