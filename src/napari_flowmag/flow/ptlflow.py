"""Any network of the ptlflow package (PWC-Net, GMFlow, …), for metrics by flows not trained on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

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


def load_ptlflow(name: str, checkpoint: str | None = "things") -> PTLFlow:
    """Load a network of ptlflow.

    Parameters
    ----------
    name : str
        ptlflow's name: ``pwcnet``, ``gmflow``, ….
    checkpoint : str or None
        ptlflow's name of its weights, downloaded on first use, or a path; None: random.

    Raises
    ------
    FlowmagError
        If ptlflow is not installed, or has no such network or weights, or they cannot be
        downloaded.
    """
    ptlflow = _ptlflow()
    try:
        network = ptlflow.get_model(name, ckpt_path=checkpoint)
    except (ValueError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FlowmagError(f"ptlflow cannot load {name} ({checkpoint}): {reason}") from error
    return PTLFlow(network)


def _ptlflow() -> Any:
    try:
        import ptlflow
    except ImportError as error:
        raise FlowmagError(
            f"this flow needs the package ptlflow ({error}): pip install flowmag[ptlflow]"
        ) from error
    return ptlflow
