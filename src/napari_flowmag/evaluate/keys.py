"""What results depend on besides their tasks: flowmag's code, other libraries, flows' weights."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ELSEWHERE = ("cli", "_qt", "train", "adapt", "io", "segment")
_NEVERTHELESS = ("train/data.py",)  # reads the frame pairs of the set `pairs`
_REPORTS = ("cost", "pictures", "published", "report", "run", "store", "summary")
_LIBRARIES = (
    "torch",
    "torchvision",
    "ptlflow",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""They hold the flows that are not flowmag's own, and choose the weights that they download."""


@functools.cache
def code_fingerprint() -> str:
    """Return a hash of all code of flowmag's that decides about magnified frames and figures."""
    digest = hashlib.sha256()
    for place, path in deciding_files().items():
        digest.update(place.encode() + path.read_bytes())
    return digest.hexdigest()


def deciding_files() -> dict[str, Path]:
    """Return the files that do, by their places in the package."""
    import napari_flowmag

    root = Path(napari_flowmag.__file__).parent
    found = {}
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        elsewhere = place.parts[0] in _ELSEWHERE or place.parts[0].startswith("_")
        in_evaluate = place.parts[:-1] == ("evaluate",)  # not its folder of sets
        reports = in_evaluate and place.stem.split("_")[0] in _REPORTS
        if place.as_posix() in _NEVERTHELESS or not (elsewhere or reports):
            found[place.as_posix()] = path
    return found


def libraries() -> str:
    """Return names and versions of the installed libraries that flows come from."""
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def flow_weights(flow: str) -> bytes:
    """Return the file that :func:`~napari_flowmag.flow.load_flow` would read its weights from.

    Parameters
    ----------
    flow
        What that takes: a name, ``NAME=FILE``, or the path of a file.

    Returns
    -------
    bytes
        Empty where it reads none, or the flow's own package keeps or downloads them.
    """
    from napari_flowmag.checkpoint import bundled_path

    file = Path(flow.partition("=")[2] or flow)
    path = bundled_path("flow", flow) if flow == "default" else file
    return path.read_bytes() if path.is_file() else b""


def without_folder(name: str) -> str:
    """Return what a flow or a baseline with weights from disk, ``NAME=FILE``, is called by."""
    plain, sign, file = name.partition("=")
    return f"{plain}={Path(file).name}" if sign else name
