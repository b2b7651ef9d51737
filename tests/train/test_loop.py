"""The training loop. Run as a program, this file trains the tiny task below (see `in_process`)."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from napari_flowmag.checkpoint import read_checkpoint
from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.train.config import LoopConfig
from napari_flowmag.train.loop import fit

Batch = dict[str, Tensor]


class Numbers(Dataset[Batch]):
    def __getitem__(self, index: int) -> Batch:
        if index == 90:
            raise FlowmagError("picture 90: damaged")
        generator = torch.Generator().manual_seed(index)
        return {"x": torch.rand(4, 3, 8, 8, generator=generator), "index": torch.tensor(index)}


class TinyTask:
    """Something to train, with all that must survive a resume; `at` acts before given batches."""

    def __init__(self, at: dict[int, Callable[[], None]] | None = None) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Conv2d(4, 1, 3)
        )
        self.dataset: Dataset[Batch] = Numbers()
        self.at = at or {}
        self.validated: list[Tensor] = []

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self.at.get(int(batch["index"]), lambda: None)()
        loss = (self.module(batch["x"]) - 1).square().mean()
        return loss, {"error": loss.sqrt()}

    def validate(self) -> dict[str, float]:
        self.validated.append(self.module[0].weight.detach().clone())
        return {"training": float(self.module.training)}

    def pictures(self) -> dict[str, np.ndarray]:
        return {"black": np.zeros((4, 6, 3), np.uint8)}

    def checkpoint(self) -> dict[str, Any]:
        return {"kind": "flow", "architecture": "tiny", "config": {}, "training": {"note": "µ"}}


def config(out: Path, **changes: Any) -> LoopConfig:
    basic = LoopConfig(out, steps=6, warmup=2, lr=1e-2, workers=0, log_every=1, threads=1)
    return replace(basic, device="cpu", **changes)


def send(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def state(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / "state.pt", weights_only=True)
    return found


def assert_same_run(one: Path, other: Path) -> None:
    def kept(out: Path) -> dict[str, Any]:
        names = ("step", "module", "averaged", "optimiser", "precision")
        return {name: state(out)[name] for name in names}

    torch.testing.assert_close(kept(one), kept(other), rtol=0, atol=0)
    name = "model.safetensors"
    assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    fit(TinyTask(), config(out, accumulate=2))
    return out


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_resumes_bit_for_bit(
    tmp_path: Path, uninterrupted: Path, number: int, workers: int
) -> None:
    loop = config(tmp_path, accumulate=2, workers=workers)
    with pytest.raises(Cancelled, match="after step 3"):
        fit(TinyTask({5: send(number)}), loop)
    fit(TinyTask(), loop, resume=True)
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_leaves_pictures_alone_and_resumes(tmp_path: Path, precision: str) -> None:
    class Careful(TinyTask):
        def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            assert batch["x"].dtype == torch.float32
            assert self.module[0](batch["x"]).dtype != torch.float32
            return super().loss(batch)

    fit(Careful(), config(tmp_path / "whole", precision=precision))
    loop = config(tmp_path / "parts", precision=precision)
    with pytest.raises(Cancelled):
        fit(Careful({2: send(signal.SIGINT)}), loop)
    fit(Careful(), loop, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    fit(TinyTask(), config(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before


def in_process(out: Path, number: int, group: bool) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, __file__, str(out), str(int(number)), str(int(group))],
        start_new_session=True,
        check=False,
        capture_output=True,
    )


def test_a_killed_run_resumes_from_its_last_save(tmp_path: Path, uninterrupted: Path) -> None:
    assert in_process(tmp_path, signal.SIGKILL, group=False).returncode == -signal.SIGKILL
    assert metrics(tmp_path)[-1]["step"] == 5, "killed after the fifth step"
    assert state(tmp_path)["step"] == 4
    fit(TinyTask(), config(tmp_path, accumulate=2), resume=True)
    assert_same_run(tmp_path, uninterrupted)
    steps = [line["step"] for line in metrics(tmp_path) if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6], "steps that were lost are not counted twice"


def test_a_signal_to_the_process_group_leaves_the_step_its_data(
    tmp_path: Path, uninterrupted: Path
) -> None:
    finished = in_process(tmp_path, signal.SIGTERM, group=True)
    assert finished.returncode == 130, finished.stderr.decode()
    fit(TinyTask(), config(tmp_path, accumulate=2), resume=True)
    assert_same_run(tmp_path, uninterrupted)


def test_the_average_is_exported_and_validated(tmp_path: Path) -> None:
    passed: list[Tensor] = []
    task = TinyTask()
    task.at = {i: lambda: passed.append(task.module[0].weight.detach().clone()) for i in range(3)}
    fit(task, config(tmp_path, steps=2, ema=0.1))
    last = task.module[0].weight.detach()
    expected = 0.1 * passed[1] + 0.9 * last  # after the first step it starts as a copy
    exported = read_checkpoint(tmp_path / "model.safetensors").state["0.weight"]
    torch.testing.assert_close(exported, expected)
    torch.testing.assert_close(task.validated[-1], exported)
    assert read_checkpoint(tmp_path / "model.safetensors").training == {"note": "µ"}


def test_without_averaging_the_last_weights_are_exported(tmp_path: Path) -> None:
    task = TinyTask()
    fit(task, config(tmp_path, ema=0.0))
    exported = read_checkpoint(tmp_path / "model.safetensors").state
    torch.testing.assert_close(exported, task.module.state_dict(), rtol=0, atol=0)


def test_validation_disturbs_nothing(tmp_path: Path) -> None:
    fit(TinyTask(), config(tmp_path / "without", validate_every=0))
    fit(TinyTask(), config(tmp_path / "with", validate_every=1))
    assert_same_run(tmp_path / "without", tmp_path / "with")
    found = [line["val_training"] for line in metrics(tmp_path / "with") if "val_training" in line]
    assert found == [0.0] * 6


def test_a_save_that_fails_keeps_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    task = TinyTask({3: lambda: monkeypatch.setattr(os, "replace", disk_full)})
    with pytest.raises(FlowmagError, match="no space left"):
        fit(task, config(tmp_path, save_every=2))
    assert state(tmp_path)["step"] == 2
    assert read_checkpoint(tmp_path / "model.safetensors").architecture == "tiny"
    assert {p.name for p in tmp_path.iterdir() if "tfevents" not in p.name} == {
        "state.pt",
        "model.safetensors",
        "metrics.jsonl",
    }


PRECISIONS = ["32-true", "bf16-mixed", "16-mixed"]


def bad_batch(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / "bad_batch.pt", weights_only=True)
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, precision: str) -> None:
    class Spoilt(TinyTask):
        def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            loss, terms = super().loss(batch)
            return loss * (torch.nan if batch["index"] == 5 else 1), terms

    task, loop = Spoilt(), config(tmp_path, save_every=2, precision=precision, steps=10, seed=3)
    with pytest.raises(
        FlowmagError, match=r"step 5: the loss is not finite .*bad_batch\.pt"
    ) as left:
        fit(task, loop)
    assert "\n" not in str(left.value)
    saved = bad_batch(tmp_path)
    assert np.isnan(saved["value"])
    assert (saved["what"], saved["step"], saved["seed"], saved["rank"]) == ("the loss", 5, 3, 0)
    assert saved["config"]["lr"] == 1e-2
    assert saved["config"]["note"] == "µ"
    assert "out" not in saved["config"]
    torch.testing.assert_close(saved["batches"], [Numbers()[5]])
    torch.testing.assert_close(saved["module"], task.module.state_dict())
    assert state(tmp_path)["step"] == 4
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".part")]
    fit(TinyTask(), loop, resume=True)
    fit(TinyTask(), config(tmp_path / "whole", precision=precision, steps=10, seed=3))
    assert_same_run(tmp_path, tmp_path / "whole")


class Steep(TinyTask):
    """Its loss is finite, and has a gradient that is not, for some batches."""

    def __init__(self, *steep: int) -> None:
        super().__init__()
        self.steep = steep

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = super().loss(batch)
        if int(batch["index"]) in self.steep:
            loss = loss + (self.module[0].weight * 0).sum().sqrt()
        return loss, terms


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """State of six steps in mixed precision, of which loss scaling leaves out the first."""
    out = tmp_path_factory.mktemp("scaled")
    fit(TinyTask(), config(out, precision="16-mixed"))
    assert state(out)["precision"]["scale"] < 2**16
    return state(out)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path, precision: str) -> None:
    loop = config(tmp_path, save_every=2, precision=precision, steps=30, accumulate=2)
    with pytest.raises(FlowmagError, match=r"the gradient is not finite .*bad_batch\.pt"):
        fit(Steep(*range(7, 60, 2)), loop)
    saved = bad_batch(tmp_path)
    first = saved["step"]
    if precision == "16-mixed":
        # The scale might have been to blame: it is halved first, from 2^16 or less to 1.
        assert 3 < first <= 3 + 16
        assert state(tmp_path)["precision"]["scale"] in (1, 2)
    else:
        assert first == 3
    torch.testing.assert_close(saved["batches"], [Numbers()[2 * first], Numbers()[2 * first + 1]])
    assert all(torch.isfinite(v).all() for v in state(tmp_path)["module"].values())
    assert state(tmp_path)["step"] == first // 2 * 2


def test_steps_that_loss_scaling_leaves_out_stop_nothing(
    tmp_path: Path, scaled: dict[str, Any]
) -> None:
    def steps(run: dict[str, Any]) -> set[int]:
        return {int(weight["step"]) for weight in run["optimiser"]["state"].values()}

    fit(Steep(3, 5), config(tmp_path, precision="16-mixed"))
    assert state(tmp_path)["precision"]["scale"] == scaled["precision"]["scale"] / 2**2
    assert steps(state(tmp_path)) == {step - 2 for step in steps(scaled)}
    assert not (tmp_path / "bad_batch.pt").exists()


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    task = TinyTask()

    def spoil() -> None:
        task.module[1].running_var.fill_(torch.inf)

    task.at = {3: spoil}
    with pytest.raises(FlowmagError, match="after step 4: weights are not finite, and not saved"):
        fit(task, config(tmp_path, save_every=2))
    assert state(tmp_path)["step"] == 2


def test_no_room_for_the_batch_is_told_in_the_same_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(
        FlowmagError, match=r"the loss is not finite \(cannot write .*no space left"
    ):
        fit(TinyTask(), config(tmp_path, lr=1e30, clip=0.0, warmup=0))


@pytest.mark.parametrize("workers", [0, 1])
def test_unusable_data_stops_the_run_with_its_own_line(tmp_path: Path, workers: int) -> None:
    loop = config(tmp_path, steps=10, accumulate=10, workers=workers)
    with pytest.raises(FlowmagError) as caught:
        fit(TinyTask(), loop)
    assert str(caught.value) == "picture 90: damaged"


def test_a_worker_that_was_killed_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)  # not 5 s

    class Deadly(Numbers):
        def __getitem__(self, index: int) -> Batch:
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory is full
            return super().__getitem__(index)

    class Wrong(Numbers):
        def __getitem__(self, index: int) -> Batch:
            raise RuntimeError("stack expects each tensor to be equal size")

    task = TinyTask()
    task.dataset = Deadly()
    with pytest.raises(FlowmagError, match=r"ended from outside.*fewer --workers"):
        fit(task, config(tmp_path / "killed", workers=1))
    task.dataset = Wrong()
    with pytest.raises(RuntimeError, match="to be equal size"):
        fit(task, config(tmp_path / "wrong", workers=1))
    assert not multiprocessing.active_children(), "Python would wait for them at its end"


def test_the_rate_rises_then_falls(tmp_path: Path) -> None:
    fit(TinyTask(), config(tmp_path, schedule="linear", warmup=3))
    rates = [line["lr"] for line in metrics(tmp_path) if "lr" in line]
    expected = [1e-2 * min(1, (i + 1) / 3) * (1 - i / 6) for i in range(6)]
    np.testing.assert_allclose(rates, expected)


def test_a_budget_of_minutes_ends_the_run(tmp_path: Path) -> None:
    fit(TinyTask(), config(tmp_path, steps=1, minutes=0.003))
    assert state(tmp_path)["step"] > 1
    assert state(tmp_path)["elapsed"] >= 0.003 * 60


def test_tensorboard_gets_scalars_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(TinyTask(), config(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    written = [line["loss"] for line in metrics(tmp_path) if "loss" in line]
    np.testing.assert_allclose([e.value for e in events.Scalars("loss")], written, rtol=1e-6)
    assert (events.Images("black")[0].height, events.Images("black")[0].width) == (4, 6)


def test_tensorboard_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    fit(TinyTask(), config(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {
        "state.pt",
        "model.safetensors",
        "metrics.jsonl",
    }


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    with pytest.raises(FlowmagError, match="nothing to resume"):
        fit(TinyTask(), config(tmp_path), resume=True)


def test_a_run_is_not_overwritten(tmp_path: Path, uninterrupted: Path) -> None:
    with pytest.raises(FlowmagError, match="holds a training run"):
        fit(TinyTask(), config(uninterrupted))


def test_another_model_is_not_resumed(uninterrupted: Path) -> None:
    task = TinyTask()
    task.module = nn.Sequential(nn.Conv2d(3, 1, 5))
    with pytest.raises(FlowmagError, match="does not fit the model"):
        fit(task, config(uninterrupted), resume=True)


if __name__ == "__main__":
    out, number, group = Path(sys.argv[1]), int(sys.argv[2]), bool(int(sys.argv[3]))
    strike = (lambda: os.killpg(0, number)) if group else send(number)
    try:
        fit(TinyTask({11: strike}), config(out, accumulate=2, save_every=2, workers=1))
    except Cancelled:
        sys.exit(130)
