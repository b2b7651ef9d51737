"""The command ``flowmag-train``: train a magnifier, or the flow estimator."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.train.config import (
    AugmentConfig,
    LoopConfig,
    MagnifierConfig,
    SelectionConfig,
    plain,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from lightning_fabric import Fabric

    from napari_flowmag.train.data import PairFolder
    from napari_flowmag.train.run import Task

CONFIG = "config.yaml"

_Config = TypeVar("_Config")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments
        Those of the command line when None.

    Returns
    -------
    int
        0 when done, 2 for unusable input, 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["flow"]:
            _train_flow(arguments[1:])
        else:
            _train_magnifier(arguments)
    except FlowmagError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}")
    except (Cancelled, KeyboardInterrupt) as stop:
        print(f"flowmag-train: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


def _fail(reason: str) -> int:
    print(f"flowmag-train: error: {' '.join(reason.split())}", file=sys.stderr)
    return 2


def _train_magnifier(arguments: list[str]) -> None:
    parser = _parser(
        "flowmag-train",
        "Train a magnifier on real frame pairs. `flowmag-train flow -o RUN` trains the flow "
        "estimator instead.",
        SelectionConfig,
        AugmentConfig,
        MagnifierConfig,
    )
    parser.add_argument(
        "data",
        nargs="?",
        default=argparse.SUPPRESS,
        type=Path,
        help="folder of frame pairs (train/frameA, train/frameB, train_fn.json), folder of clips, "
        "or a clip",
    )
    values = _parse(parser, arguments)
    if "data" not in values:
        raise FlowmagError("name the folder of frame pairs or clips to train on")
    loop, selection = _config(LoopConfig, values), _config(SelectionConfig, values)
    augment, config = _config(AugmentConfig, values), _config(MagnifierConfig, values)

    from napari_flowmag.train.data import is_pair_folder, open_pairs
    from napari_flowmag.train.distributed import start_fabric
    from napari_flowmag.train.loop import check_folder
    from napari_flowmag.train.magnifier import MagnifierTask

    check_folder(loop.out, values.resume)
    source = values.data.absolute()
    fabric = None if values.dry_run else start_fabric(loop)
    with tempfile.TemporaryDirectory() as scratch:
        if is_pair_folder(source):
            pairs = open_pairs(source, augment.crop)
        elif fabric is None:
            few = replace(selection, pairs_per_clip=min(selection.pairs_per_clip, 5))
            pairs = _pairs_of_clips(source, Path(scratch), few, augment)
        else:
            with fabric.rank_zero_first():
                pairs = _pairs_of_clips(source, loop.out / "pairs", selection, augment)
        task = MagnifierTask(pairs, config, augment, loop.seed)
        if fabric is None:
            _rehearse(task, loop)
            return
    if fabric.is_global_zero:
        print(f"{task.count} pairs to train on, {len(task.held_out)} held out", file=sys.stderr)
    settings = {"data": str(source)} | plain(selection, augment, config, loop)
    _fit(task, loop, settings, values.resume, fabric)


def _pairs_of_clips(
    source: Path, out: Path, selection: SelectionConfig, augment: AugmentConfig
) -> PairFolder:
    """Select the pairs of clips, unless an earlier start of the run has done so."""
    from napari_flowmag.train.data import open_pairs
    from napari_flowmag.train.filter import select_pairs

    if not (out / "train_fn.json").is_file():
        select_pairs(source, out, selection, report=lambda line: print(line, file=sys.stderr))
    return open_pairs(out, augment.crop)


def _train_flow(arguments: list[str]) -> None:
    from napari_flowmag.train.distributed import start_fabric
    from napari_flowmag.train.flow import FlowConfig, FlowTask
    from napari_flowmag.train.loop import check_folder

    parser = _parser(
        "flowmag-train flow",
        "Train the flow estimator on random synthetic pairs, whose flow is known.",
        FlowConfig,
    )
    values = _parse(parser, arguments)
    loop, config = _config(LoopConfig, values), _config(FlowConfig, values)
    check_folder(loop.out, values.resume)
    task = FlowTask(config, loop.seed)
    if values.dry_run:
        _rehearse(task, loop)
    else:
        _fit(task, loop, plain(config, loop), values.resume, start_fabric(loop))


def _rehearse(task: Task, loop: LoopConfig) -> None:
    from napari_flowmag.train.rehearsal import rehearse

    cost = rehearse(task, replace(loop, devices=1, nodes=1))
    print(
        f"loss {cost['loss']:.4g}, {cost['seconds_per_step']:.3g} s a step, of which "
        f"{cost['seconds_waiting']:.3g} s to prepare its data, {cost['memory']:.0f} MiB at most; "
        "nothing was written"
    )


def _fit(
    task: Task, loop: LoopConfig, settings: dict[str, Any], resume: bool, fabric: Fabric
) -> None:
    import yaml

    from napari_flowmag.atomic import write_atomically
    from napari_flowmag.train.distributed import SharedError
    from napari_flowmag.train.loop import fit

    settings.pop("out")  # the folder may move
    if fabric.is_global_zero:
        loop.out.mkdir(parents=True, exist_ok=True)
        write_atomically(loop.out / CONFIG, yaml.safe_dump(settings, sort_keys=False).encode())
    try:
        weights = fit(task, loop, resume, fabric)
    except (Cancelled, SharedError):
        if fabric.is_global_zero:
            raise
        # The first process tells it, by its exit status too: it would be killed before it can,
        # should another one that it started fail.
        return
    if fabric.is_global_zero:
        print(weights)


def _parser(name: str, description: str, *configs: type) -> ArgumentParser:
    from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

    parser = ArgumentParser(prog=name, description=description, exit_on_error=False)
    parser.add_argument(
        "-o", "--out", type=Path, required=True, help="folder of the run: weights, state, metrics"
    )
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of settings")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="read the data, do three steps, print their time and memory, and write nothing",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    for config in (*configs, LoopConfig):
        parser.add_class_arguments(config, skip={"out"})
    return parser


def _parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parse; a resumed run has the settings that it began with, unless told otherwise.

    Raises
    ------
    FlowmagError
        For unknown settings and values that do not fit.
    """
    from argparse import ArgumentError

    arguments = [_with_underscores(argument) for argument in arguments]
    try:
        values = parser.parse_args(arguments)
        saved = values.out / CONFIG
        if values.resume and saved.is_file():
            values = parser.parse_args(["--config", str(saved), *arguments])
    except ArgumentError as error:
        raise FlowmagError(" ".join(str(error).split())) from error
    return values


def _with_underscores(argument: str) -> str:
    """Let ``--weight-decay`` be ``--weight_decay``, the setting's name in YAML and Python."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _config(kind: type[_Config], values: Namespace) -> _Config:
    return kind(**{f.name: values[f.name] for f in fields(kind)})  # type: ignore[arg-type]
