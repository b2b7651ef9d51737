"""``flowmag evaluate``: which magnifier is better, as a report."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from napari_flowmag.evaluate.case import CaseSet
    from napari_flowmag.evaluate.cost import Cost
    from napari_flowmag.evaluate.methods import Method

_EXTRA = 'pip install "flowmag[eval]"'
_DATA, _JUDGES = "On what", "By whom, and where"


def evaluate(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for report, results and pictures.", show_default=False
        ),
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="What magnifies: a model's or baseline's name, a checkpoint, identity or exact; "
            "may be given several times. Without it: the bundled model and the baselines.",
            show_default=False,
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DIR",
            help="Frames that another program has magnified: DIR/SET/CASE, a folder of pictures or "
            "a clip, with the task's values or in whole numbers. See --export.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few tasks of each set, for a first look.")
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help="subpixel, noise, microscopy, structure, lines, known, pairs; may be given "
            "several times. All by default, pairs where --pairs is given.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Real frame pairs: test_fn.json, test/frameA, test/frameB.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    objects: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Cut-outs for subpixel and noise: PNG with transparency, VOC or COCO.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    backgrounds: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures that they move in front of.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is generated.", rich_help_panel=_DATA)] = 0,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Only write the tasks, for another program: DIR/SET/CASE.tif and tasks.json.",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    flow: Annotated[
        list[str] | None,
        typer.Option(
            help="Flow estimator that judges: dis, farneback, default, raft_large, ptlflow:NAME, "
            "…, with =FILE for weights on disk; may be given several times.",
            rich_help_panel=_JUDGES,
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda", rich_help_panel=_JUDGES)] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads; all cores by default.", rich_help_panel=_JUDGES, show_default=False
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the mean figures as JSON.")
    ] = False,
) -> None:
    """Compare magnifiers by the paper's metrics and our own, and write a report.

    A run that was stopped goes on when the same command is given again.
    """
    from napari_flowmag.cli.outputs import check_output
    from napari_flowmag.device import use_threads
    from napari_flowmag.evaluate.sets import case_sets, set_names

    if output.exists() and not output.is_dir():
        raise FlowmagError(f"{output}: is a file; give a folder")
    check_output(output)
    if threads is not None and threads < 1:
        raise FlowmagError(f"--threads {threads}: give 1 or more")
    every = [n for n in set_names() if n != "pairs" or pairs]
    names = ",".join(sets).split(",") if sets else every
    tasks = case_sets(
        names, quick=quick, seed=seed, pairs=pairs, objects=objects, backgrounds=backgrounds
    )
    if export is not None:
        _export(tasks, export)
        return
    count = threads or os.cpu_count() or 1
    use_threads(count)
    methods = _methods(method, outputs, device)
    means = _evaluate(tasks, methods, flow, quick, seed, device, count, output)
    print(json.dumps(means) if as_json else f"report: {output / 'report.html'}")


def _evaluate(
    tasks: list[CaseSet],
    methods: list[Method],
    flow: list[str] | None,
    quick: bool,
    seed: int,
    device: str,
    threads: int,
    output: Path,
) -> object:
    from napari_flowmag.cli.progress import progress_bar
    from napari_flowmag.evaluate.cost import QUICK_SIDE, SIDE
    from napari_flowmag.evaluate.judges import load_judges
    from napari_flowmag.evaluate.report import make_report, to_json, write_report
    from napari_flowmag.evaluate.run import run

    if flow:
        judges = load_judges(flow, device)
    else:
        judges = load_judges(_flows(quick), device, optional=_note)
    output.mkdir(exist_ok=True)
    total = sum(len(one.cases) for one in tasks) * len(methods)
    with progress_bar("evaluate", total, "tasks") as progress:
        found = run(tasks, methods, judges, output, progress=progress)
    costs = _costs(methods, device, threads, QUICK_SIDE if quick else SIDE)
    report = make_report(
        found,
        methods,
        list(judges),
        costs,
        output,
        device=device,
        threads=str(threads),
        tasks="quick" if quick else "full",
        seed=str(seed),
    )
    write_report(report, output)
    return [{"set": one["name"], "means": one["means"]} for one in to_json(report)["sets"]]


def _flows(quick: bool) -> tuple[str, ...]:
    from napari_flowmag.evaluate.judges import FULL_FLOWS, QUICK_FLOWS, WITHOUT_OPENCV

    if find_spec("cv2") is None:
        _note(f"{', '.join(WITHOUT_OPENCV)} judge; for DIS and Farnebäck: {_EXTRA}")
        return WITHOUT_OPENCV
    return QUICK_FLOWS if quick else FULL_FLOWS


def _methods(names: list[str] | None, outputs: list[str] | None, device: str) -> list[Method]:
    from napari_flowmag.evaluate.methods import DEFAULT_METHODS, make_methods

    if names is None:
        names = list(DEFAULT_METHODS)
        if find_spec("cv2") is None:
            without = [name for name in names if name.startswith("warp-")]
            names = [name for name in names if name not in without]
            _note(f'{", ".join(without)} are left out: pip install "flowmag[eval]"')
    folders = []
    for text in outputs or []:
        name, sign, folder = text.partition("=")
        if not (name and sign and folder):
            raise FlowmagError(f"--outputs {text}: give NAME=DIR")
        folders.append((name, Path(folder)))
    return make_methods(names, folders, device)


def _costs(methods: list[Method], device: str, threads: int, side: int) -> list[Cost]:
    from napari_flowmag.cli.progress import progress_bar
    from napari_flowmag.evaluate.cost import measure_cost

    measured = [(method.name, method.model) for method in methods if method.model]
    costs = []
    with progress_bar("speed", len(measured), "methods") as progress:
        for done, (name, model) in enumerate(measured, start=1):
            try:
                costs.append(measure_cost(name, model, device, threads, side))
            except FlowmagError as error:
                _note(str(error))
            progress(done, len(measured))
    return costs


def _export(tasks: list[CaseSet], folder: Path) -> None:
    from napari_flowmag.cli.progress import progress_bar
    from napari_flowmag.evaluate.export import export_tasks

    total = sum(len(one.cases) for one in tasks)
    with progress_bar("export", total, "tasks") as progress:
        path = export_tasks(tasks, folder, progress)
    print(f"tasks: {path}")


def _note(line: str) -> None:
    print(f"flowmag: {line}", file=sys.stderr)
