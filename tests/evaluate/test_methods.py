from __future__ import annotations

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


def test_another_program_runs_on_clips_long_enough(cases, sample, monkeypatch):
    from napari_flowmag.baselines import peers

    asked = []

    def run(name, frames, alpha, fps, band):
        asked.append((name, frames.dtype, float(frames.max()) <= 1, alpha, fps, band))
        return frames[::-1]

    monkeypatch.setattr(peers, "magnify_with_peer", run)
    (method,) = make_methods(["peer:vidmag:2-5"])
    assert method.magnify(cases, cases.cases[0], sample) is None
    clip = Sample(np.repeat(sample.frames, 4, axis=0), sample.value_range, fps=20.0)
    found = method.magnify(cases, cases.cases[0], clip)
    np.testing.assert_allclose(found, clip.frames[::-1], atol=0.01)
    assert asked == [("peer:vidmag", np.float32, True, 4.0, 20.0, (2.0, 5.0))]
    slow = Sample(clip.frames, sample.value_range, fps=8.0)
    assert method.magnify(cases, cases.cases[0], slow) is None
