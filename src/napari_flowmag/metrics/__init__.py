"""How well motion was magnified: motion and magnification errors, SSIM, PSNR, and three of our own.

Every function but `achieved_factors` takes arrays or tensors of a batch and returns one number
for each of its samples as float64. Flows should come from an estimator that was not trained on.

Our own tell what the paper's leave open: by what factor each thing was magnified and how well its
parts agree (`achieved_factors`), whether what is still stays still (`stillness`), and whether the
picture stays sharp (`sharpness_kept`).
"""

from napari_flowmag.metrics.own import (
    achieved_factors,
    relative_stillness,
    sharpness_kept,
    stillness,
)
from napari_flowmag.metrics.paper import magnification_error, motion_error, psnr, ssim

__all__ = [
    "achieved_factors",
    "magnification_error",
    "motion_error",
    "psnr",
    "relative_stillness",
    "sharpness_kept",
    "ssim",
    "stillness",
]
