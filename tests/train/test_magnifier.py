from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tifffile
import torch
from torch import Tensor, nn

from napari_flowmag.checkpoint import read_checkpoint, save_checkpoint
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.gauss_newton import GaussNewtonFlow
from napari_flowmag.train.config import AugmentConfig, LoopConfig, MagnifierConfig
from napari_flowmag.train.data import PairFolder
from napari_flowmag.train.loop import fit
from napari_flowmag.train.magnifier import MagnifierTask, draw_alpha
from napari_flowmag.train.mixed import MixedBatches, difference, factor_error

AUGMENT = AugmentConfig(crop=32, rotation=0.0, jitter=(0.0, 0.0, 0.0, 0.0))
SMALL: dict[str, Any] = {"width": 4, "context": 4, "steps": (1,) * 6}


def save_flow(path: Path) -> str:
    torch.manual_seed(5)
    flow = GaussNewtonFlow(*SMALL.values())
    facts: Any = {"kind": "flow", "architecture": "gauss_newton", "training": {}}
    save_checkpoint(path, flow, config=flow.config, **facts)
    return str(path)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_flow(tmp_path_factory.mktemp("flow") / "flow.safetensors")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PairFolder:
    root = tmp_path_factory.mktemp("pairs")
    generator = torch.Generator().manual_seed(0)
    for side in ("frameA", "frameB"):
        (root / side).mkdir()
        for i in range(6):
            picture = torch.randint(256, (40, 48, 3), generator=generator, dtype=torch.uint8)
            tifffile.imwrite(root / side / f"{i}.tif", picture.numpy())
    return PairFolder(root, tuple(f"{i}.tif" for i in range(6)))


def settings(known_flow: str, **changes: Any) -> MagnifierConfig:
    basic: dict[str, Any] = {"flow": known_flow, "batch": 2, "held_out": 2}
    if "init" not in changes:
        basic |= {"architecture": "unet", "model": {"width": 4}}
    return MagnifierConfig(**{**basic, **changes})


def loop(out: Path, steps: int = 1) -> LoopConfig:
    return LoopConfig(out, steps=steps, warmup=0, ema=0.0, workers=0, threads=1, device="cpu")


@pytest.mark.parametrize(
    "model",
    [{}, {"architecture": "field", "model": SMALL, "alpha_min": 0.5}],
    ids=["unet", "field"],
)
def test_training_changes_the_magnifier_and_not_the_flow(
    tmp_path: Path, pairs: PairFolder, flow: str, model: dict[str, Any]
) -> None:
    config = settings(flow, **model, normalise=0.5, max_motion=8.0)
    task = MagnifierTask(pairs, config, AUGMENT)
    before = {k: v.clone() for k, v in task.module.state_dict().items()}
    weights = fit(task, loop(tmp_path, steps=2))
    saved = read_checkpoint(weights, "magnifier")
    assert any(not torch.equal(before[k], v) for k, v in saved.state.items())
    torch.testing.assert_close(
        task.objective.flow.state_dict(), read_checkpoint(flow).state, rtol=0, atol=0
    )
    assert saved.training["pairs"] == 4
    assert saved.training["settings"]["max_motion"] == 8.0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"val_loss", "val_magnification", "val_colour", "val_achieved"} <= set(lines[-1])


def test_pictures_show_pairs_and_slices(pairs: PairFolder, flow: str) -> None:
    found = MagnifierTask(pairs, settings(flow, alpha_max=4.0), AUGMENT).pictures()
    assert list(found) == ["reference, frame, magnified", "x-t slices before, after ×4, exact"]
    before_and_after, slices = found.values()
    assert before_and_after.shape == (2 * 32, 3 * 32, 3)
    assert slices.shape == (2 * 48, 3 * 32, 3)
    assert before_and_after.dtype == slices.dtype == "uint8"


def test_every_held_out_pair_counts_once(pairs: PairFolder, flow: str) -> None:
    task = MagnifierTask(pairs, settings(flow, held_out=5), AUGMENT)
    single = MagnifierTask(pairs, settings(flow, held_out=5, batch=1), AUGMENT)
    single.module.load_state_dict(task.module.state_dict())
    for each in (task, single):
        each.module.eval()
    with torch.no_grad():
        found, expected = task.validate(), single.validate()
    for name in ("loss", "magnification", "colour"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4)


