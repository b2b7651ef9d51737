"""Any network of the ptlflow package (PWC-Net, GMFlow, …), for metrics by flows not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_flowmag.checkpoint import read_weights
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.frames import to_rgb


class PTLFlow(nn.Module):
    """Adapter: ptlflow's networks take BGR pairs in [0, 1] and pad by themselves.

    Parameters
    ----------
    network : nn.Module
        From ``ptlflow.get_model``.
    """

    differentiable = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Estimate the motion from ``first`` to ``second``.

        Parameters
        ----------
        first, second : Tensor
            (B, C, H, W) in [0, 1].

        Returns
        -------
        Tensor
            (B, 2, H, W) px.
        """
        images = torch.stack([to_rgb(first).flip(1), to_rgb(second).flip(1)], 1)
        flows: Tensor = self.network({"images": images})["flows"]
        return flows[:, 0]


def load_ptlflow(name: str, checkpoint: str | Path | None = "things") -> PTLFlow:
    """Load a network of ptlflow.

    Parameters
    ----------
    name : str
        ptlflow's name: ``pwcnet``, ``gmflow``, ….
    checkpoint : str or Path or None
        ptlflow's name of its weights, downloaded on first use; a Path: a file of weights, of
        ptlflow or of the network's authors; None: random.

    Raises
    ------
    FlowmagError
        If ptlflow is not installed, or has no such network or weights, or they cannot be
        downloaded, read or do not fit.
    """
    ptlflow = _ptlflow()
    published = None if isinstance(checkpoint, Path) else checkpoint
    try:
        network = ptlflow.get_model(name, ckpt_path=published)
    except (ValueError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FlowmagError(f"ptlflow cannot load {name} ({checkpoint}): {reason}") from error
    if isinstance(checkpoint, Path):
        _read_weights(network, name, checkpoint)
    return PTLFlow(network)


def _read_weights(network: nn.Module, name: str, path: Path) -> None:
    """Load a file of ptlflow's, or of authors who keep their weights under another key."""
    stored = read_weights(path, "state_dict", "model")
    try:
        # Trained on several cards, the parameters' names begin so.
        network.load_state_dict({k.removeprefix("module."): v for k, v in stored.items()})
    except RuntimeError as error:
        raise FlowmagError(f"{path} does not hold weights of ptlflow's {name}") from error


def _ptlflow() -> Any:
    try:
        import ptlflow
    except ImportError as error:
        raise FlowmagError(
            f'this flow needs the package ptlflow ({error}): pip install "flowmag[ptlflow]"'
        ) from error
    return ptlflow
