"""The command ``flowmag-train prepare``: frame pairs to train on, from clips."""

from __future__ import annotations

import sys
from pathlib import Path

from napari_flowmag.cli.flags import config_of, parse, settings_parser
from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.prepare.config import PrepareConfig, SelectionConfig


def prepare_pairs(arguments: list[str]) -> None:
    """Run the command, and print the folder of the pairs when they are complete.

    Raises
    ------
    FlowmagError
        For unusable settings and sources.
    Cancelled
        When interrupted.
    """
    parser = settings_parser(
        "flowmag-train prepare",
        "Build a set of frame pairs to train on from clips: `flowmag-train OUT` takes it. The same "
        "command goes on with a run that was stopped.",
        "folder of the set",
        SelectionConfig,
        PrepareConfig,
    )
    parser.add_argument(
        "sources", nargs="*", type=Path, help="clips and folders of clips", metavar="SOURCE"
    )
    values = parse(parser, arguments)
    selection, config = config_of(SelectionConfig, values), config_of(PrepareConfig, values)
    if not values.sources:
        raise FlowmagError("name the clips, or folders of clips, to take pairs from")

    from napari_flowmag.train.prepare.build import prepare

    count = prepare(values.sources, selection, config, report_line)
    if count is not None:
        report_line(f"{count} pairs; a contact sheet is in {config.out / 'index.html'}")
        print(config.out)


def report_line(line: str) -> None:
    """Show how a long job goes."""
    print(line, file=sys.stderr, flush=True)
