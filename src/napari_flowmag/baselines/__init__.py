"""Other ways to magnify, behind the same protocol as our own models, to compare with.

Each is a name for ``flowmag magnify --model``; after a colon it takes one option, such as
``warp-bilinear:dis``. Nothing heavy is imported before one is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari_flowmag.models.base import Magnifier


@dataclass(frozen=True)
class Baseline:
    """A method to compare with.

    Attributes
    ----------
    name : str
        What to pass as a model's name.
    description : str
        One line.
    source : str
        Where it was published.
    factory : str
        ``"package.module:callable"`` that makes it from its option, or without one.
    option : str
        What its option is; empty where it has none.
    parse : callable
        Reads the option.
    ready : bool
        Whether it works without a file of weights.
    """

    name: str
    description: str
    source: str
    factory: str
    option: str = ""
    parse: Callable[[str], Any] = str
    ready: bool = True


_SPLAT = "Baker et al., IJCV 2011 (forward warping); as in the paper's comparison"

BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            "warp-nearest",
            "pushes each pixel of the reference to the nearest pixel of α × flow, inpaints holes",
            _SPLAT,
            "napari_flowmag.baselines.warps:NearestWarp",
            "FLOW",
        ),
        Baseline(
            "warp-bilinear",
            "splats the reference along α × flow, inpaints holes",
            _SPLAT,
            "napari_flowmag.baselines.warps:BilinearWarp",
            "FLOW",
        ),
        Baseline(
            "lucas-kanade",
            "Lucas-Kanade flow, inverted by fixed point, reads the reference backward",
            "Lucas and Kanade, IJCAI 1981",
            "napari_flowmag.baselines.lucas_kanade:LucasKanadeWarp",
            "SIGMA",
            float,
        ),
        Baseline(
            "linear",
            "linear Eulerian: differences of a Laplacian pyramid are enlarged",
            "Wu et al., SIGGRAPH 2012",
            "napari_flowmag.baselines.linear:LinearMagnifier",
            "CUTOFF",
            float,
        ),
        Baseline(
            "phase",
            "phase differences of a complex steerable pyramid are enlarged",
            "Wadhwa et al., SIGGRAPH 2013",
            "napari_flowmag.baselines.phase:PhaseMagnifier",
            "SIGMA",
            float,
        ),
        Baseline(
            "riesz",
            "phase differences of a Riesz pyramid are enlarged",
            "Wadhwa et al., ICCP 2014",
            "napari_flowmag.baselines.riesz:RieszMagnifier",
            "SIGMA",
            float,
        ),
        Baseline(
            "oh",
            "learnt encoder, manipulator and decoder; give its weights' file",
            "Oh et al., ECCV 2018",
            "napari_flowmag.baselines.oh:without_weights",
            ready=False,
        ),
    )
}
"""Name → baseline, in the order in which they are listed."""


def is_baseline(name: str) -> bool:
    """Whether a model's name, with or without an option, is that of a baseline."""
    return name.partition(":")[0] in BASELINES


def make_baseline(name: str) -> Magnifier:
    """Make a baseline.

    Parameters
    ----------
    name : str
        A name of :data:`BASELINES`, and perhaps a colon and its option.

    Raises
    ------
    FlowmagError
        If the option makes no sense, or something that the method needs is missing.
    """
    from napari_flowmag.checkpoint import import_from

    plain, colon, text = name.partition(":")
    baseline = BASELINES[plain]
    factory = import_from(baseline.factory)
    if not colon:
        return cast("Magnifier", factory())
    if not baseline.option:
        raise FlowmagError(f"'{name}': {plain} has no option")
    try:
        option = baseline.parse(text) if text else None
    except ValueError:
        option = None
    if option is None:
        default = next(iter(inspect.signature(factory).parameters.values())).default
        raise FlowmagError(
            f"'{name}': give {plain}:{baseline.option}, such as {plain}:{default}"
        ) from None
    return cast("Magnifier", factory(option))
