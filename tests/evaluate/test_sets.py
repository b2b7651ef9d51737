from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.case import CaseSet, Sample
from napari_flowmag.evaluate.sets import case_sets, set_names
from napari_flowmag.evaluate.sets.subpixel import LEVELS

GENERATED = tuple(name for name in set_names() if name != "pairs")


def _set(name: str, *, quick: bool = True, seed: int = 0, **folders: Path) -> CaseSet:
    (made,) = case_sets([name], quick=quick, seed=seed, **folders)
    return made


@pytest.fixture(scope="module")
def samples() -> dict[str, Sample]:
    """The last task of each set, as quick as it gets."""
    return {name: _set(name).cases[-1].make() for name in GENERATED}


@pytest.mark.parametrize("name", GENERATED)
def test_a_seed_gives_the_same_bytes_twice(name: str, samples: dict[str, Sample]) -> None:
    again, other = (_set(name, seed=seed).cases[-1].make() for seed in (0, 1))
    first = samples[name]
    for field in ("frames", "truth", "motion", "moving", "still"):
        assert getattr(again, field).tobytes() == getattr(first, field).tobytes()
    assert other.frames.tobytes() != first.frames.tobytes()
    assert _set(name, seed=0).fingerprint != _set(name, seed=1).fingerprint


@pytest.mark.parametrize("name", GENERATED)
def test_what_is_known_of_a_sample_fits_together(name: str, samples: dict[str, Sample]) -> None:
    sample = samples[name]
    low, high = sample.value_range
    level = (high - low) / 255
    assert sample.frames.shape == sample.truth.shape
    assert sample.truth.dtype == np.float32
    count, height, width = sample.frames.shape[:3]
    assert sample.motion.shape == (count, 2, height, width)
    assert sample.motion.dtype == np.float32
    assert (sample.motion[0] == 0).all()
    assert np.abs(sample.motion[:, :, sample.moving]).max((0, 1)).min() > 0
    assert not (sample.moving & sample.still).any()
    assert 0.02 < sample.still.mean() < 0.95
    assert (sample.motion[:, :, sample.still] == 0).all()
    assert np.ptp(sample.truth[:, sample.still], axis=0).max() <= level
    moved = np.abs(sample.truth - sample.truth[0]).max(axis=0)[sample.moving]
    assert moved.mean() > 2 * level


@pytest.mark.parametrize("name", [n for n in GENERATED if n != "noise"])
def test_the_truth_begins_with_the_reference_but_for_noise(
    name: str, samples: dict[str, Sample]
) -> None:
    low, high = samples[name].value_range
    error = (samples[name].frames[0] - samples[name].truth[0]) / (high - low)
    assert abs(error.mean()) < 0.002
    assert error.std() < 6 / 255


def test_the_levels_of_the_papers_sets() -> None:
    subpixel, noise = case_sets(["subpixel", "noise"], quick=False)
    assert [case.level for case in subpixel.cases[::10]] == list(LEVELS)
    assert len(LEVELS) == 15
    assert all(case.alpha * case.level == pytest.approx(10) for case in subpixel.cases)
    factors = [case.level for case in noise.cases[::10]]
    assert len(factors) == 21
    np.testing.assert_allclose(factors, np.geomspace(0.01, 100, 21), rtol=0.01)
    assert all(5 <= case.alpha <= 40 for case in noise.cases)


@pytest.mark.parametrize("name", ["subpixel", "noise", "microscopy", "lines"])
def test_quick_tasks_are_tasks_of_the_whole_set(name: str) -> None:
    quick, whole = _set(name), _set(name, quick=False)
    assert quick.fingerprint == whole.fingerprint
    assert {case.name for case in quick.cases} < {case.name for case in whole.cases}
    twins = {case.name: case for case in whole.cases}
    for case in quick.cases:
        twin = twins[case.name]
        assert (twin.alpha, twin.level) == (case.alpha, case.level)
        assert twin.make.args == case.make.args  # samples follow from these alone


@pytest.mark.parametrize("name", ["known", "structure"])
def test_fewer_frames_are_not_taken_for_all_of_them(name: str) -> None:
    assert _set(name).fingerprint != _set(name, quick=False).fingerprint


@pytest.mark.parametrize("name", GENERATED)
def test_names_are_unique(name: str) -> None:
    names = [case.name for case in _set(name, quick=False).cases]
    assert len(set(names)) == len(names)


