"""Every method does every task and is judged; what is done is kept and not done again."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.errors import Cancelled
from napari_flowmag.evaluate.case import Case, CaseSet, Sample
from napari_flowmag.evaluate.figures import Flow, input_flows, judge
from napari_flowmag.evaluate.judges import judges_key
from napari_flowmag.evaluate.methods import Magnified, Method
from napari_flowmag.evaluate.pictures import (
    has_pictures,
    picture_folder,
    shown_cases,
    write_pictures,
)
from napari_flowmag.evaluate.store import Result, Store

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SetResults:
    """What all methods made of a set.

    Attributes
    ----------
    cases
        The set.
    results
        Name of a method → its results in the order of the tasks.
    """

    cases: CaseSet
    results: dict[str, list[Result]]


def run(
    sets: Sequence[CaseSet],
    methods: Sequence[Method],
    flows: Mapping[str, Flow],
    out: Path,
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> list[SetResults]:
    """Let every method do every task.

    Parameters
    ----------
    sets, methods
        What is done, and by whom.
    flows
        Name → estimator that judges.
    out
        Folder in which results and pictures are kept. A run that was stopped goes on where it was
        when it is started again with the same folder.
    progress
        Called with (done, in all), counted in methods × tasks.
    cancel
        Once set, the run ends after the task at hand.

    Returns
    -------
    list of SetResults
        In the order of the sets.

    Raises
    ------
    Cancelled
        If `cancel` was set.
    FlowmagError
        If a method cannot do a task.
    """
    # By the names with folders: a file's weights count, not what it is called in the report.
    judged_by = judges_key([getattr(flow, "name", title) for title, flow in flows.items()])
    total = sum(len(cases.cases) for cases in sets) * len(methods)
    done, found = 0, []
    for cases in sets:
        stores = [Store(out / "results", cases, method, judged_by) for method in methods]
        shown = shown_cases(cases)
        for case in cases.cases:
            task = _Task(cases, case, flows)
            wanted = case in shown
            folder = picture_folder(out / "pictures", cases, case) if wanted else None
            for method, store in zip(methods, stores, strict=True):
                if cancel is not None and cancel.is_set():
                    raise Cancelled
                if case.name not in store.results or not has_pictures(folder, method):
                    task.do(method, store, folder)
                done += 1
                if progress:
                    progress(done, total)
        found.append(SetResults(cases, _in_order(cases, methods, stores)))
    return found


class _Task:
    """A task with what all methods share; nothing is made before the first of them needs it."""

    def __init__(self, cases: CaseSet, case: Case, flows: Mapping[str, Flow]) -> None:
        self._cases, self._case, self._flows = cases, case, flows

    @functools.cached_property
    def _sample(self) -> Sample:
        return self._case.make()

    @functools.cached_property
    def _inputs(self) -> dict[str, NDArray[np.float64]]:
        return input_flows(self._sample, self._flows)

    def do(self, method: Method, store: Store, folder: Path | None) -> None:
        """Let a method do it; keep new figures, and pictures where they are wanted."""
        case, sample = self._case, self._sample
        method.load()
        began = time.perf_counter()
        magnified: Magnified | None = method.magnify(self._cases, case, sample)
        seconds = (time.perf_counter() - began) / (len(sample.frames) - 1)
        if magnified is not None and folder is not None:
            write_pictures(folder, sample, method, magnified)
        if case.name in store.results:
            return
        figures = {}
        if magnified is not None:
            figures = judge(sample, magnified, case.alpha, self._flows, self._inputs)
        store.add(Result(case.name, case.alpha, case.level, figures, seconds))


def _in_order(
    cases: CaseSet, methods: Sequence[Method], stores: Sequence[Store]
) -> dict[str, list[Result]]:
    return {
        method.name: [store.results[case.name] for case in cases.cases]
        for method, store in zip(methods, stores, strict=True)
    }
