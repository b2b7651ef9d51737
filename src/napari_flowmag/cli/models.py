"""``flowmag models``: the magnifiers that ship with the package."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer


def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the bundled models."""
    from napari_flowmag.models import available_models

    infos = available_models()
    if as_json:
        print(json.dumps([{**dataclasses.asdict(i), "path": str(i.path)} for i in infos]))
        return
    for info in infos:
        print(f"{info.name}: {info.description}")
        print(f"    {info.architecture}, {info.params:,} parameters, sha256 {info.sha256}")
