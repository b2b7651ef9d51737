"""What an output was made by and with, kept in its metadata."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_flowmag import __version__
from napari_flowmag.settings import MagnifySettings
from napari_flowmag.strength import Strength, Strengths

if TYPE_CHECKING:
    from torch import nn

    from napari_flowmag.engine import Engine
    from napari_flowmag.models.base import Magnifier


def file_sha256(path: Path) -> str:
    """Hash of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_sha256(module: nn.Module) -> str | None:
    """Hash of the weights of a network that is in memory, whatever file they came from.

    None where there are none.
    """
    digest = hashlib.sha256()
    state = module.state_dict()
    if not state:
        return None
    for name, value in state.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def model_sha256(magnifier: Magnifier) -> str | None:
    """Hash by which a magnifier is known: of its file, as long as it has the weights of that.

    Else of the weights in memory; None where there are none.
    """
    now = state_sha256(magnifier)
    file, weights = magnifier.loaded or (None, None)
    return file if file is not None and weights == now else now


def provenance(
    settings: MagnifySettings,
    engine: Engine,
    model_sha256: str | None,
    strength: Strength | Strengths,
    selected: range,
) -> dict[str, Any]:
    """Return a record, fit for JSON, of everything that decides what an output looks like.

    Parameters
    ----------
    settings : MagnifySettings
        What was asked for.
    engine : Engine
        The model, and how it computes.
    model_sha256 : str or None
        The model's hash, if it has weights.
    strength : Strength or Strengths
        Magnification and mask as used; of masks over time there is the hash of them all, as given,
        and the magnification and its passes in the first frame where there is any mask.
    selected : range
        The frames that are magnified.
    """
    typical = strength.typical(selected)
    mask = strength.masks if isinstance(strength, Strengths) else typical.mask
    return {
        "software": "flowmag",
        "version": __version__,
        "settings": settings.to_dict(),
        "model": {
            "name": settings.model,
            "architecture": engine.magnifier.architecture,
            "sha256": model_sha256,
        },
        "alpha": _summary(typical.alpha),
        "mask": None if mask is None else _summary(mask),
        "passes": engine.passes(typical),
        "device": str(engine.device),
        "precision": engine.precision,
        "tile": engine.tile,
        "batch": engine.batch,
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "numpy": version("numpy"),
        },
    }


def _summary(values: Any) -> Any:
    """Return a number as it is, a map as its hash."""
    array = np.asarray(values)
    if array.ndim == 0:
        return float(array)
    return {"shape": list(array.shape), "sha256": hashlib.sha256(array.tobytes()).hexdigest()}
