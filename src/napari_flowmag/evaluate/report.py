"""The report of an evaluation: one page to read (HTML, Markdown), one file to compare (JSON)."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from napari_flowmag import __version__
from napari_flowmag.atomic import write_atomically
from napari_flowmag.evaluate.cost import Cost
from napari_flowmag.evaluate.methods import Method
from napari_flowmag.evaluate.run import SetResults
from napari_flowmag.evaluate.summary import Mean, summarise


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Attributes
    ----------
    facts
        Heading → value: what was run, where and with which versions.
    methods
        What was compared.
    flows
        Names of the estimators that judged.
    found
        Results of each set.
    means
        Their means, in the same order.
    costs
        Speed and memory.
    pictures
        Folder of pictures, see :mod:`~napari_flowmag.evaluate.pictures`.
    """

    facts: dict[str, str]
    methods: tuple[Method, ...]
    flows: tuple[str, ...]
    found: tuple[SetResults, ...]
    means: tuple[list[Mean], ...]
    costs: tuple[Cost, ...]
    pictures: Path


def make_report(
    found: Sequence[SetResults],
    methods: Sequence[Method],
    flows: Sequence[str],
    costs: Sequence[Cost],
    out: Path,
    **facts: str,
) -> Report:
    """Gather what a report says.

    Parameters
    ----------
    found, methods, flows, costs
        Results, of whom, judged by whom, and what they cost.
    out
        Folder of the evaluation.
    **facts
        More facts about the run, such as its seed.
    """
    return Report(
        facts=environment() | facts,
        methods=tuple(methods),
        flows=tuple(flows),
        found=tuple(found),
        means=tuple(summarise(one) for one in found),
        costs=tuple(costs),
        pictures=out / "pictures",
    )


def environment() -> dict[str, str]:
    """Return where and with what an evaluation runs."""
    facts = {
        "flowmag": __version__,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "Python": sys.version.split()[0],
    }
    for name in ("torch", "torchvision", "numpy", "scikit-image", "opencv-python-headless"):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def write_report(report: Report, out: Path) -> list[Path]:
    """Write ``report.json``, ``report.md`` and ``report.html`` to a folder; return their paths.

    Raises
    ------
    FlowmagError
        If the folder cannot be written to.
    """
    from napari_flowmag.evaluate.report_html import to_html
    from napari_flowmag.evaluate.report_markdown import to_markdown

    contents = {
        "report.json": json.dumps(to_json(report), indent=1, allow_nan=False, ensure_ascii=False),
        "report.md": to_markdown(report),
        "report.html": to_html(report),
    }
    for name, text in contents.items():
        write_atomically(out / name, text.encode())
    return [out / name for name in contents]


def to_json(report: Report) -> dict[str, Any]:
    """Return all figures, of each task too, as what JSON can hold; what is not finite is null.

    Among the means, which lack what is unknown, null is infinite.
    """
    sets = []
    for found, means in zip(report.found, report.means, strict=True):
        cases = found.cases
        sets.append(
            {
                "name": cases.name,
                "title": cases.title,
                "description": cases.description,
                "varies": cases.varies,
                "fingerprint": cases.fingerprint,
                "means": [_finite(asdict(mean)) for mean in means],
                "tasks": {
                    method: [_finite(asdict(result)) for result in results]
                    for method, results in found.results.items()
                },
            }
        )
    return {
        "facts": report.facts,
        "flows": list(report.flows),
        "methods": {method.name: method.key for method in report.methods},
        "costs": [_finite(asdict(cost)) for cost in report.costs],
        "sets": sets,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
