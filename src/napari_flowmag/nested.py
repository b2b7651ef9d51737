"""Tensors in nested tuples, lists, dicts and magnifications: reach them, or put others there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from napari_flowmag.models.base import MaskedAlpha


def parts(value: Any) -> list[Any]:
    """Return what a value is made of; nothing of what is no container."""
    if isinstance(value, MaskedAlpha):
        return [value.alpha, value.mask]
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, tuple | list) else []


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value, in order."""
    if isinstance(value, Tensor):
        yield value
    for part in parts(value):
        yield from tensors(part)


def filled(value: Any, others: Iterator[Tensor]) -> Any:
    """Return the same with other tensors in it, in the order of :func:`tensors`."""
    if isinstance(value, Tensor):
        return next(others)
    if isinstance(value, MaskedAlpha):
        return MaskedAlpha(next(others), next(others), value.outside)
    if isinstance(value, dict):
        return {name: filled(part, others) for name, part in value.items()}
    if not isinstance(value, tuple | list):
        return value
    make = getattr(value, "_make", type(value))  # named tuples have their own constructor
    return make(filled(part, others) for part in value)
