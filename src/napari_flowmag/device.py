"""Which device computes, how precisely, and what to do when its memory is full."""

from __future__ import annotations

import ctypes
import gc
import sys
from functools import cache

import torch

from napari_flowmag.errors import FlowmagError

_KINDS = ("cpu", "cuda")  # torch knows more, on which much of what is used here is missing
_CPU_CACHE_BYTES = 2**30
_HEAP_BLOCK = 2**25 - 2**16
"""Bytes: as large a block as glibc's heap may hold, less what aligning it takes."""


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Turn a device's name into a device that exists.

    Parameters
    ----------
    device : str or torch.device
        ``auto`` (a CUDA GPU if there is one, else the CPU), ``cpu``, ``cuda``, ``cuda:1``, ….

    Raises
    ------
    FlowmagError
        If there is no such device on this machine, or it is of a kind that nothing here was
        written for.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise FlowmagError(f"unknown device '{device}': give auto, cpu or cuda") from error
    if resolved.type not in _KINDS:
        raise FlowmagError(
            f"device '{device}': flowmag computes on {' and '.join(_KINDS)} only; choose one of "
            "them, or auto"
        )
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise FlowmagError(f"device '{device}': no GPU that torch can use; choose cpu or auto")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise FlowmagError(f"device '{device}': there are {torch.cuda.device_count()} GPUs")
    return resolved


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which networks compute in ``float32``, ``bfloat16`` or ``float16``."""
    return torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is full, on the GPU or on the CPU."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    # The CPU allocator and cuDNN raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("out of memory", "can't allocate memory", "not enough memory")
    )


@cache
def keep_heap() -> None:
    """Have the C library keep memory of the size of pictures for the next ones.

    glibc takes such blocks from the system and gives them back as soon as they are free, so that
    every operation has its pages cleared and mapped anew: a fifth of the time of small networks.
    Once a block of nearly 32 MB has been freed it keeps all below that, and 64 MB at most that
    nobody uses (mallopt(3), M_MMAP_THRESHOLD). Elsewhere this does nothing; no page is touched.
    """
    torch.empty(_HEAP_BLOCK, dtype=torch.uint8)


def release_memory(device: torch.device) -> None:
    """Give memory that nobody uses back to the device, for others to use."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        # Only of glibc; other C libraries have no such function.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes in use so far, on a graphics card or else by this process.

    0 on systems that do not tell (Windows).
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def free_memory(device: torch.device) -> int:
    """Bytes of a graphics card that nobody uses, nor torch for anything that is still needed."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + int(held)


def cache_budget(device: torch.device) -> int:
    """Bytes that may be spent on keeping results instead of computing them again."""
    return free_memory(device) // 4 if device.type == "cuda" else _CPU_CACHE_BYTES


@cache
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return numbers as a tensor (n,) that stays on a device; not to be written to.

    A GPU waits for numbers that come from Python: it should do so once, not at every call. They are
    kept for good, as what is captured there (:mod:`napari_flowmag.captured`) reads them in place.
    """
    with torch.inference_mode(False):  # training may use the same ones
        return torch.tensor(values, dtype=dtype, device=device)


def use_threads(count: int) -> None:
    """Have torch, and OpenCV where it is installed, compute with this many CPU threads."""
    import torch

    torch.set_num_threads(count)
    try:
        import cv2
    except ImportError:
        return
    cv2.setNumThreads(count)
