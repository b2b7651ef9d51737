"""End-point error of flow estimators on held-out synthetic pairs, by the size of the motion.

    python benchmarks/flow_accuracy.py [--textures FOLDER] [--flows default dis farneback]
        [--by mean] [--noise 0.01] [--batches 20] [--json]

Scenes are layered, occlude each other and move by random affine and smooth fields
(`napari_flowmag.synthetic.pairs`); their flow is exact. Of a folder of textures only those
are used that training keeps back. A pair's class is its mean |F|, or its largest
(``--by largest``): with a small thing that moves far before still ground, the mean is small.
Figures are mean |error| in px over all pixels, those that become hidden included. "zero" is the
error of saying that nothing moves. OpenCV's estimators need opencv-python-headless; they see 8-bit
grey pictures.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from napari_flowmag import load_flow
from napari_flowmag.synthetic.pairs import PairSettings, load_textures, random_pairs
from napari_flowmag.train.flow import BINS, HELD_OUT, bin_name


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--flows", nargs="+", default=["default", "dis", "farneback"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--noise", type=float, default=0.01, help="share of the pair's contrast")
    parser.add_argument("--batches", type=int, default=20, help="of 8 pairs, for each class")
    parser.add_argument("--by", choices=["mean", "largest"], default="mean", help="of a pair's |F|")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    textures = load_textures(options.textures)[::HELD_OUT] if options.textures else []
    flows = {name: load_flow(name) for name in options.flows}
    generator = torch.Generator().manual_seed(options.seed)
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    edges = (0.02, *BINS, 20.0)
    for motion in itertools.pairwise(edges):
        # Layers move by less than the pair's scale: ask for more to fill the class.
        settings = PairSettings(
            options.size, motion, (options.noise, options.noise * 1.0001), still=0.2
        )
        for _ in range(options.batches):
            pairs = random_pairs(8, textures, generator, settings)
            length = torch.hypot(*pairs.flow.unbind(1)).flatten(1)
            sizes = length.mean(1) if options.by == "mean" else length.amax(1)
            found = {"zero": torch.zeros_like(pairs.flow)}
            with torch.inference_mode():
                found |= {name: flow(pairs.first, pairs.second) for name, flow in flows.items()}
            for name, flow in found.items():
                error = torch.hypot(*(flow - pairs.flow).unbind(1)).mean((1, 2))
                for size, value in zip(sizes.tolist(), error.tolist(), strict=True):
                    errors[bin_name(size)][name].append(value)

    table = {
        size: {"pairs": len(row["zero"])} | {name: float(np.mean(v)) for name, v in row.items()}
        for size, row in sorted(errors.items(), key=lambda item: float(item[0].split("-")[0]))
    }
    if options.json:
        print(json.dumps(table, indent=1))
        return
    for size, row in table.items():
        print(f"{size:12s}" + "".join(f"  {name} {value:.4g}" for name, value in row.items()))


if __name__ == "__main__":
    main()
