"""Curves of a report, drawn by matplotlib as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_flowmag.evaluate.case import CaseSet
from napari_flowmag.evaluate.summary import MOTION_ERROR, MOTION_ERROR_TRUE, Mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = (6.4, 3.6)  # inches
_CURVES = {
    MOTION_ERROR_TRUE: "motion error against the true motion (px)",
    MOTION_ERROR: "motion error (px)",
    "ssim": "SSIM",
    "factor_ratio": "achieved / asked factor",
}
_WIDE = 5.0  # an axis whose values differ by more than this factor is logarithmic


def curves_of(cases: CaseSet, means: Sequence[Mean]) -> list[str]:
    """Draw figures over what a set varies, or over the magnification; an SVG for each.

    Parameters
    ----------
    cases
        The set.
    means
        Its means.

    Returns
    -------
    list of str
        Empty where the set has fewer than three values to draw a curve through.
    """
    drawn = []
    for key, label in _CURVES.items():
        lines = _lines(means, key)
        if lines:
            drawn.append(_svg(_plot(lines, cases.varies or "magnification α", label)))
    return drawn


def _lines(means: Sequence[Mean], key: str) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for method in dict.fromkeys(mean.method for mean in means):
        sums: dict[float, list[float]] = {}
        for mean in means:
            if mean.method == method and key in mean.figures:
                sums.setdefault(mean.x, []).append(mean.figures[key])
        if len(sums) >= 3:
            lines[method] = sorted((x, sum(v) / len(v)) for x, v in sums.items())
    return lines


def _plot(lines: dict[str, list[tuple[float, float]]], x: str, y: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    for method, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.2, label=method)
    points = [point for line in lines.values() for point in line]
    for name, axis, values in (
        ("x", axes.xaxis, [place for place, _ in points]),
        ("y", axes.yaxis, [value for _, value in points]),
    ):
        if _wide(values):
            axes.set(**{f"{name}scale": "log"})
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _wide(values: list[float]) -> bool:
    return min(values) > 0 and max(values) > _WIDE * min(values)


def _svg(figure: Figure) -> str:
    import matplotlib as mpl

    text = io.StringIO()
    # The same curves give the same text.
    with mpl.rc_context({"svg.hashsalt": "flowmag", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    whole = text.getvalue()
    return whole[whole.index("<svg") :]
