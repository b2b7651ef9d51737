"""Several processes that train one model, on the CPU (gloo)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from napari_flowmag.checkpoint import read_checkpoint
from napari_flowmag.errors import FlowmagError
from napari_flowmag.synthetic.pairs import PairSettings
from napari_flowmag.train.config import AugmentConfig, MagnifierConfig
from napari_flowmag.train.data import PairBatches, open_pairs
from napari_flowmag.train.feed import share
from napari_flowmag.train.flow import RandomPairs
from napari_flowmag.train.magnifier import MixedBatches

# Scripts, not ``-m``: every process is started by repeating this one's command.
PROGRAM = "import sys; from napari_flowmag.cli.train import main; sys.exit(main())"
COMMON = [
    "--batch", "4", "--crop", "32", "--workers", "0", "--device", "cpu", "--threads", "1",
    "--log_every", "1", "--validate_every", "0", "--held_out", "2", "--init", "default",
    "--synthetic", "0.3", "--ema", "0.9",
]  # fmt: skip


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
    return root


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "train.py"
    path.write_text(PROGRAM)
    return str(path)


def launch(program, pairs, out, *words, env=None):
    line = [sys.executable, program, str(pairs), "-o", str(out), *COMMON, *words]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(env or {})}, start_new_session=True,
    )  # fmt: skip


def run(*arguments, **options):
    process = launch(*arguments, **options)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error


def losses(out):
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def weights(out):
    return read_checkpoint(out / "model.safetensors").state


@pytest.fixture(scope="module")
def alone(program, pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "alone"
    run(program, pairs, out, "--steps", "6")
    return out


def assert_same(out, alone):
    np.testing.assert_allclose(losses(out), losses(alone), rtol=2e-3)
    for name, value in weights(alone).items():
        torch.testing.assert_close(weights(out)[name], value, atol=2e-4, rtol=2e-3)


def test_two_processes_train_as_one_does(program, pairs, alone, tmp_path):
    run(program, pairs, tmp_path / "two", "--steps", "6", "--devices", "2")
    assert_same(tmp_path / "two", alone)


def test_gradients_may_be_gathered_over_batches(program, pairs, tmp_path):
    words = ("--steps", "3", "--accumulate", "2")
    run(program, pairs, tmp_path / "one", *words)
    run(program, pairs, tmp_path / "two", *words, "--devices", "2")
    assert_same(tmp_path / "two", tmp_path / "one")


def test_under_torchrun(program, pairs, alone, tmp_path):
    line = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "--master-port", str(free_port()), program, str(pairs), "-o", str(tmp_path / "two"),
        *COMMON, "--steps", "6",
    ]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "two", alone)


def test_under_slurm(program, pairs, alone, tmp_path):
    # What srun sets for two tasks on one node; there is no scheduler here.
    common = {
        "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_NODELIST": "127.0.0.1",
        "SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
    }  # fmt: skip
    processes = [
        launch(
            program, pairs, tmp_path / "two", "--steps", "6",
            env={**common, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    assert_same(tmp_path / "two", alone)


def test_a_run_goes_on_with_another_number_of_processes(program, pairs, alone, tmp_path):
    out = tmp_path / "run"
    process = launch(program, pairs, out, "--steps", "6", "--save_every", "1", "--devices", "2")
    end = time.monotonic() + 120
    while not (out / "state.pt").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run(program, pairs, out, "--resume", "--devices", "1")
    assert_same(out, alone)


def test_an_uneven_share_is_refused(program, pairs, tmp_path):
    process = launch(program, pairs, tmp_path / "run", "--steps", "2", "--devices", "3")
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "batch = 4: give a multiple of 3" in error


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
