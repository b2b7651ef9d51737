"""Means of figures over tasks of a group, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from napari_flowmag.evaluate.run import SetResults
from napari_flowmag.evaluate.store import Result

MOTION_ERROR = "motion_error"


@dataclass(frozen=True)
class Column:
    """A figure, as readers see it.

    Attributes
    ----------
    key
        Of the figures of a task, or one that is made of them here.
    title
        Heading, with the unit.
    digits
        Digits after the point.
    best
        The best value: ``low``, ``high``, or a number that it should be.
    """

    key: str
    title: str
    digits: int
    best: str | float


COLUMNS = (
    Column("factor_ratio", "Achieved factor / asked factor", 3, 1.0),
    Column(MOTION_ERROR, "Motion error in px, mean over the flows that judge", 3, "low"),
    Column(
        "motion_error_ratio", "Motion error / that of the better warp, mean over flows", 3, "low"
    ),
    Column("magnification_error", "Magnification error, mean over the flows that judge", 2, "low"),
    Column("psnr", "PSNR of luma in dB against the exact picture", 1, "high"),
    Column("ssim", "SSIM against the exact picture", 3, "high"),
    Column("leak", "Change in grey levels of 255 where nothing may change", 2, "low"),
    Column("stillness", "Change in grey levels of 255 where the input does not move", 2, "low"),
    Column("sharpness", "Gradient energy / the reference's", 3, 1.0),
)


@dataclass(frozen=True)
class Mean:
    """Means over the tasks of a group.

    Attributes
    ----------
    method, group
        Whose.
    x
        Mean level of the tasks, or their magnification where they have no level.
    alpha
        Mean magnification asked for.
    count
        Tasks that the method has an answer to.
    figures
        Name → mean over the tasks that have a finite value.
    seconds
        For a frame.
    """

    method: str
    group: str
    x: float
    alpha: float
    count: int
    figures: dict[str, float]
    seconds: float


def summarise(found: SetResults) -> list[Mean]:
    """Average the figures of a set over its groups, in the order of the tasks."""
    groups = {case.name: case.group for case in found.cases.cases}
    order = list(dict.fromkeys(groups.values()))
    means = []
    for method, results in found.results.items():
        for group in order:
            inside = [r for r in results if groups[r.case] == group]
            means.append(_mean(method, group, inside))
    return _with_ratio(means)


def _mean(method: str, group: str, results: list[Result]) -> Mean:
    answered = [r for r in results if r.figures]
    figures: dict[str, list[float]] = {}
    for result in answered:
        for key, value in _figures(result).items():
            figures.setdefault(key, []).append(value)
    means = {key: mean for key, v in figures.items() if (mean := mean_of(v)) is not None}
    return Mean(
        method,
        group,
        x=mean_of(r.alpha if r.level is None else r.level for r in results) or 0.0,
        alpha=mean_of(r.alpha for r in results) or 0.0,
        count=len(answered),
        figures=means,
        seconds=mean_of(r.seconds for r in answered) or 0.0,
    )


def _figures(result: Result) -> dict[str, float]:
    """Add what readers compare: means over all flows, and the factor relative to the asked one."""
    figures = dict(result.figures)
    for name in (MOTION_ERROR, "magnification_error"):
        judged = [v for key, v in figures.items() if key.startswith(f"{name}[")]
        if (mean := mean_of(judged)) is not None:
            figures[name] = mean
    if "factor" in figures:
        figures["factor_ratio"] = figures["factor"] / result.alpha
    return figures


def _with_ratio(means: list[Mean]) -> list[Mean]:
    """Add the motion error relative to the better warp of the same group, flow by flow."""
    for mean in means:
        warps = [m for m in means if m.group == mean.group and m.method.startswith("warp-")]
        ratios = []
        for key, value in mean.figures.items():
            if key.startswith(f"{MOTION_ERROR}["):
                best = min((w.figures[key] for w in warps if key in w.figures), default=0.0)
                ratios += [value / best] if best > 0 else []
        if ratios:
            mean.figures["motion_error_ratio"] = sum(ratios) / len(ratios)
    return means


def mean_of(values: Iterable[float]) -> float | None:
    """Return the mean of the finite values, None where there are none."""
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else None
