"""The sub-commands of ``flowmag``, each imported when it is named."""

from __future__ import annotations

import pkgutil
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_flowmag import __version__

COMMANDS = {
    "magnify": "napari_flowmag.cli.magnify:magnify",
    "adapt": "napari_flowmag.cli.adapt:adapt",
    "demo": "napari_flowmag.cli.demo:demo",
    "kymograph": "napari_flowmag.cli.kymograph:kymograph",
    "segment": "napari_flowmag.cli.segment:segment",
    "measure": "napari_flowmag.cli.measure:measure",
    "evaluate": "napari_flowmag.cli.evaluate:evaluate",
    "gui": "napari_flowmag.cli.gui:gui",
    "models": "napari_flowmag.cli.models:models",
}
"""Name of a command → its function, in the order in which ``--help`` lists them."""


class _LazyGroup(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        app = typer.Typer(add_completion=False)
        app.command(cmd_name)(pkgutil.resolve_name(COMMANDS[cmd_name]))
        return typer.main.get_command(app)


def command() -> Any:
    """Return the command ``flowmag``, ready to be called."""
    app = typer.Typer(cls=_LazyGroup, add_completion=False)
    app.callback(invoke_without_command=True)(_flowmag)
    return typer.main.get_command(app)


def _flowmag(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)
    ] = False,
) -> None:
    """Make motion too small to see visible and measurable."""
    if version:
        print(f"flowmag {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
