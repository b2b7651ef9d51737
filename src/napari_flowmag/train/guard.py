"""Stopping a run whose numbers are no longer finite, with what shows why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_flowmag.checkpoint import write_pickle
from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.config import LoopConfig, plain
from napari_flowmag.train.distributed import raise_together
from napari_flowmag.train.feed import Batch
from napari_flowmag.train.run import Run, Task

BAD_BATCH = "bad_batch.pt"


@dataclass(frozen=True)
class Guard:
    """Stops all processes of a run together once its loss or its gradient is not finite.

    Each process whose own numbers are at fault leaves `bad_batch.pt` in the run's folder (those
    after the first: `rank1_bad_batch.pt`, …), which ``torch.load(…, weights_only=True)`` opens:

    ``what``, ``value``
        What was not finite, and what it was instead.
    ``step``, ``seed``, ``rank``, ``ranks``
        Steps done before, the seed of the run, which process of how many.
    ``config``
        Settings of the run and of its task.
    ``batches``
        The batch, or all batches that the gradient was gathered over, as the task saw them.
    ``module``
        The weights that judged it.

    The saved state of the run stays what it was: the last good one, as weights that are not finite
    are not saved.

    Attributes
    ----------
    task : Task
        What is trained.
    run : Run
        Its weights, and the processes.
    config : LoopConfig
        Settings of the run.
    writes : bool
        Whether batches are saved.
    """

    task: Task
    run: Run
    config: LoopConfig
    writes: bool = True

    def loss(self, mean: Tensor, own: Tensor, batch: Batch) -> None:
        """Look at a loss: its mean over all processes, this one's own, and what it is of.

        Raises
        ------
        FlowmagError
            If the mean is not finite.
        """
        if not bool(torch.isfinite(mean)):
            self._stop("the loss", own, [batch])

    def gradient(self, norm: Tensor | None, batches: Sequence[Batch]) -> None:
        """Look at the norm of the gradient, which all processes share.

        Where losses are scaled (16-mixed), a gradient may overflow: that step is left out and the
        scale is halved. It is at fault only once there is no scale left that could be.

        Raises
        ------
        FlowmagError
            If it is not finite.
        """
        if norm is None or bool(torch.isfinite(norm)):
            return
        scaler = getattr(self.run.fabric.strategy.precision, "scaler", None)
        if scaler is None or scaler.get_scale() <= 1:
            self._stop("the gradient", norm, batches)

    def weights(self) -> None:
        """Look at the weights, before they are saved.

        Raises
        ------
        FlowmagError
            If they are not finite: a step was too large, though its gradient was finite.
        """
        numbers = self.run.module.state_dict().values()
        if not all(bool(torch.isfinite(n).all()) for n in numbers if n.is_floating_point()):
            raise_together(
                self.run.fabric,
                f"training stopped after step {self.run.step}: weights are not finite, and not "
                "saved; go on from the last save with a smaller lr",
            )

    def _stop(self, what: str, value: Tensor, batches: Sequence[Batch]) -> None:
        reason = None
        if not bool(torch.isfinite(value)):
            reason = (
                f"training stopped at step {self.run.step}: {what} is not finite"
                f"{self._save(what, value, batches)}; go on from the last save with a smaller lr"
            )
        raise_together(self.run.fabric, reason)

    def _save(self, what: str, value: Tensor, batches: Sequence[Batch]) -> str:
        """Save the batch and tell where it is, or why it is nowhere."""
        if not self.writes:
            return ""
        rank = self.run.fabric.global_rank
        path = self.config.out / (BAD_BATCH if rank == 0 else f"rank{rank}_{BAD_BATCH}")
        try:
            write_pickle(path, self._report(what, value, batches))
        except FlowmagError as error:
            return f" ({error})"
        return f" (batch saved as {path})"

    def _report(self, what: str, value: Tensor, batches: Sequence[Batch]) -> dict[str, object]:
        settings = plain(self.config)
        settings.pop("out")  # where it lay on this machine is nobody's business
        weights = self.run.module.state_dict()
        return {
            "what": what,
            "value": float(value.detach()),
            "step": self.run.step,
            "seed": self.config.seed,
            "rank": self.run.fabric.global_rank,
            "ranks": self.run.fabric.world_size,
            "config": settings | self.task.checkpoint()["training"],
            "batches": [{name: part.cpu() for name, part in batch.items()} for batch in batches],
            "module": {name: weight.detach().cpu() for name, weight in weights.items()},
        }
