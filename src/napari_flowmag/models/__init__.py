"""Magnifiers behind one protocol (:mod:`~napari_flowmag.models.base`) and one registry.

The bundled models, files of weights, and the methods of :mod:`napari_flowmag.baselines`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from napari_flowmag.baselines import BASELINES, is_baseline, make_baseline
from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import torch

    from napari_flowmag.models.base import Magnifier

ARCHITECTURES = {
    "field": "napari_flowmag.models.field:FieldMagnifier",
    "oh": "napari_flowmag.baselines.oh:OhMagnifier",
    "unet": "napari_flowmag.models.unet:UNetMagnifier",
}
"""Architecture → class, imported only when asked for."""

_READERS = {
    ".safetensors": "napari_flowmag.models:_read_own",
    ".pth": "napari_flowmag.models.unet:read_authors_checkpoint",
    ".tar": "napari_flowmag.baselines.oh:read_published_weights",
}


@dataclass(frozen=True)
class ModelInfo:
    """A magnifier that :func:`load_magnifier` knows by name.

    Attributes
    ----------
    name : str
        What to pass to :func:`load_magnifier`.
    architecture : str
        What it is; of a file, a key in :data:`ARCHITECTURES`.
    params : int
        Number of learnt parameters in its file.
    sha256 : str or None
        Hash of its file.
    description : str
        One line.
    path : Path or None
        Its file; None for a method without one.
    baseline : bool
        Whether it is here to compare with.
    source : str
        Where a baseline was published.
    option : str
        What may follow a baseline's name and a colon.
    """

    name: str
    architecture: str
    params: int
    sha256: str | None
    description: str
    path: Path | None
    baseline: bool = False
    source: str = ""
    option: str = ""


def available_models() -> list[ModelInfo]:
    """Magnifiers that ship with the package: the bundled ones, then the baselines."""
    from napari_flowmag.checkpoint import (
        build,
        bundled_names,
        bundled_path,
        read_checkpoint,
    )

    infos = []
    for name in bundled_names("magnifier"):
        checkpoint = read_checkpoint(bundled_path("magnifier", name), "magnifier")
        module = build(checkpoint, ARCHITECTURES)
        infos.append(
            ModelInfo(
                name=name,
                architecture=checkpoint.architecture,
                params=sum(p.numel() for p in module.parameters()),
                sha256=checkpoint.sha256,
                description=str(checkpoint.training.get("description", "")),
                path=checkpoint.path,
            )
        )
    return infos + [
        ModelInfo(
            name=b.name,
            architecture=b.name,
            params=0,
            sha256=None,
            description=b.description,
            path=None,
            baseline=True,
            source=b.source,
            option=b.option,
        )
        for b in BASELINES.values()
    ]


def find_model(name_or_path: str | Path) -> Path | None:
    """Where the weights of a magnifier are.

    Parameters
    ----------
    name_or_path : str or Path
        As for :func:`load_magnifier`.

    Returns
    -------
    Path or None
        None for a baseline, which has no file.

    Raises
    ------
    FlowmagError
        If there is no such model.
    """
    from napari_flowmag.checkpoint import bundled_names, bundled_path

    path, name = Path(name_or_path), str(name_or_path)
    bundled = bundled_names("magnifier")
    if name in bundled:
        return bundled_path("magnifier", name)
    # Before the suffix: the option of a baseline may be the path of a flow.
    if is_baseline(name):
        return None
    if path.suffix in _READERS:
        return path
    raise FlowmagError(
        f"unknown model '{name}': give one of {', '.join([*bundled, *BASELINES])} "
        f"or the path of a {', '.join(_READERS)} file"
    )


def load_magnifier(name_or_path: str | Path, device: str | torch.device = "auto") -> Magnifier:
    """Load a magnifier, ready to use.

    Parameters
    ----------
    name_or_path : str or Path
        ``default`` (bundled), the path of a flowmag checkpoint (``.safetensors``), of one
        of the paper's authors (``.pth``) or of published weights of Oh et al.'s network
        (``.tar``), or a baseline such as ``phase`` or ``warp-bilinear:dis``.
    device : str or torch.device
        ``auto`` takes a GPU if there is one.

    Returns
    -------
    Magnifier
        In evaluation mode: ``magnifier(reference, frame, alpha)`` with frames (B, C, H, W)
        in [0, 1] and alpha (B,) or (B, 1, H, W) gives (B, C, H, W).

    Raises
    ------
    FlowmagError
        If there is no such model or its file cannot be used.
    """
    from napari_flowmag.checkpoint import import_from
    from napari_flowmag.device import resolve_device
    from napari_flowmag.provenance import file_sha256, state_sha256

    path = find_model(name_or_path)
    if path is None:
        module = make_baseline(str(name_or_path))
    else:
        module = cast("Magnifier", import_from(_READERS[path.suffix])(path))
        module.loaded = file_sha256(path), state_sha256(module) or ""
    return module.to(resolve_device(device)).eval()


def _read_own(path: Path) -> Magnifier:
    from napari_flowmag.checkpoint import build, read_checkpoint

    return cast("Magnifier", build(read_checkpoint(path, "magnifier"), ARCHITECTURES))
