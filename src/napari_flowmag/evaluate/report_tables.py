"""Tables of a report, as text in cells: what Markdown and HTML have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_flowmag.evaluate.cost import Cost
from napari_flowmag.evaluate.methods import EXACT, IDENTITY
from napari_flowmag.evaluate.published import PublishedTable
from napari_flowmag.evaluate.summary import COLUMNS, MOTION_ERROR, Column, Mean

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """A value in a table.

    Attributes
    ----------
    text
        What is written.
    best
        Whether no other value of its column is better.
    """

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table: a row for each method.

    Attributes
    ----------
    title
        What is in it.
    head
        Headings of the columns after the first, which holds the methods.
    rows
        Method → its cells.
    """

    title: str
    head: tuple[str, ...]
    rows: dict[str, tuple[Cell, ...]]


def tables_of(means: Sequence[Mean], flows: Sequence[str]) -> list[Table]:
    """Return the tables of a set: one for each figure that any of its tasks has.

    Parameters
    ----------
    means
        Of the set.
    flows
        Who judged; each gets a table of motion errors of its own where there are several.
    """
    columns = list(COLUMNS)
    if len(flows) > 1:
        place = next(i for i, c in enumerate(columns) if c.key == MOTION_ERROR) + 1
        columns[place:place] = [
            Column(
                f"{MOTION_ERROR}[{flow}]", f"Motion error in px by {flow}", 3, "low", bounded=True
            )
            for flow in flows
        ]
    there = [c for c in columns if any(c.key in mean.figures for mean in means)]
    return [_table(column, means) for column in there]


def _table(column: Column, means: Sequence[Mean]) -> Table:
    groups = tuple(dict.fromkeys(mean.group for mean in means))
    # Where nobody knows the truth it has no row.
    known = (m.method for m in means if competes(m.method) or column.key in m.figures)
    best = {group: _best(column, [m for m in means if m.group == group]) for group in groups}
    found = {(m.method, m.group): m for m in means}
    rows = {
        method: tuple(_cell(column, found.get((method, group)), best[group]) for group in groups)
        for method in dict.fromkeys(known)
    }
    return Table(column.title, groups, rows)


def competes(method: str) -> bool:
    """Tell whether a method can be the best: doing nothing is still, and the truth is true."""
    return method not in (IDENTITY, EXACT)


def _ranks(column: Column, mean: Mean) -> bool:
    """Tell whether a method is compared: one that did the easy tasks alone is not."""
    key = column.rank
    return competes(mean.method) and key in mean.figures and key not in mean.partial


def _best(column: Column, means: Sequence[Mean]) -> float | None:
    """Return the best value in a group of what ranks; None where nobody is the best."""
    values = [m.figures[column.rank] for m in means if _ranks(column, m)]
    if len(values) < 2:
        return None
    best = min(values, key=lambda value: _distance(column, value))
    right = [
        m.figures[column.rank] for m in means if m.method == EXACT and column.rank in m.figures
    ]
    for exact in right:
        below = round(best, column.digits) < round(exact, column.digits)
        if exact > column.trusted or (column.bounded and below):
            return None
    return best


def _distance(column: Column, value: float) -> float:
    if isinstance(column.best, float):
        return abs(value - column.best)
    return value if column.best == "low" else -value


def _cell(column: Column, mean: Mean | None, best: float | None) -> Cell:
    if mean is None or column.key not in mean.figures:
        return Cell(NOTHING)
    text = _text(column, mean.figures[column.key])
    if column.key in mean.partial:
        done, of = mean.partial[column.key]
        return Cell(f"{text} ({done} of {of})")
    if best is None or not _ranks(column, mean):
        return Cell(text)
    # What looks the same as the best is as good.
    return Cell(text, _text(column, mean.figures[column.rank]) == _text(column, best))


def _text(column: Column, value: float) -> str:
    return "∞" if value == math.inf else f"{value:.{column.digits}f}"


def published_table(table: PublishedTable) -> Table:
    """Return a table of the paper's."""
    rows = {
        method: tuple(Cell(NOTHING if v is None else f"{v:g}") for v in values)
        for method, values in table.rows.items()
    }
    return Table(f"Published: {table.title}", table.columns, rows)


def cost_table(costs: Sequence[Cost]) -> Table:
    """Return the table of speed and memory."""
    rows: dict[str, tuple[Cell, ...]] = {
        cost.method: (
            Cell(f"{1 / cost.seconds:.2f}" if cost.seconds > 0 else NOTHING),
            Cell(f"{cost.mebibytes:.0f}" if cost.mebibytes == cost.mebibytes else NOTHING),
        )
        for cost in costs
    }
    sides = " and ".join(f"{side} × {side}" for side in sorted({cost.side for cost in costs}))
    title = f"Speed and memory at {sides} px, colour, ×10"
    return Table(title, ("frames/s", "MiB beyond the loaded model"), rows)
