"""What is compared: magnifiers by name, doing nothing, and folders of anybody's output frames."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.baselines import BASELINES, is_baseline
from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.keys import code_fingerprint, flow_weights, libraries, without_folder

Magnified = NDArray[Any]

IDENTITY = "identity"
"""The method that gives every frame back: what all others have to beat."""

EXACT = "exact"
"""The right answer where it is known: how good a figure can be on a task."""

_LONG = 8  # frames
_COUNTS = 100.0  # white of a task whose values are grey levels or counts, not shares

_TRIVIAL: dict[str, Callable[[Sample], Magnified | None]] = {
    IDENTITY: lambda sample: sample.frames,
    EXACT: lambda sample: sample.truth,
}

DEFAULT_METHODS = (
    "default",
    "warp-nearest:dis",
    "warp-bilinear:dis",
    "lucas-kanade",
    "linear",
    "phase",
    IDENTITY,
    EXACT,
)


@dataclass(frozen=True)
class Method:
    """Something that magnifies.

    Attributes
    ----------
    name
        As the user called it; heading of its column.
    key
        Changes when what it gives would: a hash of weights and code, or of a folder.
    magnify
        (set, case, sample) → frames in shape and values of the sample's; None where the method has
        no answer to this task.
    model
        What :func:`~napari_flowmag.models.load_magnifier` takes, where that is what magnifies: its
        speed can be measured.
    load
        What `magnify` would do first, but once: it is no part of a task's time.
    """

    name: str
    key: str
    magnify: Callable[[CaseSet, Case, Sample], Magnified | None]
    model: str | None = None
    load: Callable[[], object] = lambda: None


def make_methods(
    names: Sequence[str], outputs: Sequence[tuple[str, Path]] = (), device: str = "auto"
) -> list[Method]:
    """Make the methods of an evaluation; models are loaded when they first magnify.

    Parameters
    ----------
    names
        Each ``identity``, ``exact``, ``peer:PROGRAM`` (:func:`peer_method`), or what
        :func:`~napari_flowmag.models.load_magnifier` takes; ``NAME=MODEL`` calls it something else
        in the report.
    outputs
        (name, folder) of frames that other programs have magnified; see :func:`folder_method`.
    device
        Where models compute.

    Raises
    ------
    FlowmagError
        If a model or a folder does not exist, or two methods have the same name.
    """
    methods = []
    for text in names:
        title, name = _title(text)
        method = _make(name, device)
        methods.append(replace(method, name=title) if title else method)
    methods += [folder_method(name, folder) for name, folder in outputs]
    called = [method.name for method in methods]
    if twice := sorted({name for name in called if called.count(name) > 1}):
        raise FlowmagError(f"two methods are called '{twice[0]}': give each a name of its own")
    return methods


def _title(text: str) -> tuple[str, str]:
    """Split ``NAME=MODEL``; what is no more than a model has no name of its own.

    The option of a baseline may hold a sign of equality, as the path of a file may.
    """
    title, sign, name = text.partition("=")
    if not sign or is_baseline(text) or Path(text).is_file():
        return "", text
    return title, name


def _make(name: str, device: str) -> Method:
    if name in _TRIVIAL:
        return trivial_method(name)
    return peer_method(name) if name.startswith("peer:") else model_method(name, device)


def trivial_method(name: str) -> Method:
    """Return the method that changes nothing, or the one that knows the answer."""
    answer = _TRIVIAL[name]
    return Method(name, "1", lambda cases, case, sample: answer(sample))


def model_method(name: str, device: str = "auto") -> Method:
    """Return a magnifier as a method, run as ``flowmag magnify`` runs it.

    Parameters
    ----------
    name
        What :func:`~napari_flowmag.models.load_magnifier` takes.
    device
        Where it computes.
    """
    from napari_flowmag.models import find_model

    path = find_model(name)
    if path is None:
        weights = _weights_of_baseline(name)
    else:
        weights = path.read_bytes() if path.is_file() else b""
    key = _key(name.encode(), weights, libraries().encode())

    @functools.cache
    def load() -> Any:
        from napari_flowmag.models import load_magnifier

        return load_magnifier(name, device)

    def magnify(cases: CaseSet, case: Case, sample: Sample) -> Magnified:
        from napari_flowmag.magnify import magnify as run

        return run(sample.frames, case.alpha, model=load(), value_range=sample.value_range)

    title = without_folder(name) if is_baseline(name) else name
    return Method(title, key, magnify, model=name, load=load)


def _weights_of_baseline(name: str) -> bytes:
    plain, _, option = name.partition(":")
    return flow_weights(option or "default") if BASELINES[plain].option == "FLOW" else b""


def _key(*parts: bytes) -> str:
    return hashlib.sha256(b"".join([*parts, code_fingerprint().encode()])).hexdigest()


def peer_method(name: str) -> Method:
    """Return another program that is installed here as a method.

    It filters over time: it has no answer to tasks of fewer than eight frames, to those in which
    no frequency is known and none is named, nor to those that are too short for the band, or whose
    frame rate does not allow for it.

    Parameters
    ----------
    name
        A name of :data:`~napari_flowmag.baselines.peers.PEERS`, and perhaps a colon and the band
        that it lets pass, such as ``peer:pyeulervid:1-3``, which is in Hz; without it that of the
        task, :attr:`Sample.band`.

    Raises
    ------
    FlowmagError
        If there is no such program, or the band makes no sense.
    """
    from napari_flowmag.baselines.peers import PEERS, magnify_with_peer

    program, _, text = name.removeprefix("peer:").partition(":")
    program = f"peer:{program}"
    if program not in PEERS:
        raise FlowmagError(f"unknown program '{name}': give one of {', '.join(PEERS)}")
    named = _band(name, text) if text else None

    def magnify(cases: CaseSet, case: Case, sample: Sample) -> Magnified | None:
        band = named or sample.band
        if band is None or not _long_enough(sample, band):
            return None
        black, white = sample.value_range
        frames = (np.asarray(sample.frames, dtype=np.float32) - black) / (white - black)
        found = magnify_with_peer(program, frames.clip(0, 1), case.alpha, sample.fps, band)
        return black + (white - black) * found

    return Method(name, _key(name.encode()), magnify)


def _band(name: str, text: str) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in text.split("-"))
    except ValueError:
        low = high = 0.0
    if not 0 < low < high:
        raise FlowmagError(f"'{name}': give the band as LOW-HIGH in Hz, such as 1-3")
    return low, high


def _long_enough(sample: Sample, band: tuple[float, float]) -> bool:
    """Tell whether a clip holds a period of the lower end, and its frame rate the upper end."""
    low, high = band
    periods = low * len(sample.frames) / sample.fps
    enough = len(sample.frames) >= _LONG and round(periods, 6) >= 1
    return enough and high <= sample.fps / 2


def folder_method(name: str, folder: Path) -> Method:
    """Return as a method what another program has made of the tasks.

    Parameters
    ----------
    name
        What to call it.
    folder
        Holds ``SET/CASE``, a folder of frames, or ``SET/CASE.EXT``, a clip, in any format that
        flowmag reads: all frames of the task, the reference included. Tasks may be missing. Values
        are the task's, or, in whole numbers of another type than the task's, shares of the largest.

    Raises
    ------
    FlowmagError
        If there is no such folder.
    """
    if not folder.is_dir():
        raise FlowmagError(f"{name}={folder}: no such folder")
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if not files:
        raise FlowmagError(f"{name}={folder}: an empty folder; SET/CASE is looked for in it")
    marks = [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    key = hashlib.sha256(repr(marks).encode()).hexdigest()

    def magnify(cases: CaseSet, case: Case, sample: Sample) -> Magnified | None:
        place = folder / cases.name
        found = sorted(p for p in place.glob(f"{case.name}*") if _is_case(p, case.name))
        return _read(found[0], sample) if found else None

    return Method(name, key, magnify)


def _is_case(path: Path, name: str) -> bool:
    return path.name == name or (path.is_file() and path.stem == name)


def _read(path: Path, sample: Sample) -> Magnified:
    from napari_flowmag.io import read_clip

    clip = read_clip(path)
    frames = np.asarray(clip.frames)
    grey_as_colour = frames.ndim == 4 and sample.frames.ndim == 3
    if grey_as_colour:
        frames = frames[..., :3].mean(axis=-1)
    elif frames.ndim == 4:
        frames = frames[..., :3]
    if frames.shape != sample.frames.shape:
        raise FlowmagError(
            f"{path}: frames of shape {frames.shape}, but the task has {sample.frames.shape}"
        )
    low, high = sample.value_range
    if np.issubdtype(clip.frames.dtype, np.integer) and sample.frames.dtype != clip.frames.dtype:
        top = float(np.iinfo(clip.frames.dtype).max)
        return np.asarray(low + (high - low) * frames / top, dtype=np.float32)
    shares = (
        np.issubdtype(clip.frames.dtype, np.floating) and np.fmax.reduce(frames, axis=None) <= 1
    )
    if shares and high >= _COUNTS:
        raise FlowmagError(
            f"{path}: its values end at 1 or below, but white is {high:g} in this task: write the "
            "task's values, or whole numbers"
        )
    return np.asarray(frames)
