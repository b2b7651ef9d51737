"""Checkpoints: weights, the settings that rebuild the module, and how it was trained.

One ``.safetensors`` file. Its header carries, under the key ``flowmag``, a JSON object with
``kind``, ``architecture``, ``config``, ``training`` and ``version``. Reading one runs no code
from the file.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from napari_flowmag.atomic import write_atomically
from napari_flowmag.errors import FlowmagError

Kind = Literal["magnifier", "flow"]

_METADATA_KEY = "flowmag"
_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes
    ----------
    kind : {"magnifier", "flow"}
        Which registry ``architecture`` belongs to.
    architecture : str
        Name of the module's class in that registry.
    config : dict
        Keyword arguments of its constructor.
    training : dict
        Free facts on how it was made (command, data, figures, ``description``).
    version : str
        The flowmag that wrote it.
    state : dict of Tensor
        The weights, on the CPU.
    sha256 : str
        Hash of the file: the model's identity in provenance records.
    path : Path
        Where it was read.
    """

    kind: Kind
    architecture: str
    config: dict[str, Any]
    training: dict[str, Any]
    version: str
    state: dict[str, Tensor]
    sha256: str
    path: Path


def bundled_path(kind: Kind, name: str) -> Path:
    """Where the package keeps the weights called ``name``; the file need not exist."""
    return _WEIGHTS / f"{kind}_{name}.safetensors"


def bundled_names(kind: Kind) -> list[str]:
    """Names of the weights of this kind that ship inside the package."""
    return sorted(p.stem.removeprefix(f"{kind}_") for p in _WEIGHTS.glob(f"{kind}_*.safetensors"))


def save_checkpoint(
    path: str | Path,
    module: nn.Module,
    *,
    kind: Kind,
    architecture: str,
    config: Mapping[str, Any],
    training: Mapping[str, Any],
) -> None:
    """Write a checkpoint; the file appears under its name only when it is complete.

    Parameters
    ----------
    path : str or Path
        Ends in ``.safetensors``.
    module : nn.Module
        Whose ``state_dict`` is stored.
    kind, architecture, config, training
        As in :class:`Checkpoint`; ``config`` and ``training`` must fit into JSON.

    Raises
    ------
    FlowmagError
        If the file cannot be written.
    """
    from napari_flowmag import __version__

    header = {
        "kind": kind,
        "architecture": architecture,
        "config": dict(config),
        "training": dict(training),
        "version": __version__,
    }
    # clone: tied weights are one memory, which the format refuses to store twice.
    state = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    content = safetensors.torch.save(state, metadata={_METADATA_KEY: json.dumps(header)})
    write_atomically(Path(path), content)


def read_checkpoint(path: str | Path, kind: Kind | None = None) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors`` file written by :func:`save_checkpoint`.
    kind : {"magnifier", "flow"}, optional
        What it must hold.

    Raises
    ------
    FlowmagError
        If the file is missing, damaged, not flowmag's, or of the other kind.
    """
    path = Path(path)
    content = read_bytes(path)
    try:
        state = safetensors.torch.load(content)
        header = json.loads(_metadata(content)[_METADATA_KEY])
        checkpoint = Checkpoint(
            kind=header["kind"],
            architecture=header["architecture"],
            config=dict(header["config"]),
            training=dict(header["training"]),
            version=header["version"],
            state=state,
            sha256=hashlib.sha256(content).hexdigest(),
            path=path,
        )
    except SafetensorError as error:
        raise FlowmagError(f"{path} is damaged or not a safetensors file") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FlowmagError(
            f"{path} holds weights but not flowmag's description of them: not a flowmag checkpoint"
        ) from error
    if kind is not None and checkpoint.kind != kind:
        raise FlowmagError(f"{path} holds a {checkpoint.kind} model, not a {kind} model")
    return checkpoint


def read_bytes(path: Path) -> bytes:
    """Content of a file of weights.

    Raises
    ------
    FlowmagError
        If there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FlowmagError(f"no such file: {path}") from error
    except OSError as error:
        raise FlowmagError(f"cannot read {path}: {error.strerror}") from error


def _metadata(content: bytes) -> dict[str, str]:
    # The format: eight bytes with the header's length, then the header as JSON.
    length = int.from_bytes(content[:8], "little")
    return cast("dict[str, str]", json.loads(content[8 : 8 + length])["__metadata__"])


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a file that ``torch.save`` wrote, refusing anything that could run code.

    Raises
    ------
    FlowmagError
        If the file is missing, damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise FlowmagError(f"no such file: {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a different type for each way to be damaged
        raise FlowmagError(
            f"{path} is damaged, or holds more than weights and is not opened for safety"
        ) from error
    if not isinstance(content, dict):
        raise FlowmagError(f"{path} holds no dictionary of weights")
    return content


def read_weights(path: Path, *wrappers: str) -> dict[str, Tensor]:
    """Read the parameters that others' networks were stored with.

    Parameters
    ----------
    path : Path
        As :func:`read_pickle` takes it.
    *wrappers : str
        Names under which authors may have put the parameters, outermost first.

    Raises
    ------
    FlowmagError
        As :func:`read_pickle`.
    """
    content: Any = read_pickle(path)
    for name in wrappers:
        inner = content.get(name)
        content = inner if isinstance(inner, dict) else content
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def write_pickle(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values as ``torch.save`` does, whole or not at all.

    Raises
    ------
    FlowmagError
        If the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    write_atomically(path, buffer.getvalue())


def build(checkpoint: Checkpoint, registry: Mapping[str, str]) -> nn.Module:
    """Make the module that a checkpoint describes and load its weights.

    Parameters
    ----------
    checkpoint : Checkpoint
        As read.
    registry : mapping
        Architecture → ``"package.module:Class"``, imported only when asked for.

    Raises
    ------
    FlowmagError
        If the architecture is unknown, or settings or weights do not fit it.
    """
    if checkpoint.architecture not in registry:
        raise FlowmagError(
            f"{checkpoint.path} needs the architecture '{checkpoint.architecture}', which this "
            f"flowmag does not have (it was written by version {checkpoint.version})"
        )
    cls = import_from(registry[checkpoint.architecture])
    try:
        module: nn.Module = cls(**checkpoint.config)
        module.load_state_dict(checkpoint.state)
    except (TypeError, ValueError, RuntimeError) as error:
        raise FlowmagError(
            f"{checkpoint.path} does not fit its architecture '{checkpoint.architecture}': "
            + " ".join(str(error).split())[:200]
        ) from error
    return module


def import_from(location: str) -> Any:
    """Import ``"package.module:name"``."""
    module, _, name = location.partition(":")
    return getattr(import_module(module), name)
