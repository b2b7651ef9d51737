"""Flags of ``flowmag-train``: every field of some settings classes, also in YAML files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_flowmag.errors import FlowmagError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

Config = TypeVar("Config")


def settings_parser(name: str, description: str, out: str, *configs: type) -> ArgumentParser:
    """Make a parser with a flag for each field of some settings classes.

    Parameters
    ----------
    name, description
        What ``--help`` begins with.
    out
        Help of ``--out``, a folder.
    *configs
        Dataclasses; their docstrings are the flags' help.
    """
    from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

    parser = ArgumentParser(prog=name, description=description, exit_on_error=False)
    parser.add_argument("-o", "--out", type=Path, required=True, help=out)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of settings")
    for config in configs:
        parser.add_class_arguments(config, skip={"out"})
    return parser


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse a command line.

    Raises
    ------
    FlowmagError
        For unknown settings and values that do not fit, and for a file of settings that is no text.
    """
    from argparse import ArgumentError

    try:
        return parser.parse_args(_with_lists([_with_underscores(word) for word in arguments]))
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise FlowmagError(reason.replace("are required: out", "are required: -o")) from error
    except UnicodeDecodeError as error:
        raise FlowmagError(f"--config: the file is no text in UTF-8 ({error.reason})") from error


def config_of(kind: type[Config], values: Namespace) -> Config:
    """Make settings of a class from what was parsed."""
    return kind(**{f.name: values[f.name] for f in fields(kind)})  # type: ignore[arg-type]


def _with_underscores(argument: str) -> str:
    """Let ``--weight-decay`` be ``--weight_decay``, the setting's name in YAML and Python."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _with_lists(arguments: list[str]) -> list[str]:
    """Let ``--strides 1 5`` be ``--strides [1,5]``."""
    words: list[str] = []
    for word in arguments:
        if word.isdecimal() and words and words[-1].startswith("--strides="):
            words[-1] = f"{words[-1][:-1]},{word}]"
        elif word.isdecimal() and words and words[-1] == "--strides":
            words[-1] = f"--strides=[{word}]"
        else:
            words.append(word)
    return words
