"""Loading torch in the background without the window standing still."""

from __future__ import annotations

import ctypes
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
    if "torch" in sys.modules or os.name != "posix":
        return
    spec = importlib.util.find_spec("torch")
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    for folder in (spec.submodule_search_locations if spec else None) or ():
        library = Path(folder) / "lib" / f"{_LIBRARY}{suffix}"
        if library.is_file():
            load = ctypes.CDLL(None).dlopen
            load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
            load(os.fsencode(library), os.RTLD_NOW)
