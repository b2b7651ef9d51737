"""flowmag: make motion too small to see visible and measurable."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# How long a core waits for the others by turning in a loop, which OpenMP reads as torch is loaded.
# By default (GNU) for milliseconds after each small operation: while another program keeps one core
# busy, magnifying takes thirty times as long. Who sets either variable is obeyed.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from napari_flowmag.adapt import adapt
    from napari_flowmag.clip import Clip
    from napari_flowmag.errors import FlowmagError
    from napari_flowmag.flow import load_flow
    from napari_flowmag.io import read_clip, write_clip
    from napari_flowmag.loss import MagnificationLoss
    from napari_flowmag.magnify import magnify
    from napari_flowmag.models import load_magnifier

__all__ = [
    "Clip",
    "FlowmagError",
    "MagnificationLoss",
    "__version__",
    "adapt",
    "load_flow",
    "load_magnifier",
    "magnify",
    "read_clip",
    "write_clip",
]

# Imported on first use (PEP 562): `import napari_flowmag` must not cost the import of torch.
_EXPORTS = {
    "Clip": "clip",
    "FlowmagError": "errors",
    "MagnificationLoss": "loss",
    "adapt": "adapt",
    "load_flow": "flow",
    "load_magnifier": "models",
    "magnify": "magnify",
    "read_clip": "io",
    "write_clip": "io",
}


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the submodule `magnify` binds it here and would hide the function of that name.
        if name in _EXPORTS and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
