from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
import torch

from napari_flowmag.device import (
    autocast,
    constant,
    is_out_of_memory,
    keep_heap,
    release_memory,
    resolve_device,
)
from napari_flowmag.errors import FlowmagError


def test_auto_takes_a_gpu_if_there_is_one():
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "warp drive", "cuda:99", "mps", "xpu", "meta"])
def test_devices_that_are_not_there(name):
    with pytest.raises(FlowmagError, match="device"):
        resolve_device(name)


def test_full_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**58)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("sizes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_compute_as_precisely_as_asked(precision):
    layer = torch.nn.Conv2d(1, 1, 3)
    with autocast(torch.device("cpu"), precision), torch.inference_mode():
        assert layer(torch.zeros(1, 1, 8, 8)).dtype == getattr(torch, precision)


def test_constants_stay_where_they_are_and_serve_training_too():
    cpu = torch.device("cpu")
    with torch.inference_mode():
        first = constant((0.1, 3.0), torch.float32, cpu)
    for k in range(2000):  # as the ranges of many clips
        constant((float(k), 2.0), torch.float32, cpu)
    assert constant((0.1, 3.0), torch.float32, cpu) is first
    torch.testing.assert_close(first, torch.tensor([0.1, 3.0]), rtol=0, atol=0)
    assert constant((0.1, 3.0), torch.float64, cpu).dtype == torch.float64
    weight = torch.ones(2, requires_grad=True)
    (weight * first).sum().backward()
    torch.testing.assert_close(weight.grad, first)


def resident() -> int:
    """Bytes of memory that this process has."""
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="memory is kept and given back by glibc",
)
def test_memory_is_kept_between_frames_and_given_back_after():
    keep_heap()
    release_memory(torch.device("cpu"))  # of what tests before this one kept
    before = resident()
    pictures = [torch.ones(2**18) for _ in range(200)]
    last = pictures.pop()  # at the heap's top: what lies below is not given back by itself
    del pictures
    assert resident() - before > 100 * 2**20
    release_memory(torch.device("cpu"))
    assert resident() - before < 50 * 2**20
    assert last.all()
