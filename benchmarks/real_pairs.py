"""Motion error of magnifiers on real frame pairs, beside splatting by DIS flow.

    python benchmarks/real_pairs.py FOLDER [--model default] [--alphas 4 16] [--json]

FOLDER holds pairs in the layout of the paper's data set (``test_fn.json``,
``test/frameA``, ``test/frameB``). "Warp bilinear" pushes the reference's pixels along α times
OpenCV's DIS flow and inpaints the holes, as the paper's strongest baseline does. Lower is
better; the figure is the mean over pairs of ``mean |F(I0, Ĩ) - α F(I0, I)|`` in px, for each
evaluating flow. Needs opencv-python-headless.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_flowmag import load_flow, load_magnifier
from napari_flowmag.device import use_threads
from napari_flowmag.metrics import motion_error
from napari_flowmag.train.data import PairFolder


def read_pairs(folder: Path, split: str) -> list[tuple[str, Tensor, Tensor]]:
    names = json.loads((folder / f"{split}_fn.json").read_text())

    pairs = PairFolder(folder / split, tuple(names))

    def as_float(pair: Tensor) -> Tensor:
        return pair.float() / 255 if pair.dtype == torch.uint8 else pair

    both = [as_float(pairs.read(i)) for i in range(len(pairs))]
    return [(n, pair[:1], pair[1:]) for n, pair in zip(names, both, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", nargs="+", default=["default"])
    parser.add_argument("--alphas", type=float, nargs="+", default=[4, 16])
    parser.add_argument("--flows", nargs="+", default=["farneback", "default", "dis"])
    parser.add_argument("--every", type=int, default=1, help="take every n-th pair only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    use_threads(options.threads)

    magnifiers = {name: load_magnifier(name, "cpu") for name in options.model}
    flows = {name: load_flow(name) for name in options.flows}
    warp = load_magnifier("warp-bilinear:dis", "cpu")
    errors: dict[tuple[float, str, str], list[float]] = defaultdict(list)
    with torch.inference_mode():
        for _, reference, frame in read_pairs(options.folder, options.split)[:: options.every]:
            inputs = {name: flow(reference, frame) for name, flow in flows.items()}
            states = {name: m.prepare(reference) for name, m in magnifiers.items()}
            for alpha in options.alphas:
                factor = torch.tensor([alpha])
                outputs = {
                    "identity": frame,
                    "warp bilinear (DIS)": warp(reference, frame, factor),
                }
                for name, magnifier in magnifiers.items():
                    shown = magnifier.show(reference)
                    prediction = magnifier.predict(states[name], frame, factor)
                    outputs[name] = magnifier.render(prediction, shown, frame, factor).clamp(0, 1)
                for method, output in outputs.items():
                    for name, flow in flows.items():
                        error = motion_error(flow(reference, output), inputs[name], alpha)
                        errors[alpha, name, method].append(float(error[0]))
    report(errors, options.json)


def report(errors: dict[tuple[float, str, str], list[float]], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "alpha": alpha,
            "flow": flow,
            "method": method,
            "motion_error": float(np.mean(values)),
            "pairs": len(values),
        }
        for (alpha, flow, method), values in errors.items()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        setting = f"α {row['alpha']:<5g} {row['flow']:10s} {row['method']:40s}"
        print(f"{setting} {row['motion_error']:.3f} px")


if __name__ == "__main__":
    main()
