from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_flowmag.checkpoint import save_checkpoint
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.models.unet import UNetMagnifier


def _save(path: Path, architecture: str, module) -> Path:
    save_checkpoint(
        path,
        module,
        kind="magnifier",
        architecture=architecture,
        config=module.config,
        training={"description": "random weights"},
    )
    return path


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each architecture, untrained."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    return {
        "field": _save(folder / "field.safetensors", "field", FieldMagnifier()),
        "unet": _save(folder / "unet.safetensors", "unet", UNetMagnifier(width=2)),
    }


@pytest.fixture
def clip_file(tmp_path, texture) -> Path:
    """A 16-bit stack of six frames with a pixel size and a frame interval."""
    frames = texture([(0.1 * t, 0.05 * t) for t in range(6)], height=40, width=48)
    path = tmp_path / "clip.tif"
    tifffile.imwrite(
        path,
        (frames * 3000 + 200).astype(np.uint16),
        imagej=True,
        resolution=(2, 2),
        metadata={"axes": "TYX", "unit": "um", "finterval": 0.25},
    )
    return path
