"""Loading torch in the background without the window standing still."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from pathlib import Path

_LIBRARY = "libtorch_python"  # needs all the others of torch, which the system loads with it


def preload_torch() -> None:
    """Load torch's shared libraries; to be called in a thread before it first imports torch.

    ``import torch`` holds Python's interpreter lock while the system loads hundreds of megabytes of
    libraries, and no other thread can run meanwhile, the window's least of all. A foreign function
    called through ctypes does not hold it, and for the import that follows nothing is left to load.
    Where that does not work, the import does it.
    """
    if os.name != "posix":
        return
    if "torch" not in sys.modules:
        _load_libraries()
    _load_triton_apart()


def _load_libraries() -> None:
    spec = importlib.util.find_spec("torch")
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    for folder in (spec.submodule_search_locations if spec else None) or ():
        library = Path(folder) / "lib" / f"{_LIBRARY}{suffix}"
        if library.is_file():
            load = ctypes.CDLL(None).dlopen
            load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
            load(os.fsencode(library), os.RTLD_NOW)


def _load_triton_apart() -> None:
    """Load triton, where it is installed, so that it uses its own LLVM.

    Parts of torch and torchvision import it. The drivers with which Mesa draws the window bring an
    LLVM of another version, for all libraries that are loaded later to see; triton's crashes the
    process when its calls end up there.
    """
    name = "triton._C.libtriton"
    deep = getattr(os, "RTLD_DEEPBIND", 0)
    if not deep or name in sys.modules or importlib.util.find_spec("triton") is None:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | deep)
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # torch does without it
    finally:
        sys.setdlopenflags(flags)
