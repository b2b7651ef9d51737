"""A file to go on from after an adaptation was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from napari_flowmag.atomic import discard_parts
from napari_flowmag.checkpoint import read_pickle, write_pickle
from napari_flowmag.errors import FlowmagError


def write_state(path: Path, key: dict[str, Any], state: dict[str, Any]) -> None:
    """Write tensors and plain values, with what two runs must share for one to go on."""
    write_pickle(path, {**state, "key": json.dumps(key, sort_keys=True)})


def read_state(path: Path, key: dict[str, Any]) -> dict[str, Any]:
    """Read what :func:`write_state` wrote; nothing in the file can run code.

    Raises
    ------
    FlowmagError
        If it is damaged, or of a run with other settings, another clip or another model.
    """
    state = read_pickle(path)
    if state.get("key") != json.dumps(key, sort_keys=True):
        raise FlowmagError(
            f"{path} was left by an adaptation with other settings, clip or model: "
            "repeat that one, or delete the file"
        )
    return state


def discard_state(path: Path) -> None:
    """Remove the file, and parts of it that a killed run left."""
    path.unlink(missing_ok=True)
    discard_parts(path)
