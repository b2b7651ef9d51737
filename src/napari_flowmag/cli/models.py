"""``flowmag models``: the magnifiers that ship with the package, and the baselines."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from napari_flowmag.models import ModelInfo


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the bundled models, and the baselines to compare them with."""
    from napari_flowmag.models import available_models

    infos = available_models()
    if as_json:
        print(json.dumps([_plain(info) for info in infos]))
        return
    for info in infos:
        name = f"{info.name}[:{info.option}]" if info.option else info.name
        print(f"{name}: {info.description}")
        if info.baseline:
            print(f"    baseline; {info.source}")
        else:
            print(f"    {info.architecture}, {info.params:,} parameters, sha256 {info.sha256}")


def _plain(info: ModelInfo) -> dict[str, Any]:
    return {**dataclasses.asdict(info), "path": None if info.path is None else str(info.path)}
