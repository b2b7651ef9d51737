"""A page with some kept and some rejected pairs of each clip, to be looked at before training."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_flowmag.atomic import replacing
from napari_flowmag.train.prepare.pictures import STILL
from napari_flowmag.train.prepare.results import ClipResult, PairResult

_ROWS = 1000
"""Clips in the table."""

_STYLE = """
:root { color-scheme: light dark; --line: #8885; --good: #2a7; --bad: #c53; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
h3 { font-size: .9rem; margin: .8rem 0 .3rem; font-weight: 600; }
table { border-collapse: collapse; margin: .5rem 0; }
td, th { padding: .15rem .7rem .15rem 0; border-bottom: 1px solid var(--line); text-align: left; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.pairs { display: flex; flex-wrap: wrap; gap: .8rem; }
figure { margin: 0; border-top: 3px solid var(--good); padding-top: 3px; width: 438px; }
figure.rejected { border-color: var(--bad); }
figure img { width: 144px; margin-right: 2px; vertical-align: top; }
figcaption { font-size: 12px; overflow-wrap: anywhere; }
.error { color: var(--bad); }
"""


def write_contact_sheet(
    path: Path,
    results: Callable[[], Iterator[ClipResult]],
    splits: Mapping[str, str],
    facts: Mapping[str, Any],
) -> None:
    """Write the page: one file, well-formed as XML too, that needs nothing else.

    Parameters
    ----------
    path
        Where to write.
    results
        Gives the clips in order, each time anew, so that they need not all be in memory.
    splits
        Split of each kept pair by its file name.
    facts
        ``counts``, ``settings``, ``versions`` and ``flowmag``.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for line in _page(results, splits, facts):
            file.write(line + "\n")


def _page(
    results: Callable[[], Iterator[ClipResult]],
    splits: Mapping[str, str],
    facts: Mapping[str, Any],
) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
    yield f"<title>Frame pairs</title><style>{_STYLE}</style></head><body>"
    yield from _header(facts)
    yield from _reasons(results())
    yield from _clips(results(), facts["counts"]["clips"])
    for number, result in enumerate(results()):
        yield from _clip(number, result, splits)
    yield "</body></html>"


def _header(facts: Mapping[str, Any]) -> Iterator[str]:
    counts = facts["counts"]
    unreadable = f"; {counts['unreadable']} more cannot be read" if counts["unreadable"] else ""
    yield (
        f"<h1>Frame pairs</h1><p>{counts['kept']} pairs kept of {counts['pairs']} looked at, in "
        f"{counts['scenes']} scenes of {counts['clips'] - counts['unreadable']} clips{unreadable}: "
        f"{counts['train']} to train on, {counts['test']} to test on.</p>"
    )
    yield (
        "<p>p999, p80 and p001 are percentiles of the motion in px (99.9, 80, 0.01), mse is the "
        "mean squared difference of the frames in grey levels of 255. Each row shows the first "
        "frame, the second, and the motion from black (none) to yellow (p999, at least "
        f"{STILL} px).</p>"
    )
    versions = {"flowmag": facts["flowmag"], **facts["versions"]}
    settings = {k: "unset" if v is None else v for k, v in facts["settings"].items()}
    rows = {**settings, "versions": ", ".join(f"{k} {v}" for k, v in versions.items())}
    yield _table((_text(name), _text(value)) for name, value in rows.items())


def _reasons(results: Iterable[ClipResult]) -> Iterator[str]:
    counts = Counter(
        kind
        for result in results
        for pair in result.pairs
        if pair.reason is not None
        for kind in _kinds(pair.reason)
    )
    if counts:
        yield "<h2>Why pairs are rejected</h2>"
        yield _table((_text(kind), str(count)) for kind, count in counts.most_common())


def _kinds(reason: str) -> list[str]:
    """Return the settings, or the word duplicate, that a reason speaks of."""
    return [part.split()[0].strip(":") for part in reason.split(", ")]


def _clips(results: Iterable[ClipResult], count: int) -> Iterator[str]:
    yield "<h2>Clips</h2>"
    rows = []
    for number, result in enumerate(results):
        if number == _ROWS:
            break
        name = f'<a href="#clip{number}">{_text(result.label)}</a>'
        if result.error is None:
            scenes, kept = len(result.scenes), len(result.kept)
            facts = f"{result.frames} frames, {scenes} scene{'s' if scenes > 1 else ''}"
            rows.append((name, facts, f"{kept} of {len(result.pairs)}"))
        else:
            rows.append((name, f'<span class="error">{_text(result.error)}</span>', ""))
    yield _table(rows)
    if count > _ROWS:
        yield f"<p>and {count - _ROWS} more, which are in statistics.json.</p>"


def _clip(number: int, result: ClipResult, splits: Mapping[str, str]) -> Iterator[str]:
    drawn = [pair for pair in result.pairs if pair.thumbnails]
    if number >= _ROWS and not drawn:
        return
    yield f'<section id="clip{number}"><h2>{_text(result.label)}</h2>'
    if result.error is not None:
        yield f'<p class="error">{_text(result.error)}</p>'
    elif not result.pairs:
        yield "<p>No scene has two frames at one of the strides.</p>"
    kept, looked_at = len(result.kept), len(result.pairs)
    for what, title in (("kept", f"{kept} kept"), ("rejected", f"{looked_at - kept} rejected")):
        group = [pair for pair in drawn if (pair.reason is None) == (what == "kept")]
        if group:
            some = f", {len(group)} of them here" if len(group) < int(title.split()[0]) else ""
            yield f'<h3>{title}{some}</h3><div class="pairs">'
            yield from (_figure(what, pair, splits.get(str(pair.file), "")) for pair in group)
            yield "</div>"
    yield "</section>"


def _figure(what: str, pair: PairResult, split: str) -> str:
    images = "".join(
        f'<img alt="{alt}" src="data:image/jpeg;base64,{data}"/>'
        for alt, data in zip(("first", "second", "motion"), pair.thumbnails, strict=True)
    )
    s = pair.statistics
    plane = f", plane {pair.plane}" if pair.plane else ""
    note = f"<b>{_text(pair.reason)}</b>" if pair.reason else f"{split}: {_text(pair.file)}"
    return (
        f'<figure class="{what}">{images}<figcaption>scene {pair.scene}, frames {pair.frames[0]} '
        f"and {pair.frames[1]}{plane}: p999 {s.p999:.2f}, p80 {s.p80:.2f}, p001 {s.p001:.3f}, "
        f"mse {s.mse:.1f}<br/>{note}</figcaption></figure>"
    )


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table of cells that are HTML."""
    lines = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _text(value: object) -> str:
    """Return a value as text for HTML, also of file names that are no text."""
    # Undecodable bytes are lone surrogates in Python, and control characters are not allowed.
    return html.escape(re.sub("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(value)))