def test_nothing_held_out_means_no_validation(pairs: PairFolder, flow: str) -> None:
    task = MagnifierTask(pairs, settings(flow, held_out=0), AUGMENT)
    assert task.count == 6
    assert task.validate() == task.pictures() == {}


def test_init_starts_from_a_trained_magnifier(tmp_path: Path, pairs: PairFolder, flow: str) -> None:
    weights = fit(MagnifierTask(pairs, settings(flow), AUGMENT, seed=3), loop(tmp_path))
    task = MagnifierTask(pairs, settings(flow, init=str(weights)), AUGMENT)
    torch.testing.assert_close(
        task.module.state_dict(), read_checkpoint(weights).state, rtol=0, atol=0
    )
    assert task.checkpoint()["training"]["settings"]["init"] == "model.safetensors"


def test_the_flow_part_starts_from_a_flow(pairs: PairFolder, flow: str) -> None:
    config = settings(flow, architecture="field", model=SMALL, init_flow=flow)
    part = MagnifierTask(pairs, config, AUGMENT).module.flow
    assert isinstance(part, nn.Module)
    torch.testing.assert_close(part.state_dict(), read_checkpoint(flow).state, rtol=0, atol=0)


def test_frozen_parts_keep_their_weights(tmp_path: Path, pairs: PairFolder, flow: str) -> None:
    parts = ("flow.outlines", "flow.shares")
    config = settings(flow, architecture="field", model=SMALL, init_flow=flow, frozen=parts)
    saved = read_checkpoint(fit(MagnifierTask(pairs, config, AUGMENT), loop(tmp_path, steps=2)))
    assert saved.training["settings"]["frozen"] == list(parts)
    changed = {
        name
        for name, before in read_checkpoint(flow).state.items()
        if not torch.equal(before, saved.state[f"flow.{name}"])
    }
    assert changed
    assert not any(name.startswith(("outlines", "shares")) for name in changed)


def draws(**changes: Any) -> Tensor:
    motion = torch.zeros(3, 2, 10, 10)
    motion[1] = 3.0
    motion[2, 0] = 40.0
    even = torch.linspace(0, 1, 201).repeat(3, 1)
    config = MagnifierConfig(**changes)
    return torch.stack([draw_alpha(column, motion, config) for column in even.T], 1)


def test_alpha_is_even_in_its_logarithm() -> None:
    alpha = draws(alpha_min=1.0, alpha_max=16.0)
    torch.testing.assert_close(alpha.log2(), torch.linspace(0, 4, 201).repeat(3, 1))


def test_alpha_keeps_the_magnified_motion_in_bounds() -> None:
    alpha = draws(max_motion=30.0)
    assert float(alpha[0].max()) == pytest.approx(16.0)
    assert float(alpha[1].max()) == pytest.approx(30 / (3 * 2**0.5))
    assert torch.equal(alpha[2], torch.ones(201)), "never below alpha_min"


def test_synthetic_pairs_bring_their_own_flow(pairs: PairFolder, flow: str) -> None:
    task = MagnifierTask(pairs, settings(flow, synthetic=0.5, batch=8), AUGMENT)
    assert isinstance(task.dataset, MixedBatches)
    real = MagnifierTask(pairs, settings(flow, batch=8), AUGMENT).dataset
    mixed = task.dataset[0]
    known = mixed["known"]
    assert 0 < int(known.sum()) < 8
    assert torch.equal(mixed["frame"][~known], real[0]["frame"][~known])
    assert mixed["flow"][known].abs().amax((1, 2, 3)).min() > 0
    assert len(mixed["draw"][known].unique()) == int(known.sum()), "each has its own α"
    torch.testing.assert_close(mixed, task.dataset[0], rtol=0, atol=0)

    class Blind(nn.Module):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return 0 * second[:, :2]

    object.__setattr__(task.objective, "flow", Blind())
    _, terms = task.loss({**mixed, "flow": torch.full_like(mixed["flow"], 2.0)})
    alpha = draw_alpha(mixed["draw"], mixed["flow"], task.config)
    assert float(terms["magnification"]) == pytest.approx(
        float((2 * alpha * known).mean()), rel=1e-5
    )


