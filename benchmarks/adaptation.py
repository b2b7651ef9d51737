"""What adapting to a clip gains, by flow estimators that were not in the loss.

    python benchmarks/adaptation.py FOLDER [--minutes 10] [--threads 2] [--set lr=1e-4 ...]

For each clip of a folder the default model is adapted, and the motion error at the asked factor
is measured by DIS and Farnebäck before and after, over frames spread along the clip.
"""

from __future__ import annotations

import argparse
import ast
import json
from pathlib import Path

import numpy as np
import torch

from napari_flowmag import load_flow, read_clip
from napari_flowmag.adapt import AdaptSettings
from napari_flowmag.adapt.adaptation import Adaptation
from napari_flowmag.frames import as_frames
from napari_flowmag.magnify import magnify_clip
from napari_flowmag.metrics import motion_error
from napari_flowmag.settings import MagnifySettings

JUDGES = ("dis", "farneback", "default")
COUNT = 12
"""Frames of a clip that are judged."""


def picture(frame: np.ndarray, axes: str) -> torch.Tensor:
    """Make (1, 3, H, W) in [0, 1] of a uint8 frame."""
    planes = as_frames(frame[None], axes).planes(0)[0][..., :3]
    return torch.from_numpy(planes).movedim(-1, 0)[None].float().expand(-1, 3, -1, -1) / 255


def errors(clip, magnifier, alpha: float, flows) -> dict[str, float]:
    """Motion error by each judge, mean over the frames."""
    job = magnify_clip(clip, MagnifySettings(alpha=alpha, device="cpu"), magnifier=magnifier)
    frame = lambda i: picture(np.asarray(clip.frames[i]), clip.axes)  # noqa: E731
    places = np.unique(np.linspace(1, len(job) - 1, COUNT).round().astype(int))
    sums = dict.fromkeys(flows, 0.0)
    for i in map(int, places):
        magnified = picture(job.frame(i), clip.axes)
        for name, flow in flows.items():
            asked, got = flow(frame(0), frame(i)), flow(frame(0), magnified)
            sums[name] += float(motion_error(got, asked, alpha)[0]) / len(places)
    return sums


def main() -> None:
    """Adapt to each clip and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--alpha", type=float, default=8.0)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--only", nargs="*", help="words that a clip's name has")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    changes = {k: _value(v) for k, _, v in (word.partition("=") for word in options.set)}
    if options.minutes:
        changes["minutes"] = options.minutes
    settings = AdaptSettings.of(options.preset, alpha=options.alpha, **changes)
    flows = {name: load_flow(name) for name in JUDGES}
    rows = []
    for path in sorted(options.folder.glob("*.tif")):
        if options.only and not any(word in path.name for word in options.only):
            continue
        clip = read_clip(path)
        adapted = Adaptation(clip.frames, settings, axes=clip.axes, name=path.stem).run()
        row = {"clip": path.stem, "outcome": adapted.summary(), "before": {}, "after": {}}
        with torch.inference_mode():
            row["before"] = errors(clip, None, options.alpha, flows)
            row["after"] = errors(clip, adapted.magnifier, options.alpha, flows)
        rows.append(row)
        change = {k: f"{100 * (row['after'][k] / row['before'][k] - 1):+.1f} %" for k in flows}
        print(path.stem, change, adapted.summary(), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"settings": settings.to_dict(), "clips": rows}))


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


if __name__ == "__main__":
    main()
