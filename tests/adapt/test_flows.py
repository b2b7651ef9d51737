"""Any magnifier adapts by any flow that passes gradients, and never comes out worse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_flowmag import load_flow, load_magnifier
from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.adaptation import Adaptation, learnt_alphas
from napari_flowmag.adapt.objective import Objective
from napari_flowmag.adapt.pairs import PairSource
from napari_flowmag.checkpoint import read_pickle, save_checkpoint
from napari_flowmag.flow.arflow import ARFlow
from napari_flowmag.frames import as_frames
from napari_flowmag.models.unet import UNetMagnifier
from napari_flowmag.provenance import state_sha256


@pytest.fixture(scope="module")
def arflow(tmp_path_factory):
    """A file of untrained weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("arflow") / "arflow.safetensors"
    module = ARFlow()
    save_checkpoint(path, module, kind="flow", architecture="arflow", config={}, training={})
    return str(path)


@pytest.mark.parametrize("model", ["field", "unet"])
@pytest.mark.parametrize("flow", ["default", "lucas_kanade", "arflow", "raft_small"])
def test_it_learns(clip, arflow, tmp_path, model, flow):
    torch.manual_seed(0)
    magnifier = load_magnifier("default", "cpu") if model == "field" else UNetMagnifier(4).eval()
    options = {"raft_small": {"weights": None, "updates": 1}}
    settings = AdaptSettings.of(
        alpha=4, crop=48, batch=1, steps=2, held_back=1, device="cpu", warmup=0,
        flows=(arflow if flow == "arflow" else flow,), flow_options=options,
    )  # fmt: skip
    reports, state = [], tmp_path / "state"
    adapted = Adaptation(clip, settings, magnifier=magnifier).run(reports.append, state=state)
    assert (adapted.stopped, adapted.steps) == ("steps", 2)
    assert all(math.isfinite(report.loss) for report in reports[1:])
    learnt, original = read_pickle(state)["module"], magnifier.state_dict()
    assert any(not torch.equal(learnt[name], value) for name, value in original.items())
    assert adapted.after <= adapted.before


@pytest.mark.parametrize("lr", [1e-3, 0.3])
@pytest.mark.parametrize("model", ["field", "unet"])
def test_what_comes_out_is_never_worse(clip, hurt, model, lr):
    torch.manual_seed(0)
    magnifier = hurt if model == "field" else UNetMagnifier(4).eval()
    settings = AdaptSettings.of(
        alpha=4, crop=48, batch=1, steps=6, held_back=2, check_every=2, device="cpu", lr=lr,
        warmup=0, clip_gradient=0.0,
    )  # fmt: skip
    adapted = Adaptation(clip, settings, magnifier=magnifier).run()
    flow = load_flow("lucas_kanade", **settings.flow_options["lucas_kanade"])
    objective = Objective.of(settings, [flow])
    alphas = learnt_alphas(settings, magnifier)
    source = PairSource(as_frames(clip), settings, magnifier.channels, alphas)
    pairs = source.held_back_pairs()
    with torch.no_grad():
        before, after = (
            float(np.mean([float(objective(m, p)) for p in pairs]))
            for m in (magnifier, adapted.magnifier)
        )
    assert (adapted.before, adapted.after) == pytest.approx((before, after), rel=1e-5)
    assert after <= before
    if adapted.improved:
        assert "less) after" in adapted.summary()
    else:
        assert "left alone" in adapted.summary()
        assert state_sha256(adapted.magnifier) == state_sha256(magnifier)
