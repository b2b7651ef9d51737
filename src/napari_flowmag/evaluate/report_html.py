"""A report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from napari_flowmag.evaluate.case import CaseSet
from napari_flowmag.evaluate.methods import Method
from napari_flowmag.evaluate.pictures import picture_folder, picture_paths, shown_cases
from napari_flowmag.evaluate.published import PUBLISHED
from napari_flowmag.evaluate.report_curves import curves_of
from napari_flowmag.evaluate.report_tables import competes, cost_table, published_table, tables_of

if TYPE_CHECKING:
    from napari_flowmag.evaluate.report import Report

_GIVEN = ("input-reference", "input-frame", "truth")


@dataclass(frozen=True)
class _Shown:
    """A picture and, of a clip, what it is over time; both as data URIs."""

    title: str
    picture: str
    over_time: str


def to_html(report: Report) -> str:
    """Return a report with its tables, curves and pictures."""
    import jinja2

    sections = [
        {
            "cases": found.cases,
            "tables": tables_of(means, report.flows),
            "published": [published_table(p) for p in PUBLISHED if p.cases == found.cases.name],
            "curves": curves_of(found.cases, means),
            "shown": _shown(found.cases, report.methods, report.pictures),
        }
        for found, means in zip(report.found, report.means, strict=True)
    ]
    template = files("napari_flowmag.evaluate").joinpath("report.html.jinja").read_text("utf-8")
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(template).render(
        report=report,
        sections=sections,
        costs=cost_table(report.costs) if report.costs else None,
    )


def _shown(cases: CaseSet, methods: Sequence[Method], root: Path) -> list[tuple[str, list[_Shown]]]:
    found = []
    for case in shown_cases(cases):
        folder = picture_folder(root, cases, case)
        paths = [(name, folder / f"{name}.png") for name in _GIVEN]
        # What the trivial methods give is there already.
        shown = [method for method in methods if competes(method.name)]
        paths += [(method.name, picture_paths(folder, method)[0]) for method in shown]
        pictures = [
            _Shown(name, _uri(path), _uri(path.with_name(f"{path.stem}.xt.png")))
            for name, path in paths
            if path.is_file()
        ]
        if pictures:
            factor = "" if case.group.endswith(f"{case.alpha:g}") else f", ×{case.alpha:.3g}"
            found.append((f"{case.group}{factor} ({case.name})", pictures))
    return found


def _uri(path: Path) -> str:
    if not path.is_file():
        return ""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
