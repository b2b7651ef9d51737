"""From clips to a set of frame pairs: find them, do what is not done yet, merge."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from napari_flowmag import __version__
from napari_flowmag.errors import Cancelled
from napari_flowmag.flow import load_flow
from napari_flowmag.provenance import state_sha256
from napari_flowmag.train.config import plain
from napari_flowmag.train.data import spread
from napari_flowmag.train.prepare.config import PrepareConfig, SelectionConfig
from napari_flowmag.train.prepare.layout import check_folder, remove_lists
from napari_flowmag.train.prepare.measure import Job, start_measuring
from napari_flowmag.train.prepare.merge import merge
from napari_flowmag.train.prepare.parallel import Died, work_through
from napari_flowmag.train.prepare.results import ClipResult, read_header, write_result
from napari_flowmag.train.prepare.sources import Source, find_sources, fingerprint

Report = Callable[[str], None]

_FORMAT = 1
"""To be raised when the same clip and settings give another result than before."""

_SHOWN, _SHOWN_IN_ALL = 6, 300
"""Kept pairs of a clip with thumbnails, and of all clips; and as many rejected ones."""


def prepare(
    sources: Sequence[Path], selection: SelectionConfig, config: PrepareConfig, report: Report
) -> int | None:
    """Build a set of frame pairs in the authors' layout from clips.

    In ``config.out`` there are then ``train/frameA``, ``train/frameB`` and ``train_fn.json``, the
    same for ``test`` if asked for, ``statistics.json`` with a row for each pair looked at,
    ``index.html`` with some of them, and ``clips`` with a result for each clip: those are not done
    again. The set is a function of clips, settings and versions: not of how often the work was
    interrupted, by how many processes or shards it was done, and in which order they ended.

    Parameters
    ----------
    sources
        Clips, and folders of clips: all that :func:`~napari_flowmag.io.read_clip` reads.
    selection
        Which pairs to look at, and what makes them fit.
    config
        Where to write, and how to share the work.
    report
        Takes lines on how it goes; clips that cannot be read are named there and passed over.

    Returns
    -------
    int or None
        Number of pairs in the lists; None if other shards have clips to do.

    Raises
    ------
    FlowmagError
        If there is no clip, or not one can be read, or not one pair in them is fit; or if the
        folder holds a set that was made otherwise.
    Cancelled
        On Ctrl+C.
    OSError
        If the folder cannot be written to.
    """
    check_folder(config.out)
    flow = load_flow(selection.selection_flow)
    decisive = plain(selection) | {
        "selection_flow": Path(selection.selection_flow).name,
        "selection_flow_sha256": state_sha256(flow),
    }
    jobs = _jobs(find_sources(sources, config.out), config.out, decisive)
    states = [_state(job) for job in jobs]
    if any(states):
        report(f"{sum(map(bool, states))} of {len(jobs)} clips were done before")
    todo = [jobs[i] for i in range(len(jobs))[config.part] if states[i] != "read"]
    if todo or not all(states):
        remove_lists(config.out)
    _work(todo, selection, config.workers, report)
    if not all(_state(job) for job in jobs):
        report("other shards have clips to do; the run that does the last one writes the lists")
        return None
    facts = {
        "flowmag": __version__,
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "numpy": version("numpy"),
        },
        "settings": decisive | {"test": config.test},
    }
    paths = [job.result_path for job in jobs]
    return merge(config.out, paths, config.test, selection.duplicate, facts)


def _jobs(sources: Sequence[Source], out: Path, decisive: dict[str, Any]) -> list[Job]:
    most = min(_SHOWN, _SHOWN_IN_ALL // len(sources))
    few = set(spread(len(sources), _SHOWN_IN_ALL))
    return [
        Job(source, out, _key(source, decisive), most or int(i in few))
        for i, source in enumerate(sources)
    ]


def _key(source: Source, decisive: dict[str, Any]) -> str:
    parts = [_FORMAT, source.label, fingerprint(source.path), decisive]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _state(job: Job) -> Literal["read", "unreadable"] | None:
    """Tell what an earlier run has made of a clip; those that were unreadable are tried again."""
    known = read_header(job.result_path)
    if known is None or known.key != job.key:
        return None
    return "read" if known.error is None else "unreadable"


def _work(
    jobs: Sequence[Job], selection: SelectionConfig, workers: int | None, report: Report
) -> None:
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    start = functools.partial(start_measuring, selection)
    answers = work_through(start, jobs, min(workers, len(jobs)))
    try:
        for number, (job, answer) in enumerate(answers, 1):
            line = _bury(job, answer) if isinstance(answer, Died) else answer
            report(f"[{number}/{len(jobs)}] {line}")
    except KeyboardInterrupt:
        raise Cancelled("stopped; the same command goes on where it stopped") from None


def _bury(job: Job, died: Died) -> str:
    """Write the result of a clip whose process did not live to do it."""
    reason = (
        f"{job.source.label}: the process that read it died (status {died.code}): the file is "
        "damaged, or too large for the memory"
    )
    result = ClipResult(job.source.label, job.key, error=reason)
    write_result(job.result_path, result)
    return result.summary
