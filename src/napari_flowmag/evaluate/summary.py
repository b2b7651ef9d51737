"""Means of figures over tasks of a group, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from napari_flowmag.evaluate.methods import EXACT
from napari_flowmag.evaluate.run import SetResults
from napari_flowmag.evaluate.store import Result

MOTION_ERROR, MOTION_ERROR_TRUE = "motion_error", "motion_error_true"

_OVER_FLOWS = (MOTION_ERROR, MOTION_ERROR_TRUE, "magnification_error")
_MOST_PSNR = 100.0  # dB: an exact answer's, where others of the group are not exact

Figures = dict[str, float]


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
        The best value of what ranks: ``low``, ``high``, or a number that it should be.
    ranked_by
        The figure that ranks, where it is not `key`.
    bounded
        Whether nobody is the best where the best value is below the exact picture's: nobody can be
        better than right, so that it is the estimators' errors that differ.
    trusted
        Nobody is the best where the exact picture's value of what ranks is larger.
    """

    key: str
    title: str
    digits: int
    best: str | float
    ranked_by: str = ""
    bounded: bool = False
    trusted: float = math.inf

    @property
    def rank(self) -> str:
        """Name of the figure that ranks."""
        return self.ranked_by or self.key


_OFF = 0.1  # of the factor asked for: where the exact picture is further off, nobody is judged


def _by_flows(key: str, title: str, digits: int = 3) -> Column:
    return Column(key, f"{title}, mean over the flows that judge", digits, "low", bounded=True)


