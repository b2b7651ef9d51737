"""RAFT from torchvision: the flow network that the paper's published magnifier was trained with.

Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from napari_flowmag.checkpoint import read_pickle
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.frames import crop_to, pad_to_multiple, to_rgb

Variant = Literal["large", "small"]

# torchvision's names; the large ones are the authors' weights that the paper uses.
_PUBLISHED = {
    "large": ("raft_large", "Raft_Large_Weights", "C_T_V1"),
    "small": ("raft_small", "Raft_Small_Weights", "C_T_V2"),
}
_STRIDE = 8
_MINIMUM_SIZE = 128  # the coarsest of four correlation levels needs 2 px at 1/64


class RAFT(nn.Module):
    """Flow by repeated updates at 1/8 of the resolution.

    Parameters
    ----------
    variant : {"large", "small"}
        5.3 or 1.0 million parameters.
    updates : int
        Number of refinements, 1 or more; the paper trains with 5 and evaluates with 20.

    Raises
    ------
    FlowmagError
        If there is no such variant, or no update.
    """

    differentiable = True

    def __init__(self, variant: Variant = "large", updates: int = 12) -> None:
        super().__init__()
        if variant not in _PUBLISHED:
            raise FlowmagError(f"RAFT has no variant '{variant}': give large or small")
        if updates < 1:
            raise FlowmagError(f"RAFT with {updates} updates: give 1 or more")
        self.config: dict[str, Any] = {"variant": variant, "updates": updates}
        self.updates = updates
        self.network: nn.Module = getattr(_torchvision(), _PUBLISHED[variant][0])()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Estimate the motion from ``first`` to ``second``.

        Parameters
        ----------
        first, second : Tensor
            (B, C, H, W) in [0, 1]; padded to multiples of 8 and to 128 px.

        Returns
        -------
        Tensor
            (B, 2, H, W) px.
        """
        a, b = (pad_to_multiple(2 * to_rgb(x) - 1, _STRIDE, _MINIMUM_SIZE) for x in (first, second))
        estimates = self.network(a, b, num_flow_updates=self.updates)
        return crop_to(estimates[-1], first)


def raft_large(updates: int = 12, weights: str | Path | None = "published") -> RAFT:
    """RAFT with the paper's weights, see :func:`load_raft`."""
    return load_raft("large", updates, weights)


def raft_small(updates: int = 12, weights: str | Path | None = "published") -> RAFT:
    """RAFT of a fifth of the size, see :func:`load_raft`."""
    return load_raft("small", updates, weights)


def load_raft(variant: Variant, updates: int, weights: str | Path | None) -> RAFT:
    """Make a RAFT with weights.

    Parameters
    ----------
    variant : {"large", "small"}
        Size of the network.
    updates : int
        Number of refinements.
    weights : str or Path or None
        ``"published"``: torchvision's (trained on FlyingChairs and FlyingThings), downloaded
        into torch's cache on first use. A path: a state dict in torchvision's format.
        None: random.

    Raises
    ------
    FlowmagError
        If the weights cannot be downloaded or read.
    """
    module = RAFT(variant, updates)
    if weights is None:
        return module
    state = _published(variant) if weights == "published" else read_pickle(Path(weights))
    try:
        module.network.load_state_dict(state)
    except RuntimeError as error:
        raise FlowmagError(f"{weights} does not hold weights of RAFT {variant}") from error
    return module


def _published(variant: Variant) -> dict[str, Any]:
    _, enum, name = _PUBLISHED[variant]
    weights = getattr(_torchvision(), enum)[name]
    try:
        # torch downloads under another name and renames the file once its hash is right.
        state: dict[str, Any] = weights.get_state_dict(check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise FlowmagError(
            f"cannot download the weights of RAFT {variant} ({error}): fetch {weights.url} on a "
            f"connected machine and give it as raft_{variant}=FILE, or use the flow 'default'"
        ) from error
    return state


def _torchvision() -> Any:
    from torchvision.models import optical_flow

    return optical_flow
