"""Magnified clips against exact ones: PSNR and achieved factor on clips with known motion.

    python benchmarks/known_motion.py [--model default] [--alphas 10 20] [--seeds 0 1] [--every 5]

The clips (`napari_flowmag.synthetic.clips.known_motion`, 256×256, colour, 0.3 px): everything
moves by a sinusoid; only a disk does; that with noise of 4 grey levels; the disk drifts and
holds; the ground moves behind a still disk. PSNR is of luma against the exact, noise-free magnified
clip, the reference left out; the second figure leaves out a rim of 8 px, too: what comes into view
there was never filmed. The third is that of a magnifier that knows the motion (of the disk: whether
a pixel is more than half covered by it) and reads the frames along it: what an estimate without
error reaches.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import torch
from numpy.typing import NDArray

from napari_flowmag import load_magnifier, magnify
from napari_flowmag.measure import achieved_factor
from napari_flowmag.models.field import FieldMagnifier
from napari_flowmag.synthetic.clips import KnownClip, known_motion, known_motions

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
RIM = 8  # px


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="default", help="name or path of the magnifier")
    parser.add_argument("--alphas", type=float, nargs="+", default=[10, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of texture and noise")
    parser.add_argument("--every", type=int, default=5, help="take every n-th frame only")
    options = parser.parse_args()
    model = load_magnifier(options.model, "cpu")
    for seed, name in itertools.product(options.seeds, known_motions()):
        clip = known_motion(name, seed=seed, every=options.every)
        clean = clip
        if name == "noise":
            clean = known_motion("disk", seed=seed, every=options.every)
        for alpha in options.alphas:
            exact = known_motion(name, factor=alpha, seed=seed, every=options.every).frames
            found = magnify(clip.frames, alpha, model=model, device="cpu")
            rim = slice(RIM, -RIM)
            whole, inside = psnr(found, exact), psnr(found[:, rim, rim], exact[:, rim, rim])
            best = psnr(along_the_truth(clip, alpha), exact)
            factor = achieved_factor(clean.frames[0], clean.frames[1:], found[1:], clip.moving)
            print(
                f"seed {seed} {name:6s} ×{alpha:<4g} PSNR {whole:.1f} dB, inside {inside:.1f} dB, "
                f"along the true motion {best:.1f} dB  achieved {factor.value:.2f}"
            )


def psnr(found: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    error = ((found - exact)[1:] @ LUMA) ** 2
    return float(-10 * np.log10(error.mean()))


def along_the_truth(clip: KnownClip, alpha: float) -> NDArray[np.float32]:
    """Magnify by the true motion; of each point the frame's own picture is read."""
    frames = torch.from_numpy(np.moveaxis(clip.frames, -1, 1).copy())
    motion = torch.from_numpy(clip.displacement - clip.displacement[:1])
    prediction = torch.cat([motion, torch.zeros_like(motion[:, :1])], 1)
    factor = torch.full((len(frames),), alpha)
    with torch.inference_mode():
        magnifier = FieldMagnifier()
        shown = magnifier.show(frames[:1].expand_as(frames))
        found = magnifier.render(prediction, shown, frames, factor)
    return np.moveaxis(found.numpy(), 1, -1)


if __name__ == "__main__":
    main()
