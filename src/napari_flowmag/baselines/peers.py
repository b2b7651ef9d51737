"""Other people's programs for magnifying motion, where they are installed.

They filter over time and so need whole clips: they are no magnifiers of pairs of frames but one
function of a clip. Each runs in a Python of its own, whose packages need not fit ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import FlowmagError

PYTHON = "FLOWMAG_PEERS_PYTHON"
"""Environment variable that names the Python in which they are installed; without it ours."""


@dataclass(frozen=True)
class Peer:
    """A program to compare with.

    Attributes
    ----------
    name : str
        What to pass to :func:`magnify_with_peer`.
    description : str
        One line.
    package : str
        What to install.
    python : str
        Python that it needs.
    script : str
        Runs in that Python, with the arguments input, output, α, fps, and both ends of the band.
        The files hold (T, H, W, 3) float32 in [0, 1].
    """

    name: str
    description: str
    package: str
    python: str
    script: str


_READ = """
import sys
import numpy as np
source, target = sys.argv[1:3]
alpha, fps, low, high = map(float, sys.argv[3:])
frames = np.load(source)
"""

# Both add the filtered motion, enlarged, to the motion that is there: α - 1 more of it.
_PYEULERVID = f"""
from pyevm import PhaseMagnifier
import torch
{_READ}
magnifier = PhaseMagnifier(factor=alpha - 1, freq_low=low, freq_high=high)
found = magnifier.process(torch.from_numpy(frames).movedim(-1, 1), fps)
np.save(target, found.movedim(1, -1).numpy())
"""

_VIDMAG = f"""
from vidmag import magnify
{_READ}
blue_first = np.ascontiguousarray(np.rint(frames[..., ::-1] * 255).astype(np.uint8))
more = dict(alpha=alpha - 1, fl=low, fh=high)
found = magnify(blue_first, preset="motion_phase", backend="cpu", fps=fps, **more)
np.save(target, (found[..., ::-1] / 255).astype(np.float32))
"""

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "peer:pyeulervid",
            "phase-based, with a band of frequencies (Wadhwa et al., SIGGRAPH 2013)",
            "pyeulervid",
            "3.12",
            _PYEULERVID,
        ),
        Peer(
            "peer:vidmag",
            "phase-based, with a band of frequencies, 8 bit (Wadhwa et al., SIGGRAPH 2013)",
            "vidmag",
            "3.9",
            _VIDMAG,
        ),
    )
}
"""Name → program."""


def magnify_with_peer(
    name: str, frames: ArrayLike, alpha: float, fps: float, band: tuple[float, float]
) -> NDArray[np.float32]:
    """Magnify the motion in a clip with another program.

    Parameters
    ----------
    name : str
        One of :data:`PEERS`.
    frames : array-like
        (T, H, W) or (T, H, W, 3) in [0, 1].
    alpha : float
        Motion within the band comes out this many times as large.
    fps : float
        Frames per second.
    band : (float, float)
        Lowest and highest frequency in Hz.

    Returns
    -------
    ndarray
        In the shape of `frames`.

    Raises
    ------
    FlowmagError
        If there is no such program, it is not installed, or it fails.
    """
    if name not in PEERS:
        raise FlowmagError(f"unknown program '{name}': give one of {', '.join(PEERS)}")
    clip = np.asarray(frames, dtype=np.float32)
    if clip.ndim not in (3, 4) or (clip.ndim == 4 and clip.shape[-1] != 3):
        raise FlowmagError(f"a clip of shape {clip.shape}: give (T, H, W) or (T, H, W, 3)")
    low, high = band
    if not (fps > 0 and 0 < low < high <= fps / 2):
        raise FlowmagError(
            f"band {low:g} to {high:g} Hz at {fps:g} frames/s: give two rising numbers above 0, "
            "up to half the frame rate"
        )
    colour = clip if clip.ndim == 4 else np.repeat(clip[..., None], 3, axis=-1)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.npy", Path(folder) / "target.npy"
        np.save(source, np.ascontiguousarray(colour))
        numbers = [repr(float(number)) for number in (alpha, fps, low, high)]
        _run(PEERS[name], [str(source), str(target), *numbers])
        found = _result(name, target, colour.shape)
    return found if clip.ndim == 4 else found.mean(axis=-1)


def _run(peer: Peer, arguments: list[str]) -> None:
    python = os.environ.get(PYTHON) or sys.executable
    try:
        done = subprocess.run(
            [python, "-c", peer.script, *arguments], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise FlowmagError(f"cannot run {python} ({PYTHON}): {error.strerror}") from error
    if done.returncode == 0:
        return
    last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
    if last.startswith("ModuleNotFoundError"):
        raise FlowmagError(
            f"{peer.name} is not installed for {python} ({last}): install {peer.package} for "
            f"Python {peer.python} or newer, and name that Python in {PYTHON}"
        )
    raise FlowmagError(f"{peer.name} failed: {last[:300]}")


def _result(name: str, path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise FlowmagError(f"{name} failed: it left no frames") from error
    if found.shape != shape or not np.isfinite(found).all():
        raise FlowmagError(
            f"{name} failed: its frames have shape {found.shape}, not {shape}, or are not finite"
        )
    return np.asarray(found, dtype=np.float32)
