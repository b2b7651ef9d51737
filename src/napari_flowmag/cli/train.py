"""The command ``flowmag-train``: train magnifiers and flows, prepare pairs, average models."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_flowmag.cli import print_anything
from napari_flowmag.cli.flags import config_of, parse, settings_parser
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.train.config import AugmentConfig, LoopConfig, MagnifierConfig, plain
from napari_flowmag.train.prepare.config import SelectionConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from jsonargparse import ArgumentParser, Namespace
    from lightning_fabric import Fabric

    from napari_flowmag.train.run import Task

CONFIG = "config.yaml"

_Config = TypeVar("_Config", bound="DataclassInstance")


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
    print_anything()
    try:
        if arguments and arguments[0] in _OTHERS:
            _OTHERS[arguments[0]](arguments[1:])
        else:
            _train_magnifier(arguments)
    except FlowmagError as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        from napari_flowmag.device import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _fail("memory is full: lower --batch or --crop, or use --accumulate")
    except (Cancelled, KeyboardInterrupt) as stop:
        print(f"flowmag-train: {str(stop) or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


def _fail(reason: str) -> int:
    print(f"flowmag-train: error: {' '.join(reason.split())}", file=sys.stderr)
    return 2


def _train_magnifier(arguments: list[str]) -> None:
    values = _parse(_magnifier_parser(), arguments)
    if "data" not in values:
        raise FlowmagError("name the folder of frame pairs or clips to train on")
    loop, selection = config_of(LoopConfig, values), config_of(SelectionConfig, values)
    augment, config = config_of(AugmentConfig, values), config_of(MagnifierConfig, values)

    from napari_flowmag.cli.clip_pairs import few_pairs, pairs_of_clips
    from napari_flowmag.train.data import is_pair_folder, open_pairs
    from napari_flowmag.train.distributed import start_fabric
    from napari_flowmag.train.loop import check_folder
    from napari_flowmag.train.magnifier import MagnifierTask

    check_folder(loop.out, values.resume)
    source = values.data.absolute()
    settings = {"data": str(source)} | plain(selection, augment, config, loop)
    if values.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            if is_pair_folder(source):
                pairs = open_pairs(source, augment.crop)
            else:
                pairs = few_pairs(source, Path(scratch), selection, augment.crop, loop.workers)
                # Of so few, none might be left to train on; the run itself will have more.
                config = replace(config, held_out=0)
            _rehearse(MagnifierTask(pairs, config, augment, loop.seed), loop)
        return
    fabric = start_fabric(loop)
    if is_pair_folder(source):
        pairs = open_pairs(source, augment.crop)
    else:
        saved = _saved_settings(loop.out) if values.resume else None
        out = loop.out / "pairs"
        pairs = pairs_of_clips(source, out, selection, augment.crop, loop.workers, saved, fabric)
    task = MagnifierTask(pairs, config, augment, loop.seed)
    if fabric.is_global_zero:
        print(f"{task.count} pairs to train on, {len(task.held_out)} held out", file=sys.stderr)
    _fit(task, loop, settings, values.resume, fabric)


def _magnifier_parser() -> ArgumentParser:
    parser = _parser(
        "flowmag-train",
        "Train a magnifier on real frame pairs. `flowmag-train prepare SOURCE -o OUT` makes such "
        "pairs of clips; `flowmag-train flow -o RUN` trains the flow estimator, `flowmag-train oh "
        "-o RUN` a baseline; `flowmag-train average MODEL MODEL -o FILE` averages models.",
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
    return parser


def _train_flow(arguments: list[str]) -> None:
    from napari_flowmag.train.flow import FlowConfig, FlowTask

    _train_on_scenes(
        "flowmag-train flow",
        "Train the flow estimator on random synthetic pairs, whose flow is known.",
        FlowConfig,
        FlowTask,
        arguments,
    )


def _train_oh(arguments: list[str]) -> None:
    from napari_flowmag.train.oh import OhConfig, OhTask

    _train_on_scenes(
        "flowmag-train oh",
        "Train the network of Oh et al. (2018), a baseline, on random synthetic pairs and their "
        "magnified frames.",
        OhConfig,
        OhTask,
        arguments,
    )


def _train_on_scenes(
    name: str,
    description: str,
    kind: type[_Config],
    make: Callable[[_Config, int], Task],
    arguments: list[str],
) -> None:
    """Train on random scenes, which need no data."""
    from napari_flowmag.train.distributed import start_fabric
    from napari_flowmag.train.loop import check_folder

    values = _parse(_parser(name, description, kind), arguments)
    loop, config = config_of(LoopConfig, values), config_of(kind, values)
    check_folder(loop.out, values.resume)
    task = make(config, loop.seed)
    if values.dry_run:
        _rehearse(task, loop)
    else:
        _fit(task, loop, plain(config, loop), values.resume, start_fabric(loop))


def _prepare(arguments: list[str]) -> None:
    from napari_flowmag.cli.prepare import prepare_pairs

    prepare_pairs(arguments)


def _average(arguments: list[str]) -> None:
    from napari_flowmag.cli.average import average_models

    average_models(arguments)


_OTHERS = {"prepare": _prepare, "flow": _train_flow, "oh": _train_oh, "average": _average}
"""What is done if it is named first, other than training a magnifier."""


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

    def keep_settings() -> None:
        write_atomically(loop.out / CONFIG, yaml.safe_dump(settings, sort_keys=False).encode())

    try:
        weights = fit(task, loop, resume, fabric, keep_settings)
    except (Cancelled, SharedError):
        if fabric.is_global_zero:
            raise
        # The first process tells it, by its exit status too: it would be killed before it can,
        # should another one that it started fail.
        return
    if fabric.is_global_zero:
        print(weights)


def _parser(name: str, description: str, *configs: type) -> ArgumentParser:
    parser = settings_parser(
        name, description, "folder of the run: weights, state, metrics", *configs, LoopConfig
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="read the data, do three steps, print their time and memory, and write nothing",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    return parser


def _parse(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """Parse; a resumed run has the settings that it began with, unless told otherwise."""
    values = parse(parser, arguments)
    saved = values.out / CONFIG
    if values.resume and saved.is_file():
        values = parse(parser, ["--config", str(saved), *arguments])
    return values


def _saved_settings(out: Path) -> dict[str, Any]:
    """Return the settings that the run in a folder began with; none if it has lost them."""
    import yaml

    path = out / CONFIG
    return dict(yaml.safe_load(path.read_text("utf-8"))) if path.is_file() else {}
