"""Several processes that train one model, on the CPU (gloo)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from napari_flowmag.checkpoint import read_checkpoint, read_pickle, save_checkpoint
from napari_flowmag.cli.train import main
from napari_flowmag.errors import FlowmagError
from napari_flowmag.flow.gauss_newton import GaussNewtonFlow
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.synthetic.pairs import PairSettings
from napari_flowmag.train.config import AugmentConfig, MagnifierConfig
from napari_flowmag.train.data import PairBatches, open_pairs
from napari_flowmag.train.feed import share
from napari_flowmag.train.flow import RandomPairs
from napari_flowmag.train.magnifier import MagnifierTask, MixedBatches

# A program, not ``-m``: every process is started by repeating this one's command. One start does
# any number of runs, as starting takes longer than training here. At its fourth step, one process
# of a run meets with a mishap.
PROGRAM = """
import atexit, contextlib, errno, io, json, os, signal, sys
from pathlib import Path
import torch
from napari_flowmag import atomic
from napari_flowmag.cli.train import main
from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.data import PairBatches
from napari_flowmag.train.magnifier import MagnifierTask

plain_loss, plain_item, plain_replace = MagnifierTask.loss, PairBatches.item, os.replace


def meet(mishap):
    count = iter(range(10**6))

    def loss(task, batch):
        total, terms = plain_loss(task, batch)
        here = next(count) == 3
        if here and mishap == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if here and mishap == "kill":
            os.killpg(0, signal.SIGKILL)
        if here and mishap == "loss":
            total = total * torch.nan
        if here and mishap == "gradient":
            total = total + (next(task.module.parameters()) * 0).sum().sqrt()
        return total, terms

    def item(batches, position):
        if mishap == "picture" and position >= 3 * batches.batch:
            raise FlowmagError("7.tif: damaged")
        return plain_item(batches, position)

    def replace(*names):
        if mishap == "disk" and str(names[1]).endswith("state.pt"):
            raise OSError(errno.ENOSPC, "no space left")
        return plain_replace(*names)

    MagnifierTask.loss, PairBatches.item, os.replace = loss, item, replace


# Threads of an open group abort a process at its end, but only now and then. Registered before any
# run's own handlers, this is called after them.
atexit.register(lambda: torch.distributed.is_initialized() and os._exit(7))

runs = json.loads(Path(sys.argv[1]).read_text())
for name, words, rank, mishap in runs:
    own = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    meet(mishap if own == rank else None)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    own = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    told = Path(sys.argv[1]).with_name(f"{name}.{own}.json")
    told.write_text(json.dumps([status, out.getvalue(), err.getvalue()]))
sys.exit(status)
"""
COMMON = [
    "--batch", "4", "--crop", "32", "--workers", "0", "--device", "cpu", "--threads", "1",
    "--log_every", "1", "--validate_every", "3", "--held_out", "2",
    "--synthetic", "0.3", "--ema", "0.9", "--warmup", "0", "--lr", "1e-3",
]  # fmt: skip
RTOL, ATOL = 1e-4, 1e-4
"""Of losses, relative; of weights, which six steps move by 30 times as much."""

SIX = ("--steps", "6")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    y, x = np.mgrid[:40, :48]
    names = [f"{i}.tif" for i in range(10)]
    for side, shift in (("frameA", 0.0), ("frameB", 0.4)):
        (root / "train" / side).mkdir(parents=True)
        for i, name in enumerate(names):
            picture = 128 + 60 * np.sin((x - shift) / (2 + i / 5)) + 50 * np.cos((y + x / 4) / 3)
            tifffile.imwrite(root / "train" / side / name, picture.astype(np.uint8))
    (root / "train_fn.json").write_text(json.dumps(names))
    torch.manual_seed(0)
    size = {"width": 8, "context": 4, "steps": (1,) * 6}
    for kind, network in (("magnifier", FieldMagnifier(**size)), ("flow", GaussNewtonFlow(**size))):
        save_checkpoint(
            root / f"{kind}.safetensors", network, kind=kind, architecture=network.architecture,
            config=network.config, training={},
        )  # fmt: skip
    return root


def words_for(pairs, out, *words):
    """Return what a run's command says."""
    networks = ("--init", pairs / "magnifier.safetensors", "--flow", pairs / "flow.safetensors")
    return [str(word) for word in (pairs, "-o", out, *networks, *COMMON, *words)]


