"""Which weights of a magnifier are fine-tuned."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from napari_flowmag.adapt.settings import What
from napari_flowmag.errors import FlowmagError
from napari_flowmag.models.base import Magnifier


def trained_parameters(magnifier: Magnifier, what: What) -> list[nn.Parameter]:
    """Freeze what is not fine-tuned and return the rest.

    Parameters
    ----------
    magnifier : Magnifier
        Its parameters' ``requires_grad`` are set.
    what : {"all", "decoder", "affine"}
        ``decoder``: the modules that the magnifier names as its
        :attr:`~napari_flowmag.models.base.Magnifier.decoder`; ``affine``: scales and offsets,
        that is whatever has less than two dimensions.

    Raises
    ------
    FlowmagError
        If the magnifier has none of these.
    """
    chosen = {id(p) for p in _CHOICES[what](magnifier)}
    for parameter in magnifier.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    parameters = [p for p in magnifier.parameters() if p.requires_grad]
    if not parameters:
        raise FlowmagError(f"what '{what}': {magnifier.architecture} has no such weights")
    return parameters


def _all(magnifier: Magnifier) -> Iterator[nn.Parameter]:
    return magnifier.parameters()


def _decoder(magnifier: Magnifier) -> Iterator[nn.Parameter]:
    for name in magnifier.decoder:
        yield from magnifier.get_submodule(name).parameters()


def _affine(magnifier: Magnifier) -> Iterator[nn.Parameter]:
    return (p for p in magnifier.parameters() if p.ndim < 2)


_CHOICES = {"all": _all, "decoder": _decoder, "affine": _affine}
