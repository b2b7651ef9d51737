"""The mean of models that began as one: it keeps most of what each of them has learnt.

Training on changes what a model was good at, too. Weights half way between before and after
lose less of the one than they keep of the other, and are often better than both.

Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022, and "Model soups", ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from napari_flowmag.checkpoint import Checkpoint, build
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow import ARCHITECTURES as FLOWS
from napari_flowmag.models import ARCHITECTURES as MAGNIFIERS


def average(models: Sequence[Checkpoint]) -> tuple[nn.Module, dict[str, Any]]:
    """Average the weights of models of the same kind, each counting as much.

    Parameters
    ----------
    models
        Two or more that were trained from the same weights: the mean of networks that were not is
        good for nothing.

    Returns
    -------
    module
        With the mean of all weights, computed in double precision; what is counted (whole
        numbers) is the last model's.
    facts
        The keyword arguments of :func:`~napari_flowmag.checkpoint.save_checkpoint`: what is known
        of the last model's training, and under ``mean_of`` the hashes of all.

    Raises
    ------
    FlowmagError
        If there are fewer than two, they differ in kind, architecture or its settings, or weights
        of one are missing.
    """
    if len(models) < 2:
        raise FlowmagError("name two models or more to average")
    *_, last = models
    for model in models:
        if _description(model) != _description(last):
            raise FlowmagError(
                f"{model.path} and {last.path} are not of one kind: {_description(model)} and "
                f"{_description(last)}"
            )
    registry = MAGNIFIERS if last.kind == "magnifier" else FLOWS
    modules = [build(model, registry) for model in models]
    states, module = [each.state_dict() for each in modules], modules[-1]
    module.load_state_dict({name: _mean([s[name] for s in states]) for name in states[-1]})
    training = last.training | {"mean_of": [model.sha256 for model in models]}
    return module, {
        "kind": last.kind,
        "architecture": last.architecture,
        "config": last.config,
        "training": training,
    }


def _description(model: Checkpoint) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in sorted(model.config.items()))
    return f"{model.kind} {model.architecture} ({settings})"


def _mean(values: Sequence[Tensor]) -> Tensor:
    last = values[-1]
    if not last.is_floating_point():
        return last
    return torch.stack([value.double() for value in values]).mean(0).to(last.dtype)