COLUMNS = (
    Column(
        "factor_ratio",
        "Achieved factor / asked factor (bold: least distance, see the next table)",
        3,
        "low",
        ranked_by="factor_miss",
        trusted=_OFF,
    ),
    Column(
        "factor_miss",
        "Distance of that ratio from the exact picture's, or from 1, mean over tasks",
        3,
        "low",
        trusted=_OFF,
    ),
    _by_flows(MOTION_ERROR_TRUE, "Motion error in px against the true motion"),
    _by_flows(MOTION_ERROR, "Motion error in px"),
    _by_flows("motion_error_ratio", "Motion error / that of the better warp"),
    _by_flows("cross_ratio", "Motion error / that of the better warp by another flow"),
    _by_flows("magnification_error", "Magnification error", 2),
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
        Name → mean over the tasks that have a value; infinite only where each of them is.
    seconds
        For a frame.
    partial
        Name → (tasks that have a value, tasks that could have one), of the figures for which these
        differ: the method gave no answer, or one that cannot be measured though another's can.
    """

    method: str
    group: str
    x: float
    alpha: float
    count: int
    figures: Figures
    seconds: float
    partial: dict[str, tuple[int, int]] = field(default_factory=dict)


def summarise(found: SetResults) -> list[Mean]:
    """Average the figures of a set over its groups, in the order of the tasks."""
    groups: dict[str, list[str]] = {}
    for case in found.cases.cases:
        groups.setdefault(case.group, []).append(case.name)
    results = {method: {r.case: r for r in each} for method, each in found.results.items()}
    right = {name: _ratio(result) for name, result in results.get(EXACT, {}).items()}
    figures = {
        # The exact picture itself is not right by definition: it tells whether a factor is seen.
        method: {n: _figures(r, 1.0 if method == EXACT else right.get(n)) for n, r in each.items()}
        for method, each in results.items()
    }
    means = []
    for method, each in results.items():
        for group, names in groups.items():
            others = [[of[name] for name in names] for of in figures.values()]
            mine = [figures[method][name] for name in names]
            means.append(_mean(method, group, [each[name] for name in names], mine, others))
    return _with_ratios(means)


def _mean(
    method: str,
    group: str,
    results: Sequence[Result],
    figures: Sequence[Figures],
    others: Sequence[Sequence[Figures]],
) -> Mean:
    answered = [r for r in results if r.figures]
    means: Figures = {}
    partial = {}
    for key in dict.fromkeys(key for one in figures for key in one):
        means[key] = _average([one[key] for one in figures if key in one])
        has = [key in one for one in figures]
        could = [not r.figures or any(key in of[i] for of in others) for i, r in enumerate(results)]
        if sum(has) < sum(could):
            partial[key] = (sum(has), sum(could))
    return Mean(
        method,
        group,
        x=mean_of(r.alpha if r.level is None else r.level for r in results) or 0.0,
        alpha=mean_of(r.alpha for r in results) or 0.0,
        count=len(answered),
        figures=means,
        seconds=mean_of(r.seconds for r in answered) or 0.0,
        partial=partial,
    )


def _average(values: Sequence[float]) -> float:
    """Return the mean; where only some are infinite, as the PSNR of exact answers is, cap all."""
    if math.isinf(sum(values)) and not all(math.isinf(v) for v in values):
        values = [min(v, _MOST_PSNR) for v in values]
    return sum(values) / len(values)


def _ratio(result: Result) -> float | None:
    factor = result.figures.get("factor", math.nan)
    return factor / result.alpha if math.isfinite(factor) else None


def _figures(result: Result, right: float | None) -> Figures:
    """Return the figures that have a value, and those that readers compare.

    These are the means over all flows, the factor relative to the asked one, and how far that is
    from `right`, what the exact picture reads; from 1 where nobody knows.
    """
    figures = {
        key: value
        for key, value in result.figures.items()
        if math.isfinite(value) or (key == "psnr" and value > 0)
    }
    for name in _OVER_FLOWS:
        judged = [v for key, v in result.figures.items() if key.startswith(f"{name}[")]
        # By all flows or not at all: a mean over some of them is not to be compared.
        if judged and math.isfinite(mean := sum(judged) / len(judged)):
            figures[name] = mean
    if (ratio := _ratio(result)) is not None:
        figures["factor_ratio"] = ratio
        figures["factor_miss"] = abs(ratio - (1.0 if right is None else right))
    return figures


def _with_ratios(means: list[Mean]) -> list[Mean]:
    """Add the motion error relative to the better warp of the same group, flow by flow.

    A flow favours the warps that are made by it. So there is another ratio, to the better warp that
    is not; and none of it for a warp that one of the judges has made.
    """
    for mean in means:
        warps = [m for m in means if m.group == mean.group and _is_warp(m.method)]
        judged = [key for key in mean.figures if key.startswith(f"{MOTION_ERROR}[")]
        own = [_over_best(mean, key, warps) for key in judged]
        foreign = [
            _over_best(mean, key, [w for w in warps if not _made_by(w.method, key)])
            for key in judged
            if not any(_made_by(mean.method, other) for other in judged)
        ]
        for name, values in (("motion_error_ratio", own), ("cross_ratio", foreign)):
            if values and math.isfinite(ratio := sum(values) / len(values)):
                mean.figures[name] = ratio
    return means


def _over_best(mean: Mean, key: str, warps: Sequence[Mean]) -> float:
    """Return a figure over the least of the warps', NaN where not all of them did all tasks."""
    errors = [w.figures[key] for w in warps if key in w.figures and key not in w.partial]
    best = min(errors, default=0.0)
    return mean.figures[key] / best if best > 0 and key not in mean.partial else math.nan


def _is_warp(method: str) -> bool:
    return method.startswith("warp-")


def _made_by(method: str, key: str) -> bool:
    """Tell whether a method is a warp, as ``warp-nearest:dis``, by the flow that a figure is of."""
    flow = method.partition(":")[2] or "default"
    judge = key.removeprefix(f"{MOTION_ERROR}[").removesuffix("]")
    return _is_warp(method) and flow.partition("=")[0] == judge.partition("=")[0]


def mean_of(values: Iterable[float]) -> float | None:
    """Return the mean of the finite values, None where there are none."""
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else None
