from __future__ import annotations

import csv
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_flowmag.errors import FlowmagError
from napari_flowmag.measure import UnmeasurableError
from napari_flowmag.motion import Motion, measure_motion, regions_of, write_motion


@given(
    frequency=st.floats(2.0, 12.0),
    amplitude=st.floats(0.05, 3.0),
    angle=st.floats(0, 3.1),
    count=st.integers(48, 120),
)
def test_the_frequency_of_a_sinusoid_in_any_direction(frequency, amplitude, angle, count):
    time = np.arange(count) / 30
    swing = amplitude * np.sin(2 * np.pi * frequency * time + 1)
    moved = np.stack([np.cos(angle) * swing + 0.3, np.sin(angle) * swing], axis=1)
    found, height = Motion(1, moved, 30.0).frequency()
    assert found == pytest.approx(frequency, abs=0.15 * 30 / count)
    assert height == pytest.approx(amplitude, rel=0.05)


@pytest.mark.parametrize(("count", "fps", "scale"), [(7, 30.0, 1), (40, None, 1), (40, 30.0, 0)])
def test_no_frequency_where_none_can_be_known(count, fps, scale):
    moved = scale * np.random.default_rng(0).standard_normal((count, 2))
    assert Motion(0, moved, fps).frequency() is None


@pytest.mark.parametrize("count", [8, 16, 100])
@pytest.mark.parametrize("phase", [0, 1, 2, 3])
def test_no_frequency_where_a_sinusoid_meets_its_mirror_image(count, phase):
    time = np.arange(count) / count
    for frequency in (0.5, 1, count / 2 - 1, count / 2 - 0.5):
        swing = 0.3 * np.sin(2 * np.pi * frequency * time + phase)
        assert Motion(1, np.stack([swing, 0 * swing], 1), float(count)).frequency() is None
    drift = np.stack([time, 0 * time], 1)
    assert Motion(1, drift, float(count)).frequency() is None


def test_a_clip_is_read_once_and_not_held(texture):
    shifts = [(0.3 * np.sin(t), 0) for t in range(40)]
    pictures, alive = texture(shifts, 48, 48), []

    def frames():
        for picture in pictures:
            frame = picture.copy()
            alive.append(weakref.ref(frame))
            yield frame
            del frame
            assert sum(seen() is not None for seen in alive) < 20

    mask = np.zeros((48, 48), np.uint8)
    mask[:, :24], mask[:, 24:] = 1, 2
    one, two = measure_motion(pictures[0], frames(), mask, search=4)
    for motion in (one, two):
        np.testing.assert_allclose(motion.displacement[:, 0], np.array(shifts)[:, 0], atol=0.02)


def test_each_region_has_its_own_motion(texture):
    left = texture([(0, 0), (0.4, 0), (-0.2, 0.1)], 64, 64, seed=1)
    right = texture([(0, 0), (0, 0.3), (0, -0.3)], 64, 64, seed=2)
    frames = np.concatenate([left, right], axis=2)
    mask = np.zeros((64, 128), np.uint8)
    mask[:, :56], mask[:, 72:] = 3, 7
    three, seven = measure_motion(frames[0], frames, mask, fps=10.0, search=4)
    assert (three.label, seven.label) == (3, 7)
    np.testing.assert_allclose(three.displacement, [(0, 0), (0.4, 0), (-0.2, 0.1)], atol=0.01)
    np.testing.assert_allclose(seven.displacement, [(0, 0), (0, 0.3), (0, -0.3)], atol=0.01)
    assert seven.largest == pytest.approx(0.3, abs=0.01)


def test_masks():
    assert regions_of(None) == {0: None}
    weights = np.array([[[0.0, 0.5]]])
    assert {k: v.tolist() for k, v in regions_of(weights).items()} == {1: [[False, True]]}
    with pytest.raises(FlowmagError, match="the mask is empty"):
        regions_of(np.zeros((3, 3), int))
    with pytest.raises(FlowmagError, match="a mask of one picture"):
        regions_of(np.ones((2, 3, 3), int))


def test_a_table_in_the_units_of_the_clip(tmp_path):
    path = tmp_path / "motion.csv"
    motions = [Motion(2, np.array([(0, 0), (1, -2)], float), 4.0)]
    write_motion(path, motions, start=8, size=0.5, unit="µm")
    rows = list(csv.reader(path.read_text("utf-8").splitlines()))
    assert rows[0] == ["region", "frame", "time (s)", "dx (µm)", "dy (µm)"]
    assert rows[2] == ["2", "9", "2.25", "0.5", "-1"]
    with pytest.raises(FlowmagError, match=r"ends in \.csv"):
        write_motion(tmp_path / "motion.xls", motions)


def test_a_frame_that_cannot_be_measured_is_named_with_its_region():
    picture = np.random.default_rng(0).random((40, 60))
    mask = np.zeros((40, 60), int)
    mask[4:30, 4:24], mask[4:30, 30:54] = 1, 2
    dark = picture.copy()
    dark[:, 24:] = 0
    with pytest.raises(UnmeasurableError, match="region 2, frame 11: "):
        measure_motion(picture, [picture, dark], mask, search=4, start=10)
    smooth = gaussian_filter(picture, 3)  # its negative is like it nowhere near
    with pytest.raises(UnmeasurableError, match=r"frame 1: .*resembles"):
        measure_motion(smooth, [smooth, -smooth], search=1)
