"""Put the tables of evaluations into `docs/results.md`.

    flowmag evaluate -o EVALUATION --pairs PAIRS …
    python docs/make_results.py EVALUATION/report.json [MORE/report.json …]

The text around the tables is written by hand and stays.
"""

from __future__ import annotations

import argparse
import json
from math import inf, isclose
from pathlib import Path
from statistics import median
from typing import Any

from napari_flowmag.evaluate.report_markdown import heading_lines, published_tables, table_lines
from napari_flowmag.evaluate.report_tables import tables_of
from napari_flowmag.evaluate.summary import Mean

BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"
LEFT_OUT = (
    "Magnification error",
    "Motion error / that",
    "Change in grey levels of 255 where the input",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("reports", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.md")
    options = parser.parse_args()
    lines: list[str] = []
    for path in options.reports:
        report = json.loads(path.read_text(encoding="utf-8"))
        for cases in report["sets"]:
            if mixed := judged_by_others(cases, report["flows"]):
                raise SystemExit(f"{path}: {mixed}")
            lines += section(cases, report["flows"])
    before, rest = options.out.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = "\n".join([before + BEGIN, "", *lines, END + after])
    options.out.write_text(text, encoding="utf-8")


def judged_by_others(cases: dict[str, Any], flows: list[str]) -> str:
    """Tell of the first task whose factor is not what the report's flows say; empty if all are.

    Results that were put together by hand may come from runs with different judges.
    """
    tasks: dict[str, dict[str, dict[str, Any]]] = {}
    for method, results in cases["tasks"].items():
        for result in results:
            if result["figures"].get("factor") is not None:
                tasks.setdefault(result["case"], {})[method] = result["figures"]
    for case, answers in tasks.items():
        right = {method: is_median(figures, flows) for method, figures in answers.items()}
        # Things that move as wholes are measured by correlation, whoever answers.
        unknown = all(f.get(f"motion_error_true[{flows[0]}]") is None for f in answers.values())
        wrong = [method for method, yes in right.items() if not yes]
        if wrong and (unknown or any(right.values())):
            return (
                f"{cases['name']}, {case}, {wrong[0]}: the factor is not the median of those by "
                f"{', '.join(flows)}; evaluate again with these flows"
            )
    return ""


def is_median(figures: dict[str, Any], flows: list[str]) -> bool:
    values = [figures.get(f"factor[{flow}]") for flow in flows]
    known = [value for value in values if value is not None]
    return bool(known) and isclose(figures["factor"], median(known), rel_tol=1e-9)


def section(cases: dict[str, Any], flows: list[str]) -> list[str]:
    means = [read_mean(mean) for mean in cases["means"]]
    tasks = len(next(iter(cases["tasks"].values())))
    lines = heading_lines(cases["title"], cases["description"], tasks, cases["varies"])
    # Where the motion is known the judges' opinions of it say little more.
    known = cases["name"] != "pairs"
    for table in tables_of(means, ["all"] if known else flows):
        if not table.title.startswith(LEFT_OUT if known else LEFT_OUT[:1]):
            lines += table_lines(table)
    for table in published_tables(cases["name"]):
        lines += table_lines(table)
    return lines


def read_mean(kept: dict[str, Any]) -> Mean:
    figures = {key: inf if value is None else value for key, value in kept["figures"].items()}
    return Mean(**{**kept, "figures": figures})


if __name__ == "__main__":
    main()
