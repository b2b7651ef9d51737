"""Who is called the best, and by what: means, ratios and bold cells."""

from __future__ import annotations

import math

import pytest

from napari_flowmag.evaluate.case import Case, CaseSet
from napari_flowmag.evaluate.report_tables import tables_of
from napari_flowmag.evaluate.run import SetResults
from napari_flowmag.evaluate.store import Result
from napari_flowmag.evaluate.summary import summarise

ALPHA = 4.0


def _means(methods, tasks=2):
    """Sum up a group: method → for each task its figures, or None where it has no answer."""
    listed = tuple(Case(f"c{i}", ALPHA, lambda: None, group="g") for i in range(tasks))
    results = {
        method: [Result(f"c{i}", ALPHA, None, figures or {}) for i, figures in enumerate(answers)]
        for method, answers in methods.items()
    }
    return summarise(SetResults(CaseSet("s", "S", "S.", "0", listed), results))


def _column(methods, title, tasks=2):
    """Return the cell of each method in a table, bold as Markdown has it."""
    (table,) = (t for t in tables_of(_means(methods, tasks), ["a"]) if t.title.startswith(title))
    rows = {method: cells[0] for method, cells in table.rows.items()}
    return {method: f"**{c.text}**" if c.best else c.text for method, c in rows.items()}


def _each(name, *values):
    return [None if value is None else {name: value} for value in values]


def _factors(*ratios):
    return _each("factor", *(ratio * ALPHA for ratio in ratios))


def _errors(*values):
    return [{"motion_error[a]": v, "motion_error[b]": 2 * v} for v in values]


def test_means_and_ratios():
    methods = {"warp-x": _errors(1, 3), "warp-y": _errors(4, 4), "mine": _errors(1, 1)}
    mine = _means(methods)[-1]
    assert (mine.count, mine.x) == (2, ALPHA)
    assert mine.figures["motion_error"] == pytest.approx(1.5)
    assert mine.figures["motion_error_ratio"] == pytest.approx(0.5)


def test_too_little_and_too_much_do_not_make_a_good_factor():
    cells = _column({"even": _factors(0.9, 0.9), "wild": _factors(0.4, 1.6)}, "Achieved factor")
    assert cells == {"even": "**0.900**", "wild": "1.000"}
    cells = _column({"even": _factors(0.9, 0.9), "wild": _factors(0.4, 1.6)}, "Distance")
    assert cells == {"even": "**0.100**", "wild": "0.600"}


def test_a_factor_is_to_be_what_the_exact_picture_reads():
    methods = {"near": _factors(0.95, 0.97), "one": _factors(1.0, 1.0)}
    assert _column(methods, "Achieved factor")["one"] == "**1.000**"
    methods["exact"] = _factors(0.94, 0.96)
    cells = _column(methods, "Achieved factor")
    assert cells == {"near": "**0.960**", "one": "1.000", "exact": "0.950"}


@pytest.mark.parametrize("read", [(0.5, 0.6), (0.8, 1.2)])
def test_a_factor_that_the_exact_picture_misses_ranks_nobody(read):
    methods = {"near": _factors(*read), "one": _factors(1.0, 1.0), "exact": _factors(*read)}
    for title in ("Achieved factor", "Distance"):
        assert not any("*" in cell for cell in _column(methods, title).values())


def test_the_motion_error_is_also_against_the_true_motion():
    methods = {
        "right": [{"motion_error[a]": 2.0, "motion_error_true[a]": 0.1}] * 2,
        "warp-x": [{"motion_error[a]": 1.0, "motion_error_true[a]": 0.7}] * 2,
        "exact": [{"motion_error[a]": 1.8, "motion_error_true[a]": 0.08}] * 2,
    }
    cells = _column(methods, "Motion error in px against the true motion")
    assert cells == {"right": "**0.100**", "warp-x": "0.700", "exact": "0.080"}


def test_nobody_is_better_than_right():
    methods = {"mine": _errors(2, 2), "warp-x": _errors(1, 1), "exact": _errors(1.5, 1.5)}
    for title in ("Motion error in px, ", "Motion error / that of the better warp, "):
        assert not any("*" in cell for cell in _column(methods, title).values())
    # What looks the same as the exact picture's is not below it.
    methods["exact"] = _errors(1.0001, 1.0001)
    assert _column(methods, "Motion error in px, ")["warp-x"] == "**1.500**"


def test_a_method_that_did_the_easy_tasks_alone_is_marked_and_not_the_best():
    methods = {
        "mine": [*_errors(1), None],
        "warp-x": _errors(2, 9),
        "other": _errors(3, 9),
        "warp-y": [*_errors(1), None],
    }
    cells = _column(methods, "Motion error in px, ")
    assert cells["mine"] == "1.500 (1 of 2)"
    assert cells["warp-x"] == "**8.250**"
    cells = _column(methods, "Motion error / that of the better warp, ")
    # Nor is a warp that did the easy ones alone what others are compared with.
    assert cells == {"mine": "–", "warp-x": "**1.000**", "other": "1.091", "warp-y": "–"}


def test_an_answer_that_cannot_be_measured_is_missing_where_another_can():
    cells = _column({"a": _each("ssim", 0.9, math.nan), "b": _each("ssim", 0.8, 0.8)}, "SSIM")
    assert cells == {"a": "0.900 (1 of 2)", "b": "0.800"}
    # Where nobody's can, as in a task without still parts, nobody lacks it.
    cells = _column({"a": _each("ssim", 0.9, math.nan), "b": _each("ssim", 0.8, math.nan)}, "SSIM")
    assert cells == {"a": "**0.900**", "b": "0.800"}


def test_exact_answers_count_in_a_mean_psnr():
    inf = math.inf
    methods = {"most": _each("psnr", inf, 30.0), "all": _each("psnr", inf, inf)}
    assert _column(methods, "PSNR") == {"most": "65.0", "all": "**∞**"}
    methods = {"most": _each("psnr", inf, 30.0), "good": _each("psnr", 40.0, 40.0)}
    assert _column(methods, "PSNR") == {"most": "**65.0**", "good": "40.0"}


def test_warps_are_compared_with_under_a_flow_that_did_not_make_them():
    def errors(by_dis, by_farneback):
        return [{"motion_error[dis]": by_dis, "motion_error[farneback]": by_farneback}] * 2

    title = "Motion error / that of the better warp by another flow"
    methods = {
        "mine": errors(2.0, 3.0),
        "warp-nearest:dis": errors(1.0, 8.0),
        "warp-bilinear:dis": errors(1.0, 6.0),
        "warp-nearest:farneback": errors(4.0, 1.0),
        "warp-bilinear:farneback=f.pth": errors(5.0, 1.0),
        "warp-bilinear": errors(10.0, 10.0),  # by the bundled flow, which does not judge
    }
    cells = _column(methods, title)
    assert cells["mine"] == "**0.500**"  # 2 of 4 px by DIS, 3 of 6 by Farnebäck
    assert cells["warp-bilinear"] == f"{(10 / 4 + 10 / 6) / 2:.3f}"
    # A judge's own warps have no place among them.
    assert cells["warp-nearest:dis"] == cells["warp-bilinear:farneback=f.pth"] == "–"
    # Without a warp by another flow for each judge there is no such table.
    few = {name: methods[name] for name in ("mine", "warp-nearest:dis")}
    assert not any(t.title.startswith(title) for t in tables_of(_means(few), ["a"]))
