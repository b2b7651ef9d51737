"""Magnifiers behind one protocol (:mod:`~napari_flowmag.models.base`) and one registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

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
}


@dataclass(frozen=True)
class ModelInfo:
    """A magnifier that :func:`load_magnifier` knows by name.

    Attributes
    ----------
    name : str
        What to pass to :func:`load_magnifier`.
    architecture : str
        Key in :data:`ARCHITECTURES`.
    params : int
        Number of learnt parameters.
    sha256 : str
        Hash of its file.
    description : str
        One line.
    path : Path
        Its file.
    """

    name: str
    architecture: str
    params: int
    sha256: str
    description: str
    path: Path


def available_models() -> list[ModelInfo]:
    """Magnifiers that ship with the package."""
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
    return infos


def find_model(name_or_path: str | Path) -> Path:
    """Where the weights of a magnifier are.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a bundled model (``default``) or path of a ``.safetensors`` or ``.pth`` file.

    Raises
    ------
    FlowmagError
        If there is no such model.
    """
    from napari_flowmag.checkpoint import bundled_names, bundled_path

    path = Path(name_or_path)
    if path.suffix in _READERS:
        return path
    names = bundled_names("magnifier")
    if str(name_or_path) not in names:
        raise FlowmagError(
            f"unknown model '{name_or_path}': give one of {', '.join(names) or '(none bundled)'} "
            f"or the path of a {' or '.join(_READERS)} file"
        )
    return bundled_path("magnifier", str(name_or_path))


def load_magnifier(name_or_path: str | Path, device: str | torch.device = "auto") -> Magnifier:
    """Load a magnifier, ready to use.

    Parameters
    ----------
    name_or_path : str or Path
        ``default`` (bundled), the path of a flowmag checkpoint (``.safetensors``) or of one
        of the paper's authors (``.pth``).
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

    path = find_model(name_or_path)
    module = cast("Magnifier", import_from(_READERS[path.suffix])(path))
    return module.to(resolve_device(device)).eval()


def _read_own(path: Path) -> Magnifier:
    from napari_flowmag.checkpoint import build, read_checkpoint

    return cast("Magnifier", build(read_checkpoint(path, "magnifier"), ARCHITECTURES))