def test_still_noisy_pairs_ask_for_no_motion(pairs: PairFolder, flow: str) -> None:
    augment = AugmentConfig(crop=32, still=1.0, noise=0.1)
    task = MagnifierTask(pairs, settings(flow), augment)
    batch = task.dataset[0]
    assert torch.equal(batch["reference"], batch["frame"])
    assert not torch.equal(batch["noisy_reference"], batch["noisy_frame"])
    seen: list[Tensor] = []
    predict = task.module.predict
    task.module.predict = lambda *inputs: seen.append(inputs[1]) or predict(*inputs)  # type: ignore[func-returns-value, method-assign]
    task.loss(batch)
    assert torch.equal(seen[0], batch["noisy_frame"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"width": 4, "depth": 3}}, "setting model .*depth"),
        ({"alpha_max": 32.0}, "alpha_max = 1, 32: architecture unet covers 1 to 16"),
        ({"alpha_min": 0.5}, "architecture unet covers 1 to 16"),
        ({"init": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"init": "x.safetensors", "model": {"width": 4}}, "leave it out with init"),
        ({"flow": "nonsense"}, "unknown flow 'nonsense'"),
        ({"flow_options": {"speed": 3}}, "speed"),
        ({"flow": "dis"}, "no gradients"),
        ({"frozen": ("flow.outlines",)}, "frozen: unet has no part 'flow.outlines'"),
        ({"frozen": ("",)}, "nothing is left to train"),
        ({"synthetic": 0.5, "factor_weight": 1.0}, "factor_weight: unet says of no motion"),
        ({"synthetic": 0.5, "synthetic_light": -0.1}, "synthetic_light = -0.1"),
        ({"held_out": 6}, "leaves none"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    pairs: PairFolder, flow: str, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(FlowmagError, match=says):
        MagnifierTask(pairs, settings(flow, **changes), AUGMENT)


def test_a_flow_that_does_not_fit_is_refused(tmp_path: Path, pairs: PairFolder, flow: str) -> None:
    other = settings(flow, architecture="field", model={**SMALL, "width": 8}, init_flow=flow)
    with pytest.raises(FlowmagError, match="does not fit the flow part of field"):
        MagnifierTask(pairs, other, AUGMENT)
    with pytest.raises(FlowmagError, match="unet has no flow part"):
        MagnifierTask(pairs, settings(flow, init_flow=flow), AUGMENT)


def test_synthetic_pairs_can_be_as_noisy_as_asked(pairs: PairFolder, flow: str) -> None:
    def roughness(noise: tuple[float, float]) -> float:
        config = settings(flow, synthetic=1.0, batch=8, synthetic_noise=noise)
        frames = MagnifierTask(pairs, config, AUGMENT).dataset[0]["frame"]
        return float(frames.diff(dim=-1).abs().mean())

    assert roughness((0.9, 1.0)) > 2 * roughness((1e-4, 2e-4))


def test_synthetic_pairs_can_bring_the_exact_answer(pairs: PairFolder, flow: str) -> None:
    config = settings(flow, synthetic=0.5, batch=8, exact_weight=3.0, alpha_max=4.0, max_motion=6.0)
    task = MagnifierTask(pairs, config, AUGMENT)
    batch = task.dataset[0]
    known = batch["known"]
    assert ((batch["asked"][known] > 1) & (batch["asked"][known] <= 4)).all()
    assert torch.equal(batch["exact"][~known], batch["reference"][~known])
    total, terms = task.loss(batch)
    rest = terms["magnification"] + task.config.colour_weight * terms["colour"]
    assert float(total) == pytest.approx(float(rest + 3 * terms["exact"]), rel=1e-5)

    asked: list[Tensor] = []

    def exact(*inputs: Tensor) -> Tensor:
        asked.append(inputs[3])
        return batch["exact"]

    task.module.render = exact  # type: ignore[method-assign]
    assert float(task.loss(batch)[1]["exact"]) == 0
    assert torch.equal(asked[0][known], batch["asked"][known])


def test_the_exact_answer_is_compared_by_what_has_to_change() -> None:
    reference = torch.full((2, 3, 8, 8), 0.5)
    exact = reference.clone()
    exact[0] += 0.3
    exact[1, :, :2] += 0.3  # a quarter of it
    assert difference(exact, exact, reference).abs().max() == 0
    copied = difference(reference, exact, reference)
    assert copied.min() > 0.85
    assert copied.max() < 1


@pytest.mark.parametrize("name", ["exact_weight", "factor_weight"])
def test_what_only_synthetic_pairs_have_is_refused_without_them(flow: str, name: str) -> None:
    with pytest.raises(FlowmagError, match=f"setting {name} = 1.0: needs synthetic pairs"):
        settings(flow, **{name: 1.0})


def test_where_a_weight_counts_is_refused_without_it(flow: str) -> None:
    with pytest.raises(FlowmagError, match=r"factor_noise = 0[.]2: says where"):
        settings(flow, synthetic=0.5, factor_noise=0.2)


def test_motion_that_is_too_small_as_a_whole_is_an_error_and_scatter_is_none() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.tensor([0.0, 4.0]).view(1, 2, 1, 1).expand(3, -1, 32, 32)
    scatter = torch.randn(truth.shape, generator=generator)
    scatter -= scatter.mean((2, 3), keepdim=True)
    found = torch.stack([0.9 * truth[0], 1.1 * truth[1], truth[2] + scatter[2]])
    assert factor_error(found, truth).tolist() == pytest.approx([0.1, 0.1, 0.0], abs=1e-3)
    # Of motion that noise hides wherever it is, no right size can be asked.
    assert float(factor_error(0 * truth, truth / 400)[0]) < 0.02


def test_the_motion_of_synthetic_pairs_is_taught_to_be_as_large_as_it_is(
    pairs: PairFolder, flow: str
) -> None:
    field: dict[str, Any] = {"architecture": "field", "model": SMALL}
    known = {"synthetic": 0.5, "batch": 8, "synthetic_motion": (0.5, 2.0)}
    config = settings(flow, **field, **known, factor_weight=2.0, magnification_weight=0.0)
    task = MagnifierTask(pairs, config, AUGMENT)
    batch = task.dataset[0]
    assert 0 < int(batch["known"].sum()) < 8
    total, terms = task.loss(batch)
    rest = task.config.colour_weight * terms["colour"]
    assert float(total) == pytest.approx(float(rest + 2 * terms["factor"]), rel=1e-5)
    optimiser = torch.optim.Adam(task.module.parameters(), 1e-3)
    for _ in range(12):
        optimiser.zero_grad()
        (task.loss(batch)[1]["factor"]).backward()
        optimiser.step()
    assert float(task.loss(batch)[1]["factor"]) < 0.9 * float(terms["factor"])


def test_the_size_of_motion_counts_for_more_in_noise(pairs: PairFolder, flow: str) -> None:
    field: dict[str, Any] = {"architecture": "field", "model": SMALL}
    known = {"synthetic": 1.0, "batch": 8, "factor_weight": 1.0, "synthetic_noise": (0.04, 0.06)}

    def factor(noise: float, noisy_alone: bool = False) -> float:
        config = settings(flow, **field, **known, factor_noise=noise)
        task = MagnifierTask(pairs, config, AUGMENT)
        batch = task.dataset[0]
        noisy = batch["hiding"] > 0
        assert 0 < int(noisy.sum()) < 8
        assert batch["hiding"][noisy].min() >= 0.04
        batch["hiding"][noisy] = 0.05
        if noisy_alone:
            batch["known"] = noisy
        return float(task.loss(batch)[1]["factor"])

    everywhere = factor(0.0)
    where_noisy = factor(0.0, noisy_alone=True)
    assert 0 < where_noisy < everywhere
    assert factor(0.05) == pytest.approx(where_noisy)
    assert factor(0.1) == pytest.approx(where_noisy / 2)
