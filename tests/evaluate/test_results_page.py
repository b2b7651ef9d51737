"""`docs/make_results.py`, which puts the tables of reports into the documentation."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from napari_flowmag.evaluate.case import Case, CaseSet
from napari_flowmag.evaluate.report import make_report, write_report
from napari_flowmag.evaluate.run import SetResults
from napari_flowmag.evaluate.store import Result

SCRIPT = Path(__file__).parents[2] / "docs" / "make_results.py"
NAN = float("nan")


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write a report of a task with these figures, method → figures, and a page of it."""

    def page(name, methods):
        case = Case("c", 4.0, lambda: None, group="g")
        found = SetResults(
            CaseSet(name, "Title", "Words.", "0", (case,)),
            {method: [Result("c", 4.0, None, figures)] for method, figures in methods.items()},
        )
        report = make_report([found], [], ["dis", "farneback"], [], tmp_path)
        monkeypatch.setattr("napari_flowmag.evaluate.report_html.to_html", lambda report: "")
        write_report(report, tmp_path)
        out = tmp_path / "results.md"
        out.write_text("Before.\n<!-- tables -->\nStale.\n<!-- end of tables -->\nAfter.\n")
        monkeypatch.setattr(
            sys, "argv", [str(SCRIPT), str(tmp_path / "report.json"), "--out", str(out)]
        )
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return out.read_text(encoding="utf-8")

    return page


def _figures(dis, farneback, factor, **more):
    return {"factor[dis]": dis, "factor[farneback]": farneback, "factor": factor, **more}


def test_tables_replace_the_old_ones_and_the_words_stay(make):
    figures = _figures(2.0, 4.0, 3.0, psnr=float("inf"))
    page = make("waves", {"mine": figures, "other": {**figures, "psnr": 30.0}})
    assert page.startswith("Before.\n")
    assert page.endswith("After.\n")
    assert "Stale" not in page
    assert "| mine | **0.750** |" in page
    assert "| mine | **∞** |" in page


@pytest.mark.parametrize(("name", "true"), [("pairs", NAN), ("structure", 0.1)])
def test_a_factor_of_other_judges_is_refused(make, name, true):
    true = {"motion_error_true[dis]": true}
    three, two = _figures(2.0, 4.0, 2.5, **true), _figures(2.0, 3.0, 2.5, **true)
    with pytest.raises(SystemExit, match=f"{name}, c, mine: the factor is not the median"):
        make(name, {"mine": three, "other": two})


def test_a_factor_by_correlation_is_nobodys_median(make):
    known = {"motion_error_true[dis]": 0.1}
    page = make("known", {"mine": _figures(2.0, 4.0, 3.9, **known)})
    assert "| mine | 0.975 |" in page
