"""The flow estimators that judge: several, so that no magnifier is judged by its own alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.figures import Flow
from napari_flowmag.evaluate.keys import code_fingerprint, flow_weights, libraries, without_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

QUICK_FLOWS = ("dis", "farneback")
FULL_FLOWS = ("dis", "farneback", "default", "raft_large")
WITHOUT_OPENCV = ("default", "lucas_kanade")
"""Who judges where OpenCV is not installed: each flatters another method of the comparison."""

OPTIONS: dict[str, dict[str, Any]] = {"raft_large": {"updates": 20}, "raft_small": {"updates": 20}}
"""The paper judges by RAFT with 20 updates, more than it trains with (Section 4)."""


def load_judges(
    names: Sequence[str], device: str, *, optional: Callable[[str], None] | None = None
) -> dict[str, Flow]:
    """Load flow estimators.

    Parameters
    ----------
    names
        What :func:`~napari_flowmag.flow.load_flow` takes. In the report a file of weights is
        called by its name alone, without the folder, where no other judge is called so.
    device
        Where they compute.
    optional
        Told, in one line, of an estimator that cannot be loaded and is left out; without it that
        is an error.

    Raises
    ------
    FlowmagError
        If an estimator cannot be loaded, or none is left.
    """
    from napari_flowmag.flow import load_flow

    judges: dict[str, Flow] = {}
    titles = [without_folder(name) for name in names]
    for name, title in zip(names, titles, strict=True):
        try:
            judge = Judge(name, load_flow(name, device, **_options(name)), device)
            judges[title if titles.count(title) == 1 else name] = judge
        except FlowmagError as error:
            if optional is None:
                raise
            optional(f"flow {name} is left out: {error}")
    if not judges:
        raise FlowmagError('no flow estimator is left to judge by: pip install "flowmag[eval]"')
    return judges


class Judge:
    """Takes pictures to where an estimator computes; `name` is what it was loaded by."""

    def __init__(self, name: str, flow: nn.Module, device: str) -> None:
        from napari_flowmag.device import resolve_device

        self.name = name
        self._flow, self._device = flow, resolve_device(device)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Estimate the motion between two pictures of any device."""
        found: Tensor = self._flow(first.to(self._device), second.to(self._device))
        return found


def judges_key(names: Sequence[str]) -> str:
    """Return a hash of who judges, and how: options, weights, code and versions of libraries."""
    settings = repr([(name, _options(name)) for name in names])
    weights = [hashlib.sha256(flow_weights(name)).digest() for name in names]
    texts = [text.encode() for text in (settings, code_fingerprint(), libraries())]
    return hashlib.sha256(b"".join([*texts, *weights])).hexdigest()


def _options(name: str) -> dict[str, Any]:
    return OPTIONS.get(name.partition("=")[0], {})
