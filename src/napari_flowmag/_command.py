"""The command line that repeats what the Magnify dock does, to the bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_flowmag._layers import own
from napari_flowmag._request import Request
from napari_flowmag.clip import Clip
from napari_flowmag.errors import FlowmagError
from napari_flowmag.io import write_clip

if TYPE_CHECKING:
    from numpy.typing import NDArray


def needs_folder(request: Request) -> bool:
    """Whether a command needs files that do not exist yet."""
    return request.labels is not None or request.magnifier is not None or _source(request) is None


def command_for(request: Request, folder: str | Path | None = None) -> str:
    """Return the ``flowmag magnify`` line that gives the same as the dock.

    Parameters
    ----------
    request : Request
        What the dock would run.
    folder : str or Path, optional
        Where to write what is not in a file yet: a clip whose layer was made or changed in napari
        (as TIFF, or OME-Zarr where its values are true and false), labels (as TIFF), an adapted
        model.

    Raises
    ------
    FlowmagError
        If files have to be written and there is no folder, or they cannot be.
    """
    if folder is None and needs_folder(request):
        raise FlowmagError("the clip, mask or model is in no file yet: choose a folder for them")
    place = Path("." if folder is None else folder)
    name = re.sub(r"[^\w.-]+", "-", request.clip.name).strip("-") or "clip"
    settings, source = request.settings, _source(request)
    suffix = ".ome.zarr" if request.clip.dtype == bool else ".tif"  # TIFF holds numbers only
    if source is None:
        path = str(write_clip(request.clip, place / f"{name}{suffix}"))
    else:
        path, changes = source
        settings = settings.replace(**changes)
    mask, fitting = request.region()
    settings = settings.replace(
        **_files(request, mask, place, name), label_alphas=fitting.label_alphas
    )
    output = Path(path).with_name(f"{name}-x{settings.alpha:g}{suffix}")
    return settings.to_command(path, str(output))


def _source(request: Request) -> tuple[str, dict[str, Any]] | None:
    """Return the file of the clip, and what its channels change in the settings."""
    facts, settings = request.clip.metadata, request.settings
    if "path" not in facts or not Path(facts["path"]).exists():
        return None
    if "channels" not in facts:
        return (facts["path"], {}) if len(request.layers) == 1 else None
    places: tuple[int, ...] = facts["channels"]
    chosen = range(len(places))
    if places == tuple(range(own(request.layers[0]).get("channel_count", -1))):
        return facts["path"], {}
    if request.magnifier is not None or settings.model.endswith(".pth"):
        # A model for colour pictures sees three channels of a file as one of these.
        return None
    return facts["path"], {
        "channels": tuple(places[c] for c in settings.channels or chosen),
        "motion_channels": tuple(places[c] for c in settings.motion_channels or chosen),
    }


def _files(request: Request, mask: NDArray[Any] | None, folder: Path, name: str) -> dict[str, str]:
    """Write mask and model, and return what the settings call them."""
    files = {}
    if mask is not None:
        stack = mask if mask.ndim == 3 else mask[None]
        labels = Clip.from_array(_unsigned(stack), "TYX", name="labels")
        files["mask"] = str(write_clip(labels, folder / f"{name}-mask.tif"))
    if request.magnifier is not None:
        files["model"] = str(save_model(folder / f"{name}-model.safetensors", request))
    return files


def save_model(path: Path, request: Request) -> Path:
    """Write the model of a request that is in memory.

    Raises
    ------
    FlowmagError
        If the file cannot be written.
    """
    from napari_flowmag.checkpoint import save_checkpoint

    model = request.magnifier
    if model is None:
        raise FlowmagError("the model is in a file already")
    save_checkpoint(
        path,
        model,
        kind="magnifier",
        architecture=model.architecture,
        config=model.config,
        training=request.training,
    )
    return path


def _unsigned(labels: Any) -> Any:
    if labels.min() < 0:
        raise FlowmagError("labels below 0 cannot be saved: paint with labels from 1 up")
    top = int(labels.max())
    return labels.astype("uint8" if top < 2**8 else "uint16" if top < 2**16 else "uint32")
