"""Adapting a model to the clip of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_flowmag._preload import preload_torch

if TYPE_CHECKING:
    from napari_flowmag._request import Request
    from napari_flowmag._run import Reporter
    from napari_flowmag.adapt.outcome import Adapted, Report


def adapt_request(
    request: Request, preset: str, budget: dict[str, Any], reporter: Reporter
) -> Adapted:
    """Adapt the model of a request to its clip and its region.

    Parameters
    ----------
    request : Request
        What would be magnified.
    preset : str
        Name of the adaptation's settings.
    budget : dict
        ``steps`` or ``minutes``.
    reporter : Reporter
        Gets each :class:`~napari_flowmag.adapt.outcome.Report`; once it is cancelled, the best so
        far is returned.

    Raises
    ------
    FlowmagError
        If the clip cannot be learnt from.
    """
    preload_torch()
    from napari_flowmag.adapt import AdaptSettings
    from napari_flowmag.adapt.adaptation import Adaptation

    settings = AdaptSettings.for_magnification(request.settings, preset, **budget)
    job = Adaptation(
        request.clip.frames,
        settings,
        magnifier=request.settings.model if request.magnifier is None else request.magnifier,
        axes=request.clip.axes,
        mask=request.mask(),
        name=request.clip.name,
    )

    def tell(report: Report) -> None:
        reporter.progress(round(100 * report.done), 100)
        reporter.produce(report)

    return job.run(tell, reporter.cancelled)
