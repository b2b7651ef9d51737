"""Adapters of other programs, run on a stand-in for each program's package."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from napari_flowmag import FlowmagError
from napari_flowmag.baselines.peers import PEERS, PYTHON, magnify_with_peer

BAND = (1.0, 3.0)

# What the adapters call, as the packages document it: frames come back brighter by what was asked.
STAND_INS = {
    "pyevm": """
import torch
class PhaseMagnifier:
    def __init__(self, factor, freq_low, freq_high):
        self.more = 0.01 * factor + 0.001 * freq_low + 0.0001 * freq_high
    def process(self, frames, fps):
        assert frames.dtype == torch.float32 and frames.shape[1] == 3
        return frames + self.more + 0.00001 * fps
""",
    "vidmag": """
import numpy as np
def magnify(video, *, preset, backend, fps, alpha, fl, fh):
    assert video.dtype == np.uint8 and video.shape[-1] == 3 and preset == "motion_phase"
    assert (fps, alpha, fl, fh) == (30.0, 4.0, 1.0, 3.0) and backend == "cpu"
    out = video.copy()
    out[..., 0] += 50  # blue comes first
    return out
""",
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of packages that the other Python finds."""
    for name, content in STAND_INS.items():
        (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv(PYTHON, raising=False)
    return tmp_path


@pytest.fixture
def clip() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.5, (4, 12, 14, 3)).astype(np.float32)


@pytest.mark.usefixtures("installed")
def test_pyeulervid_gets_the_clip_and_the_settings(clip: np.ndarray) -> None:
    more = 0.04 + 0.001 + 0.0003 + 0.0003
    for frames in (clip, clip[..., 0]):
        found = magnify_with_peer("peer:pyeulervid", frames, 5, 30, BAND)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, frames + more, atol=1e-6)


@pytest.mark.usefixtures("installed")
def test_vidmag_gets_the_clip_blue_first(clip: np.ndarray) -> None:
    found = magnify_with_peer("peer:vidmag", clip, 5, 30, BAND)
    np.testing.assert_allclose(found[..., :2], clip[..., :2], atol=0.51 / 255)
    np.testing.assert_allclose(found[..., 2], clip[..., 2] + 50 / 255, atol=0.51 / 255)


@pytest.mark.parametrize("name", PEERS)
def test_absent_programs_say_what_to_install(
    name: str, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "pyevm" if "pyeulervid" in name else "vidmag"
    # Whatever is installed here: a module that hides it.
    (tmp_path / f"{module}.py").write_text(
        f"raise ModuleNotFoundError('No module named {module!r}')".replace(
            "'" + module + "'", module
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FlowmagError, match=f"{name} is not installed.*{PYTHON}") as error:
        magnify_with_peer(name, clip, 5, 30, BAND)
    assert PEERS[name].package in str(error.value)
    assert "\n" not in str(error.value)


def test_another_python_can_be_named(
    clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON, str(tmp_path / "nothing"))
    with pytest.raises(FlowmagError, match=r"cannot run .*nothing"):
        magnify_with_peer("peer:vidmag", clip, 5, 30, BAND)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\ncp "$3" "$4"; echo "$5 $6 $7 $8" > {tmp_path}/said\n')
    script.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(script))
    found = magnify_with_peer("peer:vidmag", clip, 5, 30, BAND)
    np.testing.assert_array_equal(found, clip)
    assert (tmp_path / "said").read_text().split() == ["5.0", "30.0", "1.0", "3.0"]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo first >&2; echo 'ValueError: too short' >&2; exit 1", "failed: ValueError: too sh"),
        ("exit 3", "exit status 3"),
        ("exit 0", "it left no frames"),
        ("echo nonsense > $4", "it left no frames"),
        (
            f'{sys.executable} -c "import numpy, sys; numpy.save(sys.argv[1], [1.0])" $4',
            r"its frames have shape \(1,\)",
        ),
    ],
)
def test_failures_are_told_in_one_line(
    script: str, says: str, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv(PYTHON, str(path))
    with pytest.raises(FlowmagError, match=says) as error:
        magnify_with_peer("peer:pyeulervid", clip, 5, 30, BAND)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "shape", "fps", "band", "says"),
    [
        ("peer:other", (2, 4, 4), 30, BAND, "unknown program 'peer:other': give one of peer:py"),
        ("peer:vidmag", (4, 4), 30, BAND, r"shape \(4, 4\)"),
        ("peer:vidmag", (2, 4, 4, 2), 30, BAND, r"shape \(2, 4, 4, 2\)"),
        ("peer:vidmag", (2, 4, 4), 0, BAND, "0 frames/s"),
        ("peer:vidmag", (2, 4, 4), 30, (3, 1), "band 3 to 1 Hz"),
        ("peer:vidmag", (2, 4, 4), 5, BAND, "up to half the frame rate"),
    ],
)
def test_what_makes_no_sense_is_refused(
    name: str, shape: tuple[int, ...], fps: float, band: tuple[float, float], says: str
) -> None:
    with pytest.raises(FlowmagError, match=says):
        magnify_with_peer(name, np.zeros(shape), 5, fps, band)
