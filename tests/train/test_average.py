from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag import load_magnifier
from napari_flowmag.checkpoint import bundled_path, read_checkpoint, save_checkpoint
from napari_flowmag.cli.train import main
from napari_flowmag.flow.gauss_newton import GaussNewtonFlow
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.models.unet import UNetMagnifier
from napari_flowmag.train.average import average

FACTS: dict[str, Any] = {"kind": "magnifier", "training": {"description": "a test"}}


def unet(path: Path, seed: int, width: int = 2) -> Path:
    torch.manual_seed(seed)
    module = UNetMagnifier(width)
    module.down[0][1].num_batches_tracked += seed
    save_checkpoint(path, module, architecture="unet", config=module.config, **FACTS)
    return path


@given(st.lists(st.integers(0, 99), min_size=2, max_size=4))
def test_weights_are_averaged_and_counts_are_the_last_ones(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("models")
    models = [
        read_checkpoint(unet(folder / f"{i}.safetensors", seed)) for i, seed in enumerate(seeds)
    ]
    module, facts = average(models)
    name = "up.0.0.weight"
    mean = torch.stack([model.state[name] for model in models]).mean(0)
    torch.testing.assert_close(module.state_dict()[name], mean)
    assert module.state_dict()["down.0.1.num_batches_tracked"] == seeds[-1]
    assert facts["training"]["mean_of"] == [model.sha256 for model in models]
    assert facts["training"]["description"] == "a test"


def test_the_mean_of_a_bundled_model_and_itself_is_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mean.safetensors"
    assert main(["average", "default", "default", "-o", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    state = load_magnifier(out, "cpu").state_dict()
    bundled = read_checkpoint(bundled_path("magnifier", "default"))
    assert all(torch.equal(state[name], value) for name, value in bundled.state.items())
    assert read_checkpoint(out).training["mean_of"] == 2 * [bundled.sha256]


def test_flows_are_averaged_too(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    for path in paths[:2]:
        flow = GaussNewtonFlow(4, 4, (1,) * 6)
        facts: Any = {"kind": "flow", "architecture": "gauss_newton", "training": {}}
        save_checkpoint(path, flow, config=flow.config, **facts)
    assert main(["average", *map(str, paths[:2]), "-o", str(paths[2])]) == 0
    assert read_checkpoint(paths[2]).kind == "flow"


@pytest.mark.parametrize(
    ("models", "out", "says"),
    [
        ("a.safetensors", "c.safetensors", "name two models or more"),
        ("a.safetensors wide.safetensors", "c.safetensors", "not of one kind: magnifier unet"),
        ("a.safetensors field.safetensors", "c.safetensors", "not of one kind"),
        ("a.safetensors nowhere.safetensors", "c.safetensors", "no such file"),
        ("phase default", "c.safetensors", "phase has no weights to average"),
        ("nonsense default", "c.safetensors", "unknown model 'nonsense'"),
        ("part.safetensors a.safetensors", "c.safetensors", "part.safetensors"),
        ("a.safetensors text.safetensors", "c.safetensors", "text.safetensors is damaged"),
        ("a.safetensors b.safetensors", "c.pth", "ends in .safetensors"),
        ("a.safetensors b.safetensors", "a.safetensors", "is the input itself"),
        ("a.safetensors b.safetensors", "nowhere/c.safetensors", "there is no folder"),
    ],
)
def test_what_cannot_be_averaged_is_told_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    models: str,
    out: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {unet(Path("a.safetensors"), 0), unet(Path("b.safetensors"), 1)}
    before |= {unet(Path("wide.safetensors"), 0, width=4), Path("text.safetensors")}
    Path("text.safetensors").write_text("no weights")
    field = FieldMagnifier(4, 4, (1,) * 6)
    path = Path("field.safetensors")
    save_checkpoint(path, field, architecture="field", config=field.config, **FACTS)
    part = Path("part.safetensors")
    save_checkpoint(part, UNetMagnifier(2).down, architecture="unet", config={"width": 2}, **FACTS)
    before |= {path, part}
    kept = path.read_bytes(), Path("a.safetensors").read_bytes()
    assert main(["average", *models.split(), "-o", out]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in before}
    assert kept == (path.read_bytes(), Path("a.safetensors").read_bytes())
