from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.core import TyperOption

from napari_flowmag.cli.app import COMMANDS, command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    group = command()
    assert f"## flowmag {name}\n" in text
    context = typer.Context(group)
    for parameter in group.get_command(context, name).params:
        if isinstance(parameter, TyperOption) and parameter.name != "help":
            assert any(f"`{option}`" in text for option in parameter.opts), parameter.opts


def test_the_command_that_continuous_integration_takes_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    (block,) = re.findall(
        r"^<!-- tests -->\n```bash\n(.+?)\n```$", readme, re.MULTILINE | re.DOTALL
    )
    assert "\n" not in block
    assert block.endswith("-m pytest -n 2")
