"""The command ``flowmag-train average``: one model from several."""

from __future__ import annotations

from pathlib import Path

from napari_flowmag.cli.flags import parse
from napari_flowmag.cli.outputs import check_output
from napari_flowmag.errors import FlowmagError


def average_models(arguments: list[str]) -> None:
    """Run the command, and print the file that it has written.

    Raises
    ------
    FlowmagError
        For models that cannot be read or averaged, and a place where nothing can be written.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog="flowmag-train average",
        description="Average the weights of models that were trained from the same beginning, such "
        "as a bundled model and what your own training made of it: the mean keeps most of both.",
        exit_on_error=False,
    )
    parser.add_argument(
        "models",
        nargs="+",
        help="default (the bundled magnifier) or the path of a flowmag .safetensors file",
        metavar="MODEL",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="the .safetensors to write")
    values = parse(parser, arguments)
    out: Path = values.out
    if out.suffix != ".safetensors":
        raise FlowmagError(f"{out}: give a name that ends in .safetensors")
    check_output(out, *values.models)

    from napari_flowmag.checkpoint import read_checkpoint, save_checkpoint
    from napari_flowmag.models import find_model
    from napari_flowmag.train.average import average

    paths = [find_model(name) for name in values.models]
    for name, path in zip(values.models, paths, strict=True):
        if path is None:
            raise FlowmagError(f"{name} has no weights to average")
    module, facts = average([read_checkpoint(path) for path in paths if path is not None])
    save_checkpoint(out, module, **facts)
    print(out)
