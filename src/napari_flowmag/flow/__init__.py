"""Optical-flow estimators behind one call and one registry.

Every estimator is a module: ``flow(first, second)`` takes two (B, C, H, W) frames in [0, 1]
(C = 1 or 3, H and W from 16 px) and gives the motion from first to second in px, (B, 2, H, W)
with (dx, dy), on the first frame's grid: ``second(x + flow(x)) ≈ first(x)``. Gradients pass to
both frames unless its attribute ``differentiable`` is False; its weights are frozen.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    import torch
    from torch import nn

ARCHITECTURES = {
    "gauss_newton": "napari_flowmag.flow.gauss_newton:GaussNewtonFlow",
    "arflow": "napari_flowmag.flow.arflow:ARFlow",
    "raft": "napari_flowmag.flow.raft:RAFT",
}
"""Architectures that our own checkpoints may hold → class, imported only when asked for."""


@dataclass(frozen=True)
class FlowInfo:
    """An estimator that :func:`load_flow` knows by name.

    Attributes
    ----------
    name : str
        What to pass to :func:`load_flow`.
    description : str
        One line: what it is and where its weights come from.
    differentiable : bool
        Whether gradients pass through it, as the loss needs.
    factory : str
        ``"package.module:function"`` that makes it from the options.
    weights : str
        The option that takes a file of weights, which ``NAME=FILE`` sets; empty if none does.
    """

    name: str
    description: str
    differentiable: bool
    factory: str
    weights: str = ""


_ESTIMATORS = {
    info.name: info
    for info in (
        FlowInfo(
            "default",
            "learned-weight Gauss-Newton flow, bundled",
            True,
            "napari_flowmag.flow:_load_default",
        ),
        FlowInfo(
            "raft_large",
            "RAFT, the paper's weights (FlyingChairs, FlyingThings); downloaded by torchvision",
            True,
            "napari_flowmag.flow.raft:raft_large",
            "weights",
        ),
        FlowInfo(
            "raft_small",
            "RAFT, small (FlyingChairs, FlyingThings); downloaded by torchvision",
            True,
            "napari_flowmag.flow.raft:raft_small",
            "weights",
        ),
        FlowInfo(
            "arflow",
            "ARFlow's two-frame PWC-Lite; give its .tar as arflow=FILE",
            True,
            "napari_flowmag.flow.arflow:load_arflow",
            "path",
        ),
        FlowInfo(
            "spynet",
            "SPyNet, as in BasicVSR; give a .pth of BasicSR or MMagic as spynet=FILE",
            True,
            "napari_flowmag.flow.spynet:load_spynet",
            "path",
        ),
        FlowInfo(
            "lucas_kanade",
            "pyramidal Lucas-Kanade, no weights: accurate where there is texture",
            True,
            "napari_flowmag.flow.lucas_kanade:LucasKanadeFlow",
        ),
        FlowInfo(
            "dis",
            "OpenCV dense inverse search; for metrics, not for training",
            False,
            "napari_flowmag.flow.classical:DISFlow",
        ),
        FlowInfo(
            "farneback",
            "OpenCV Farnebäck; for metrics, not for training",
            False,
            "napari_flowmag.flow.classical:FarnebackFlow",
        ),
        FlowInfo(
            "ptlflow:NAME",
            'networks of the package ptlflow (pwcnet, gmflow, …): pip install "flowmag[ptlflow]"',
            True,
            "napari_flowmag.flow.ptlflow:load_ptlflow",
            "checkpoint",
        ),
    )
}

_READERS = {
    ".safetensors": "napari_flowmag.flow:_load_own",
    ".tar": "napari_flowmag.flow.arflow:load_arflow",
}


def available_flows() -> list[FlowInfo]:
    """Estimators that :func:`load_flow` knows by name."""
    return list(_ESTIMATORS.values())


def load_flow(
    name_or_path: str | Path, device: str | torch.device = "cpu", **options: Any
) -> nn.Module:
    """Load an optical-flow estimator, frozen and in evaluation mode.

    Parameters
    ----------
    name_or_path : str or Path
        A name of :func:`available_flows`, with ``=FILE`` for weights that are not to be
        downloaded (``"raft_large=raft.pth"``), or the path of a flowmag checkpoint
        (``.safetensors``) or of ARFlow's weights (``.tar``).
    device : str or torch.device
        Where it computes; ``auto`` takes a GPU if there is one.
    **options
        Of the estimator, such as ``updates`` of RAFT.

    Returns
    -------
    nn.Module
        ``flow(first, second)``, see the module's description.

    Raises
    ------
    FlowmagError
        If there is no such estimator, its weights or package are missing, or it has no such
        option.
    """
    from napari_flowmag.checkpoint import import_from
    from napari_flowmag.device import resolve_device

    location, arguments, weights = _resolve(name_or_path)
    factory = import_from(location)
    options |= weights
    try:
        inspect.signature(factory).bind(*arguments, **options)
        module = cast("nn.Module", factory(*arguments, **options))
    except (TypeError, ValueError) as error:
        raise FlowmagError(f"options of flow '{name_or_path}': {error}") from error
    return module.to(resolve_device(device)).eval().requires_grad_(False)


def _resolve(name_or_path: str | Path) -> tuple[str, tuple[Any, ...], dict[str, Path]]:
    """Find the function that makes the estimator, what it is called with, and its weights."""
    path = Path(name_or_path)
    name, equals, file = str(name_or_path).partition("=")
    name, _, variant = name.partition(":")
    if variant:
        name = f"{name}:NAME"
    info = _ESTIMATORS.get(name)
    if info is None or (equals and not file):
        if path.suffix in _READERS:
            return _READERS[path.suffix], (path,), {}
        raise FlowmagError(
            f"unknown flow '{name_or_path}': give one of {', '.join(_ESTIMATORS)}, with =FILE for "
            f"weights of your own, or the path of a {' or '.join(_READERS)} file"
        )
    if equals and not info.weights:
        raise FlowmagError(f"flow '{name_or_path}': {info.name} takes no file of weights")
    weights = {info.weights: Path(file)} if equals else {}
    return info.factory, (variant,) if variant else (), weights


def _load_default() -> nn.Module:
    from napari_flowmag.checkpoint import bundled_path

    path = bundled_path("flow", "default")
    if not path.is_file():
        raise FlowmagError(f"the bundled flow is missing from this installation ({path})")
    return _load_own(path)


def _load_own(path: Path) -> nn.Module:
    from napari_flowmag.checkpoint import build, read_checkpoint

    return build(read_checkpoint(path, "flow"), ARCHITECTURES)
