"""A report as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_flowmag.evaluate.published import PUBLISHED
from napari_flowmag.evaluate.report_tables import Table, cost_table, published_table, tables_of

if TYPE_CHECKING:
    from napari_flowmag.evaluate.report import Report


def to_markdown(report: Report) -> str:
    """Return a report's words and tables; curves and pictures are in the HTML."""
    parts = ["# Evaluation of motion magnification", ""]
    parts += [f"- {name}: {value}" for name, value in report.facts.items()]
    parts += [f"- judged by: {', '.join(report.flows)}", ""]
    for found, means in zip(report.found, report.means, strict=True):
        cases = found.cases
        parts += heading_lines(cases.title, cases.description, len(cases.cases), cases.varies)
        for table in [*tables_of(means, report.flows), *published_tables(cases.name)]:
            parts += table_lines(table)
    if report.costs:
        parts += ["## Speed and memory", "", *table_lines(cost_table(report.costs))]
    return "\n".join(parts)


def heading_lines(title: str, description: str, tasks: int, varies: str) -> list[str]:
    """Return what a set's section begins with."""
    columns = varies or "magnification"
    return [f"## {title}", "", description, "", f"{tasks} tasks; columns: {columns}.", ""]


def published_tables(cases: str) -> list[Table]:
    """Return the paper's tables that belong to a set."""
    return [published_table(table) for table in PUBLISHED if table.cases == cases]


def table_lines(table: Table) -> list[str]:
    """Return a table's title and rows, and an empty line after it."""
    lines = [f"**{table.title}**", "", "| | " + " | ".join(table.head) + " |"]
    lines.append("|---" * (len(table.head) + 1) + "|")
    for method, cells in table.rows.items():
        texts = [f"**{cell.text}**" if cell.best else cell.text for cell in cells]
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return [*lines, ""]