def test_photon_noise_grows_with_brightness_and_factor() -> None:
    strengths = {}
    for case in _set("noise").cases:
        sample = case.make()
        middling = (sample.truth[0] > 40) & (sample.truth[0] < 80)  # nothing saturates
        error = (sample.frames[0] - sample.truth[0])[middling]
        strengths[case.level] = (error**2 / sample.truth[0][middling]).mean()
    assert strengths[1.0] == pytest.approx(1, rel=0.05)
    assert strengths[0.01] < 0.05
    assert strengths[100.0] > 30


def test_noise_of_the_two_frames_differs() -> None:
    sample = _set("noise").cases[2].make()
    first, second = (sample.frames - sample.truth[:1])[:, sample.still]
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_dithering_keeps_motion_far_below_a_grey_level() -> None:
    sample = _set("subpixel").cases[0].make()
    change = sample.frames[1].astype(float) - sample.frames[0]
    assert set(np.unique(change[sample.still])) <= {-1, 0, 1}
    wanted = (sample.truth[1] - sample.truth[0])[sample.moving]
    assert (change[sample.moving] * wanted).mean() > 0


@pytest.fixture
def pair_folder(tmp_path: Path) -> Path:
    names = [f"{n} b.png" for n in range(3)]
    for side in ("frameA", "frameB"):
        (tmp_path / "test" / side).mkdir(parents=True)
        for n, name in enumerate(names):
            picture = np.full((20, 24, 3), 10 * n + (side == "frameB"), dtype=np.uint8)
            Image.fromarray(picture).save(tmp_path / "test" / side / name)
    (tmp_path / "test_fn.json").write_text(json.dumps(names))
    return tmp_path


def test_real_pairs(pair_folder: Path) -> None:
    made = _set("pairs", quick=False, pairs=pair_folder)
    assert len(made.cases) == 15
    assert [case.alpha for case in made.cases[:5]] == [2, 4, 10, 16, 64]
    sample = made.cases[-1].make()
    assert sample.frames.shape == (2, 20, 24, 3)
    assert sample.frames[:, 0, 0, 0].tolist() == [20, 21]
    assert sample.value_range == (0, 255)
    assert sample.truth is None
    with Image.open(pair_folder / "test/frameA/0 b.png") as image:
        image.resize((40, 40)).save(pair_folder / "test/frameA/0 b.png")
    with pytest.raises(FlowmagError, match="frameB"):
        _set("pairs", quick=False, pairs=pair_folder)


def test_a_pairs_fingerprint_is_that_of_its_files_contents(pair_folder: Path) -> None:
    before = _set("pairs", pairs=pair_folder).fingerprint
    for side in ("frameA", "frameB"):
        noise = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pair_folder / "test" / side / "0 b.png")
    noisy = _set("pairs", pairs=pair_folder).fingerprint
    assert noisy != before
    path = pair_folder / "test/frameB/0 b.png"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1  # beyond the picture; as large as before
    path.write_bytes(changed)
    assert _set("pairs", pairs=pair_folder).fingerprint != noisy


@pytest.mark.parametrize("name", ["known", "structure", "microscopy", "lines"])
def test_a_band_holds_the_frequency_of_the_motion(name: str) -> None:
    found = {}
    for case in _set(name, quick=False).cases[:: 3 if name != "lines" else 8]:
        sample = case.make()
        way = sample.motion[:, :, sample.moving].astype(np.float64)
        track = way[:, :, np.abs(way).sum((0, 1)).argmax()]
        strength = np.abs(np.fft.rfft(track - track.mean(0), axis=0)).sum(1)
        strongest = np.fft.rfftfreq(len(track), 1 / sample.fps)[strength.argmax()]
        kind = case.name.partition("-")[0]
        found[kind] = sample.band and sample.band[0] < strongest < sample.band[1]
    assert (
        found
        == {
            "known": {"whole": True, "disk": True, "noise": True, "ramp": None},
            "structure": {"mode1": True, "mode2": True, "mode3": True},
            "microscopy": {"beating": True, "drifting": None},
            "lines": {"1px": None, "1.5px": None, "2px": None, "3px": None},
        }[name]
    )


def test_bad_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(FlowmagError, match="no set 'real': choose from subpixel"):
        case_sets(["real"], quick=True)
    with pytest.raises(FlowmagError, match="twice"):
        case_sets(["known", "known"], quick=True)
    with pytest.raises(FlowmagError, match="seed"):
        case_sets(["known"], quick=True, seed=-1)
    with pytest.raises(FlowmagError, match="test_fn"):
        case_sets(["pairs"], quick=True)
    with pytest.raises(FlowmagError, match="test_fn"):
        case_sets(["pairs"], quick=True, pairs=tmp_path)