def plan(folder, pairs, *runs):
    """Write a program and its runs: (name, words, rank with a mishap, mishap)."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(PROGRAM)
    lines = [
        (name, words_for(pairs, folder / name, *words), *mishap)
        for name, words, *mishap in ((*run, None, None)[:4] for run in runs)
    ]
    (folder / "runs.json").write_text(json.dumps(lines))
    return [sys.executable, str(folder / "train.py"), str(folder / "runs.json")]


def launch(line, **env):
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **env}, start_new_session=True,
    )  # fmt: skip


def finish(process):
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error


def told(folder, name):
    """Return status, stdout and stderr of both processes of a run."""
    return [json.loads((folder / f"{name}.{rank}.json").read_text()) for rank in range(2)]


def assert_silent(other):
    """The second process leaves telling, and the status of the run, to the first."""
    status, out, error = other
    assert (status, out) == (0, "")
    assert all("Initializing distributed" in line for line in error.splitlines())


def metrics(out, name):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def weights(out):
    return read_checkpoint(out / "model.safetensors").state


def assert_same(out, alone):
    """The same curves and the same weights, but for rounding."""
    np.testing.assert_allclose(metrics(out, "loss"), metrics(alone, "loss"), rtol=RTOL)
    for name in ("loss", "magnification", "colour", "achieved"):
        # What is achieved is a share of what is asked, and next to none of it to begin with. Means
        # over what moves alike depend on how alike it is: without noise, to 1e-6 px.
        atol = ATOL if name == "achieved" else 0
        np.testing.assert_allclose(
            metrics(out, f"val_{name}"), metrics(alone, f"val_{name}"), rtol=5 * RTOL, atol=atol
        )
    found, wanted = weights(out), weights(alone)
    apart = torch.cat([(found[name] - value).abs().flatten() for name, value in wanted.items()])
    # Adam divides by the gradient's size: where there is next to none, rounding alone decides.
    assert (apart > ATOL).float().mean() < 1e-4
    assert apart.max() < 5 * ATOL


@pytest.fixture(scope="module")
def one(pairs, tmp_path_factory):
    """Runs of a single process, by name."""
    folder = tmp_path_factory.mktemp("one")

    def train(name, *words):
        assert main(words_for(pairs, folder / name, *words)) == 0
        return folder / name

    return {
        "six": train("six", *SIX),
        "gathered": train("gathered", "--steps", "3", "--accumulate", "2"),
        "doubled": train("doubled", "--steps", "3", "--batch", "8"),
    }


def interrupted(pairs, out):
    """Begin the run `six` and stop it after its fourth step."""
    loss, count = MagnifierTask.loss, iter(range(10**6))

    def stop(task, batch):
        if next(count) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(task, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MagnifierTask, "loss", stop)
        assert main(words_for(pairs, out, *SIX)) == 130


@pytest.fixture(scope="module")
def two(pairs, tmp_path_factory):
    """Folder of runs of two processes, started by torchrun."""
    folder = tmp_path_factory.mktemp("two")
    interrupted(pairs, folder / "taken_over")
    line = plan(
        folder, pairs,
        ("six", SIX),
        ("gathered", ("--steps", "3", "--accumulate", "2")),
        ("taken_over", ("--resume",)),
        ("handed_over", SIX, 1, "interrupt"),
        ("loss", (*SIX, "--save_every", "2"), 1, "loss"),
        ("gradient", (*SIX, "--save_every", "2"), 1, "gradient"),
        ("picture", (*SIX, "--save_every", "2"), 1, "picture"),
        ("disk", (*SIX, "--save_every", "2"), 0, "disk"),
        ("uneven", ("--batch", "3")),
        ("after", ("--steps", "1")),
    )  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
    finish(launch([line[0], *torchrun, "--master-port", str(free_port()), *line[1:]]))
    return folder


def test_two_processes_train_as_one_does_with_the_doubled_batch(one, two, pairs):
    assert_same(two / "six", one["six"])
    start = read_checkpoint(pairs / "magnifier.safetensors").state
    moved = [float((weights(two / "six")[k] - v).abs().max()) for k, v in start.items()]
    assert max(moved) > 20 * ATOL
    (first, out, error), other = told(two, "six")
    assert first == 0
    assert_silent(other)
    assert out.strip() == str(two / "six" / "model.safetensors")
    assert "8 pairs to train on, 2 held out" in error


def test_held_out_pairs_are_measured_once(one, two):
    steps = [
        json.loads(line)["step"]
        for line in (two / "six" / "metrics.jsonl").read_text().splitlines()
        if "val_loss" in line
    ]
    assert steps == [3, 6]


def test_gathered_gradients_are_those_of_a_larger_batch(one, two):
    assert_same(two / "gathered", one["gathered"])
    weighed = np.array(metrics(one["gathered"], "loss"))  # each the mean of two batches
    np.testing.assert_allclose(weighed, metrics(one["doubled"], "loss"), rtol=RTOL)
    for name, value in weights(one["doubled"]).items():
        torch.testing.assert_close(weights(one["gathered"])[name], value, atol=5 * ATOL, rtol=0)


def test_two_processes_go_on_where_one_ended(one, two):
    assert_same(two / "taken_over", one["six"])


def test_one_process_goes_on_where_two_ended(one, two, pairs):
    (first, _, error), other = told(two, "handed_over")
    assert first == 130
    assert "stopped after step 4" in error
    assert_silent(other)
    out = two / "handed_over"
    assert read_pickle(out / "state.pt")["step"] == 4
    assert main(["-o", str(out), "--resume"]) == 0
    assert_same(out, one["six"])


@pytest.mark.parametrize(
    ("name", "line", "saved"),
    [
        ("loss", "at step 3: the loss is not finite (batch saved as {}/rank1_bad_batch.pt)", 2),
        ("gradient", "at step 3: the gradient is not finite (batch saved as {}/bad_batch.pt)", 2),
        ("picture", "7.tif: damaged", 2),
        ("disk", "state.pt: no space left", None),
    ],
)
def test_what_stops_one_process_stops_both_with_one_line(two, name, line, saved):
    (first, _, error), other = told(two, name)
    assert first == 2
    assert_silent(other)
    last = error.splitlines()[-1]
    assert last.startswith("flowmag-train: error: ")
    assert line.format(two / name) in last
    state = two / name / "state.pt"
    assert (read_pickle(state)["step"] if state.exists() else None) == saved


def test_the_share_at_fault_is_saved(two):
    found = read_pickle(two / "loss" / "rank1_bad_batch.pt")
    assert not (two / "loss" / "bad_batch.pt").exists()
    assert (found["rank"], found["ranks"], found["step"]) == (1, 2, 3)
    assert len(found["batches"][0]["frame"]) == 2
    shares = [read_pickle(two / "gradient" / f"{rank}bad_batch.pt") for rank in ("", "rank1_")]
    frames = [share["batches"][0]["frame"] for share in shares]
    torch.testing.assert_close(frames[1], found["batches"][0]["frame"])
    assert not torch.equal(*frames)


def test_an_uneven_share_is_refused(two):
    for status, _, error in told(two, "uneven"):
        assert status == 2
        assert "batch = 3: give a multiple of 2" in error


def test_processes_that_it_starts_itself(one, pairs, tmp_path):
    line = plan(
        tmp_path,
        pairs,
        ("two", (*SIX, "--devices", "2")),
        ("loss", (*SIX, "--devices", "2"), 1, "loss"),
        ("killed", (*SIX, "--devices", "2", "--save_every", "2"), 1, "kill"),
    )
    process = launch(line)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert_same(tmp_path / "two", one["six"])
    status, _, error = told(tmp_path, "loss")[0]
    assert status == 2
    assert "rank1_bad_batch.pt" in error
    out = tmp_path / "killed"
    assert read_pickle(out / "state.pt")["step"] == 2
    assert main(["-o", str(out), "--resume", "--devices", "1"]) == 0
    assert_same(out, one["six"])


def test_under_slurm(one, pairs, tmp_path):
    # What srun sets for two tasks on one node; there is no scheduler here.
    common = {
        "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    line = plan(tmp_path, pairs, ("two", SIX))
    processes = [
        launch(line, **common, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)) for rank in range(2)
    ]
    for process in processes:
        finish(process)
    assert_same(tmp_path / "two", one["six"])


def test_the_parts_of_a_batch_are_the_batch(pairs):
    real = PairBatches(open_pairs(pairs, 32), 4, AugmentConfig(crop=32, noise=0.1), seed=3)
    config = MagnifierConfig(batch=4, synthetic=0.5)
    mixed = MixedBatches(real, config, 32, [], seed=3)
    drawn = RandomPairs([], 4, PairSettings(size=32), seed=3)
    for dataset in (real, mixed, drawn):
        whole = dataset[5]
        parts = [dataset.part(rank, 2)[5] for rank in range(2)]
        for name, value in whole.items():
            assert torch.equal(torch.cat([part[name] for part in parts]), value), name
    assert 0 < int(mixed[5]["known"].sum()) < 4 or 0 < int(mixed[6]["known"].sum()) < 4


def test_scenes_can_be_left_to_the_device(pairs):
    real = PairBatches(open_pairs(pairs, 32), 4, AugmentConfig(crop=32, noise=0.1), seed=3)
    config = MagnifierConfig(batch=4, synthetic=0.5, exact_weight=1.0)
    mixed = MixedBatches(real, config, 32, [], seed=3)
    drawn = RandomPairs([], 4, PairSettings(size=32), seed=3)
    for dataset in (mixed, drawn):
        here, (left_out, finish) = dataset[5], dataset.on(torch.device("cpu"))
        there = finish(left_out[5])
        assert {name: part.shape for name, part in there.items()} == {
            name: part.shape for name, part in here.items()
        }
        for name, part in finish(left_out[5]).items():
            assert torch.equal(part, there[name]), "a function of seed and step"
        # Another rank, or another step, gets other scenes.
        left_out, finish = dataset.part(1, 2).on(torch.device("cpu"))
        assert not torch.equal(finish(left_out[5])["flow"], there["flow"][2:])
        assert not torch.equal(finish(left_out[6])["flow"], finish(left_out[5])["flow"])


def test_real_pairs_are_the_same_wherever_scenes_are_drawn(pairs):
    real = PairBatches(open_pairs(pairs, 32), 4, AugmentConfig(crop=32, noise=0.1), seed=3)
    mixed = MixedBatches(real, MagnifierConfig(batch=4, synthetic=0.5), 32, [], seed=3)
    left_out, finish = mixed.on(torch.device("cpu"))
    here, there = mixed[5], finish(left_out[5])
    known = here["known"]
    assert torch.equal(there["known"], known)
    assert 0 < int(known.sum()) < 4
    for name in ("reference", "frame", "noisy_frame", "draw"):
        assert torch.equal(there[name][~known], here[name][~known])
    assert there["frame"][known].std((1, 2, 3)).min() > 0
    assert torch.equal(there["frame"][known], there["noisy_frame"][known])


def test_shares():
    assert list(share(6, 1, 3)) == [2, 3]
    with pytest.raises(FlowmagError, match="multiple of 4"):
        share(6, 0, 4)


def test_norms_are_shared_on_graphics_cards_only():
    from types import SimpleNamespace

    from napari_flowmag.train.distributed import synchronise_norms

    def kinds(device):
        module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
        synchronise_norms(module, SimpleNamespace(world_size=2, device=torch.device(device)))
        return type(module[1])

    assert kinds("cpu") is nn.BatchNorm2d
    assert kinds("cuda") is nn.SyncBatchNorm


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
