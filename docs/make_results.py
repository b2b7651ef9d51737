"""Put the tables of evaluations into `docs/results.md`.

    flowmag evaluate -o EVALUATION --pairs PAIRS …
    python docs/make_results.py EVALUATION/report.json [MORE/report.json …]

The text around the tables is written by hand and stays.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
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
            lines += section(cases, report["flows"])
    before, rest = options.out.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    text = "\n".join([before + BEGIN, "", *lines, END + after])
    options.out.write_text(text, encoding="utf-8")


def section(cases: dict[str, Any], flows: list[str]) -> list[str]:
    means = [Mean(**mean) for mean in cases["means"]]
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


if __name__ == "__main__":
    main()
