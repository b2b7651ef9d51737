"""Magnified clips against exact ones: PSNR and achieved factor on clips with known motion.

    python benchmarks/known_motion.py [--model default] [--alphas 10 20] [--every 5]

The clips (`napari_flowmag.synthetic.clips.known_motion`, 256×256, colour, 0.3 px): everything
moves by a sinusoid; only a disk does; that with noise of 4 grey levels; the disk drifts and
holds. PSNR is of luma against the exact, noise-free magnified clip, the reference left out; the
second figure leaves out a rim of 8 px, too: what comes into view there was never filmed, and
reading the reference along the true motion reaches no more than 47.5 dB in the whole frame.
"""

from __future__ import annotations

import argparse

import numpy as np

from napari_flowmag import load_magnifier, magnify
from napari_flowmag.measure import achieved_factor
from napari_flowmag.synthetic.clips import known_motion, known_motions

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
RIM = 8  # px


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="default", help="name or path of the magnifier")
    parser.add_argument("--alphas", type=float, nargs="+", default=[10, 20])
    parser.add_argument("--every", type=int, default=5, help="take every n-th frame only")
    options = parser.parse_args()
    model = load_magnifier(options.model, "cpu")
    for name in known_motions():
        clip = known_motion(name)
        frames = clip.frames[:: options.every]
        clean = known_motion("disk").frames[:: options.every] if name == "noise" else frames
        for alpha in options.alphas:
            exact = known_motion(name, factor=alpha).frames[:: options.every]
            found = magnify(frames, alpha, model=model, device="cpu")
            error = ((found - exact)[1:] @ LUMA) ** 2
            whole, inside = (
                -10 * np.log10(e.mean()) for e in (error, error[:, RIM:-RIM, RIM:-RIM])
            )
            factor = achieved_factor(clean[0], clean[1:], found[1:], clip.moving).value
            print(f"{name:6s} ×{alpha:<4g} PSNR {whole:.1f} dB, inside {inside:.1f} dB", end="  ")
            print(f"achieved {factor:.2f}")


if __name__ == "__main__":
    main()
