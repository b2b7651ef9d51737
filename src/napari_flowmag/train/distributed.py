"""Several processes that train one model: on the GPUs of a machine, or of several machines."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import Tensor, nn

from napari_flowmag.device import resolve_device
from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.config import LoopConfig

_Result = TypeVar("_Result")


class _Mixed(MixedPrecision):
    """Mixed precision for the arithmetic alone: rounded pictures would lose sub-pixel motion."""

    def convert_input(self, data: Any) -> Any:
        return data


def start_fabric(config: LoopConfig) -> Fabric:
    """Start the other processes of a run, or join them, and return what connects them.

    Where torchrun or SLURM's srun started this process, they have started the others too, and
    say how many there are. Else this process starts as many as `config.devices` says; each of
    them runs the same program from its beginning.

    Raises
    ------
    FlowmagError
        If there are not so many devices.
    """
    device = resolve_device(config.device).type
    devices, nodes = _processes(config)
    if device == "cuda" and devices > torch.cuda.device_count():
        raise FlowmagError(
            f"devices = {devices}: this machine has {torch.cuda.device_count()} graphics cards"
        )
    mixed: list[Any] = [] if config.precision == "32-true" else [_Mixed(config.precision, device)]
    strategy = "ddp" if devices * nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=device, devices=devices, num_nodes=nodes, strategy=strategy, plugins=mixed
    )
    fabric.launch()
    if fabric.world_size > 1:
        # Lightning does so for NCCL alone. Gloo's threads, still holding tensors while Python ends,
        # abort the process now and then: a run that had written its model would count as failed.
        atexit.unregister(_leave_group)
        atexit.register(_leave_group)
    return fabric


def _leave_group() -> None:
    """End the threads that connect this process with the others."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _processes(config: LoopConfig) -> tuple[int, int]:
    """Return processes on each node, and nodes."""
    if TorchElasticEnvironment.detect():
        here = int(os.environ["LOCAL_WORLD_SIZE"])
        return here, int(os.environ["WORLD_SIZE"]) // here
    if SLURMEnvironment.detect():
        nodes = int(os.environ.get("SLURM_NNODES", 1))
        return int(os.environ["SLURM_NTASKS"]) // nodes, nodes
    return config.devices, config.nodes


def synchronise_norms(module: nn.Module, fabric: Fabric) -> None:
    """Let batch normalisation see the whole batch where it is spread over GPUs; in place."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def mean_over_ranks(fabric: Fabric, values: Sequence[Tensor | float]) -> Tensor:
    """Return the mean of some scalars over all processes, which all of them get."""
    stacked = torch.stack(
        [torch.as_tensor(value, dtype=torch.float64).detach().cpu() for value in values]
    ).to(fabric.device)
    if fabric.world_size > 1:
        stacked = fabric.all_reduce(stacked, reduce_op="mean")  # type: ignore[assignment]
    return stacked.cpu()


class SharedError(FlowmagError):
    """An error of one process that all of them raise; the first process alone need tell it."""


def raise_together(fabric: Fabric, reason: str | None) -> None:
    """Raise on all processes if any of them gives a reason; all of them must call it.

    A process that left by itself would leave the others waiting for it for ever.

    Raises
    ------
    SharedError
        With the reason of the first process that has one.
    """
    if fabric.world_size == 1:
        if reason is not None:
            raise FlowmagError(reason)
        return
    if not float(mean_over_ranks(fabric, [float(reason is not None)])[0]):
        return
    reasons: list[str | None] = [None] * fabric.world_size
    torch.distributed.all_gather_object(reasons, reason)
    raise SharedError(next(text for text in reasons if text is not None))


def together(fabric: Fabric, act: Callable[[], _Result]) -> _Result:
    """Let every process do something; if it is an error to one, it is to all.

    Raises
    ------
    FlowmagError
        What `act` raises.
    """
    if fabric.world_size == 1:
        return act()
    result, reason = None, None
    try:
        result = act()
    except FlowmagError as error:
        reason = str(error)
    raise_together(fabric, reason)
    return cast("_Result", result)
