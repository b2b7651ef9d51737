"""Which device computes."""

from __future__ import annotations

import torch

from napari_flowmag.errors import FlowmagError


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn a device's name into a device that exists.

    Parameters
    ----------
    device : str or torch.device
        ``auto`` (a CUDA GPU if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ….

    Raises
    ------
    FlowmagError
        If there is no such device on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise FlowmagError(f"unknown device '{device}': give auto, cpu or cuda") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise FlowmagError(f"device '{device}': no GPU that torch can use; choose cpu or auto")
    return resolved
