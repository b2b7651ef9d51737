"""Results of single tasks on disk, so that an evaluation that was stopped goes on."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from napari_flowmag.evaluate.case import CaseSet
from napari_flowmag.evaluate.methods import Method


@dataclass(frozen=True)
class Result:
    """What a method made of a task.

    Attributes
    ----------
    case, alpha, level
        The task.
    figures
        From :func:`~napari_flowmag.evaluate.figures.judge`; empty where the method had no answer.
    seconds
        For each frame.
    """

    case: str
    alpha: float
    level: float | None
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Store:
    """Results of one method on one set, a line for each task.

    Parameters
    ----------
    root
        Folder of all results.
    cases, method, judged_by
        Whose results: those of another version of any of them are not seen.
    """

    def __init__(self, root: Path, cases: CaseSet, method: Method, judged_by: str) -> None:
        name = f"{plain_name(method.name)}-{method.key[:12]}-{judged_by[:12]}.jsonl"
        self._path = root / set_folder(cases) / name
        self.results = {result.case: result for result in self._read()}

    def add(self, result: Result) -> None:
        """Keep a result."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        self.results[result.case] = result

    def _read(self) -> list[Result]:
        if not self._path.is_file():
            return []
        text = self._path.read_text(encoding="utf-8")
        whole, _, torn = text.rpartition("\n")
        if torn:  # a run was killed while it wrote this line
            self._path.write_text(whole + "\n" if whole else "", encoding="utf-8")
        return [Result(**json.loads(line)) for line in whole.splitlines()]


def set_folder(cases: CaseSet) -> str:
    """Return the name of a set's folder: another one where any of its samples would differ."""
    return f"{cases.name}-{cases.fingerprint[:12]}"


def plain_name(name: str) -> str:
    """Return a name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(name).name if "/" in name else name)
