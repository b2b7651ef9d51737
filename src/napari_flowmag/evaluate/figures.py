"""What one magnified sample is worth, in numbers.

`judge` gives these, each one averaged over the frames but the reference. NaN stands for what cannot
be measured on a sample; the set of names depends only on the flows.

==============================  ====================================================================
``motion_error[FLOW]``          px; mean ``|F(I0, Ĩ) - α F(I0, I)|`` over the picture (the paper's)
``magnification_error[FLOW]``   mean ``| |F(I0, Ĩ)| / (|F(I0, I)| + 1e-4) - α |`` (the paper's)
``motion_error_true[FLOW]``     px; mean ``|F(I0, Ĩ) - α × true motion|`` over what moves
``flow_error[FLOW]``            px; mean ``|F(I0, I) - true motion|`` over what moves: how far the
                                flow itself can be trusted on this sample
``factor[FLOW]``                achieved factor: slope of F(I0, Ĩ) over the true motion where that
                                is known, else over F(I0, I), over what moves
``factor``                      achieved factor, by correlation where things move as wholes and the
                                motion is known, else the median of ``factor[FLOW]``
``factor_low, factor_high``     16th and 84th percentile of the evidence for ``factor``
``ssim``                        structural similarity to the truth, of luma
``psnr``                        dB; to the truth, of luma, all frames pooled; infinite if exact
``leak``                        mean absolute difference from the truth where nothing may change,
                                grey levels of 255; from the reference where nobody knows the truth
``stillness``                   mean absolute change from the reference there, grey levels of 255
``stillness_input``             that of the input, which is the noise in it
``stillness_relative``          the one over the other
``sharpness``                   gradient energy over that of the reference, without noise if known
==============================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.case import Sample
from napari_flowmag.measure import Factor, displacements, factor_between
from napari_flowmag.metrics import (
    achieved_factors,
    magnification_error,
    motion_error,
    psnr,
    relative_stillness,
    sharpness_kept,
    ssim,
    stillness,
)

if TYPE_CHECKING:
    from torch import Tensor

Flow = Callable[["Tensor", "Tensor"], "Tensor"]
"""Gives the motion (B, 2, H, W) between two (B, 3, H, W) pictures in [0, 1]."""

Array = NDArray[np.float64]

_LUMA = np.array([0.299, 0.587, 0.114])
_PIECES = 16  # more motions than this are not things that move as wholes
_SMALLEST_PIECE = 400  # px: smaller ones give no good correlation
_SPARE = 24  # px: how much further than asked for a thing is looked for
_MOST_FRAMES = 16  # of long clips, evenly spread ones are correlated
_FLOOR_TRUE, _FLOOR_FLOW = 0.01, 0.05  # px: motion that counts, where known and where estimated


def input_flows(sample: Sample, flows: Mapping[str, Flow]) -> dict[str, Array]:
    """Estimate the motion in the input, once for all magnifications and methods.

    Returns
    -------
    dict of str to ndarray
        (T - 1, 2, H, W) px for each flow: from the reference to each other frame.
    """
    pictures = _unit_rgb(sample.frames, sample.value_range)
    return {name: _flow_from(flow, pictures[0], pictures[1:]) for name, flow in flows.items()}


def judge(
    sample: Sample,
    magnified: ArrayLike,
    alpha: float,
    flows: Mapping[str, Flow],
    inputs: Mapping[str, Array] | None = None,
) -> dict[str, float]:
    """Measure how well a sample was magnified; see the module for what the figures are.

    Parameters
    ----------
    sample
        What was magnified.
    magnified
        The answer, in the shape and the values of `sample.frames`.
    alpha
        Magnification asked for.
    flows
        Estimators to measure with, by name.
    inputs
        From `input_flows` with the same flows, to save their time.

    Raises
    ------
    FlowmagError
        If the answer's shape is not that of the frames.
    """
    answer = np.asarray(magnified)
    if answer.shape != sample.frames.shape:
        raise FlowmagError(
            f"the magnified frames are {answer.shape}, but the sample's {sample.frames.shape}"
        )
    if inputs is None:
        inputs = input_flows(sample, flows)
    reference = _unit_rgb(sample.frames[:1], sample.value_range)[0]
    pictures = _unit_rgb(answer[1:], sample.value_range)
    figures: dict[str, float] = {}
    by_flow: list[Factor] = []
    for name, flow in flows.items():
        output = _flow_from(flow, reference, pictures)
        figures |= _flow_figures(name, sample, alpha, output, inputs[name])
        by_flow.append(_flow_factor(sample, output, inputs[name]))
        figures[f"factor[{name}]"] = by_flow[-1].value
    figures |= _factor_figures(_rigid_factor(sample, answer, alpha), by_flow)
    return figures | _truth_figures(sample, answer) | _still_figures(sample, answer)


def _flow_figures(
    name: str, sample: Sample, alpha: float, output: Array, given: Array
) -> dict[str, float]:
    figures = {
        f"motion_error[{name}]": float(motion_error(output, given, alpha).mean()),
        f"magnification_error[{name}]": float(magnification_error(output, given, alpha).mean()),
        f"motion_error_true[{name}]": np.nan,
        f"flow_error[{name}]": np.nan,
    }
    if sample.motion is not None:
        inside = _moving(sample)
        true = sample.motion[1:]
        figures[f"motion_error_true[{name}]"] = _mean(np.abs(output - alpha * true)[..., inside])
        figures[f"flow_error[{name}]"] = _mean(np.abs(given - true)[..., inside])
    return figures


def _flow_factor(sample: Sample, output: Array, given: Array) -> Factor:
    """Measure the slope over all frames at once: they are laid side by side."""
    known = sample.motion is not None
    before = sample.motion[1:] if sample.motion is not None else given
    inside = np.broadcast_to(_moving(sample), (len(output), *output.shape[2:]))
    found = achieved_factors(
        np.concatenate(list(output), axis=2),
        np.concatenate(list(before), axis=2),
        np.concatenate(list(inside), axis=1),
        floor=_FLOOR_TRUE if known else _FLOOR_FLOW,
    )
    return found.get(1, Factor(np.nan, np.nan, np.nan, 0.0, 0))


def _rigid_factor(sample: Sample, answer: NDArray[Any], alpha: float) -> Factor | None:
    """Measure by correlation how far each thing that moves as a whole was moved.

    The true motion of the input is known, so only the answer has to be measured: against the
    reference without noise, if there is one.
    """
    pieces = rigid_pieces(sample)
    if not pieces or sample.motion is None:
        return None
    clean = sample.frames if sample.truth is None else sample.truth
    reference = _luma(clean[:1], sample.value_range)[0]
    chosen = np.unique(np.linspace(1, len(answer) - 1, _MOST_FRAMES).round().astype(int))
    frames = _luma(answer[chosen], sample.value_range)
    motion = sample.motion[chosen]
    search = int(np.ceil(alpha * np.hypot(motion[:, 0], motion[:, 1]).max())) + _SPARE
    try:
        after = [displacements(reference, frames, piece, search=search) for piece in pieces]
        before = [motion[:, :, piece].mean(axis=2) for piece in pieces]
        return factor_between(np.concatenate(before), np.concatenate(after), floor=_FLOOR_TRUE)
    except FlowmagError:  # a thing without structure, or an answer with NaN
        return None


def rigid_pieces(sample: Sample) -> list[NDArray[np.bool_]]:
    """Return the masks (H, W) of things that move as wholes; none if anything bends.

    Pixels with equal motion in all frames are one thing. Also none where a thing is too small, or
    nobody knows the motion.
    """
    if sample.motion is None or not sample.motion.any():
        return []
    inside = _moving(sample)
    tracks = sample.motion[:, :, inside].reshape(-1, np.count_nonzero(inside)).T
    # A bending thing has as many motions as pixels: some of them are enough to see that.
    if len(np.unique(tracks[:: max(1, len(tracks) // 200)], axis=0)) > _PIECES:
        return []
    kinds, which = np.unique(tracks, axis=0, return_inverse=True)
    labels = np.full(inside.shape, -1)
    labels[inside] = which.ravel()
    pieces = [labels == kind for kind in range(len(kinds)) if kinds[kind].any()]
    return pieces if all(piece.sum() >= _SMALLEST_PIECE for piece in pieces) else []


def _factor_figures(rigid: Factor | None, by_flow: list[Factor]) -> dict[str, float]:
    found = [rigid] if rigid else [factor for factor in by_flow if np.isfinite(factor.value)]
    names = {"factor": "value", "factor_low": "low", "factor_high": "high"}
    return {
        name: float(np.median([getattr(factor, part) for factor in found])) if found else np.nan
        for name, part in names.items()
    }


def _truth_figures(sample: Sample, answer: NDArray[Any]) -> dict[str, float]:
    if sample.truth is None:
        return {"ssim": np.nan, "psnr": np.nan}
    found, true = (_luma(frames[1:], sample.value_range) for frames in (answer, sample.truth))
    return {
        "ssim": float(ssim(found[:, None], true[:, None]).mean()),
        # All frames as one: an exact one among them would make their mean infinite.
        "psnr": float(psnr(found[None], true[None])[0]),
    }


def _still_figures(sample: Sample, answer: NDArray[Any]) -> dict[str, float]:
    low, high = sample.value_range
    frames, found = (_planes(x) for x in (sample.frames, answer))
    clean = frames if sample.truth is None else _planes(sample.truth)
    figures = {
        "leak": np.nan,
        "stillness": np.nan,
        "stillness_input": np.nan,
        "stillness_relative": np.nan,
        "sharpness": float(sharpness_kept(found[1:], _repeated(clean)).mean()),
    }
    if sample.still is None:
        return figures
    still, first = sample.still, _repeated(frames)
    right = first if sample.truth is None else clean[1:]
    relative = relative_stillness(found[1:], frames[1:], first, still)
    return figures | {
        "leak": float(stillness(found[1:], right, still, high - low).mean()),
        "stillness": float(stillness(found[1:], first, still, high - low).mean()),
        "stillness_input": float(stillness(frames[1:], first, still, high - low).mean()),
        "stillness_relative": _mean(relative[np.isfinite(relative)]),
    }


def _moving(sample: Sample) -> NDArray[np.bool_]:
    if sample.moving is not None:
        return sample.moving
    return np.ones(sample.frames.shape[1:3], dtype=bool)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else np.nan


def _repeated(frames: Array) -> Array:
    """Return the first frame as often as there are others."""
    return np.broadcast_to(frames[:1], (len(frames) - 1, *frames.shape[1:]))


def _planes(frames: NDArray[Any]) -> Array:
    """(T, H, W) or (T, H, W, C) to (T, C, H, W)."""
    values = np.asarray(frames, dtype=np.float64)
    return values[:, None] if values.ndim == 3 else np.moveaxis(values, -1, 1)


def _luma(frames: NDArray[Any], value_range: tuple[float, float]) -> Array:
    """Return the luma (T, H, W), 0 for black and 1 for white."""
    low, high = value_range
    values = (np.asarray(frames, dtype=np.float64) - low) / (high - low)
    return values @ _LUMA if values.ndim == 4 else values


def _unit_rgb(frames: NDArray[Any], value_range: tuple[float, float]) -> Tensor:
    """Make (T, 3, H, W) of it in [0, 1], as flows take it."""
    import torch

    low, high = value_range
    planes = ((_planes(frames) - low) / (high - low)).clip(0, 1).astype(np.float32)
    return torch.from_numpy(planes).expand(-1, 3, -1, -1).contiguous()


def _flow_from(flow: Flow, reference: Tensor, pictures: Tensor) -> Array:
    """Estimate the motion from one picture (3, H, W) to each of (N, 3, H, W), one by one."""
    import torch

    with torch.inference_mode():
        found = [flow(reference[None], picture[None])[0] for picture in pictures]
    return np.stack([motion.cpu().numpy() for motion in found]).astype(np.float64)
