"""Figures that the paper has published, to be printed beside ours and never mixed with them.

Source: Pan, Geng, Owens, NeurIPS 2023, the tables of motion error on 650 real pairs (which are
other pairs than any set here unless the authors' test set is given) and on the synthetic sets.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper.

    Attributes
    ----------
    cases
        Name of the set that it belongs beside.
    title
        What is in it.
    columns
        Headings.
    rows
        Method → values, None where none was published.
    """

    cases: str
    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]


_ALPHAS = tuple(f"α = {alpha}" for alpha in (2, 4, 10, 16, 64))
_PAIRS = "Motion error in px on the paper's 650 real pairs, judged by "
_LEVELS = ("0.04 px", "0.2 px", "1 px")
_NOISE = ("noise 0.01", "noise 1", "noise 100")

PUBLISHED = (
    PublishedTable(
        "pairs",
        _PAIRS + "PWC-Net",
        _ALPHAS,
        {
            "Warp nearest": (0.59, 1.42, 4.15, 7.24, 35.76),
            "Warp bilinear": (0.57, 1.40, 4.12, 7.28, 35.78),
            "FLAVR": (None, None, 4.24, None, None),
            "Oh et al.": (0.51, 1.37, 4.29, 7.60, 39.49),
            "the paper, trained by ARFlow": (0.38, 1.15, 3.70, 6.58, 34.21),
            "the paper, trained by RAFT": (0.30, 0.95, 3.32, 6.01, 32.01),
        },
    ),
    PublishedTable(
        "pairs",
        _PAIRS + "RAFT",
        _ALPHAS,
        {
            "Warp nearest": (0.40, 0.83, 2.91, 5.49, 28.87),
            "Warp bilinear": (0.35, 0.78, 2.97, 5.52, 28.70),
            "FLAVR": (None, None, 3.87, None, None),
            "Oh et al.": (0.47, 1.21, 3.86, 6.95, 37.53),
            "the paper, trained by ARFlow": (0.33, 1.03, 3.52, 6.33, 32.89),
            "the paper, trained by RAFT": (0.26, 0.78, 2.82, 5.20, 29.26),
        },
    ),
    PublishedTable(
        "pairs",
        _PAIRS + "GMFlow",
        _ALPHAS,
        {
            "Warp nearest": (0.56, 1.26, 3.84, 6.86, 33.61),
            "Warp bilinear": (0.53, 1.24, 3.79, 6.88, 33.72),
            "FLAVR": (None, None, 4.40, None, None),
            "Oh et al.": (0.52, 1.40, 4.34, 7.64, 37.31),
            "the paper, trained by ARFlow": (0.41, 1.30, 4.15, 7.23, 35.02),
            "the paper, trained by RAFT": (0.37, 1.19, 3.88, 6.73, 33.49),
        },
    ),
    PublishedTable(
        "subpixel",
        "Motion error in px on the paper's sub-pixel set",
        _LEVELS,
        {
            "Warp bilinear": (10.61, 3.02, 2.12),
            "Oh et al.": (9.82, 2.93, 2.26),
            "the paper, trained by RAFT": (10.02, 2.80, 2.05),
        },
    ),
    PublishedTable(
        "subpixel",
        "SSIM on the paper's sub-pixel set",
        _LEVELS,
        {
            "Warp bilinear": (0.78, 0.93, 0.97),
            "Oh et al.": (0.93, 0.97, 0.98),
            "the paper, trained by RAFT": (0.82, 0.90, 0.94),
        },
    ),
    PublishedTable(
        "noise",
        "Motion error in px on the paper's noise set",
        _NOISE,
        {
            "Warp bilinear": (0.61, 0.90, 226.0),
            "Oh et al.": (1.01, 0.94, 181.0),
            "the paper, trained by RAFT": (0.69, 0.68, 164.0),
        },
    ),
    PublishedTable(
        "noise",
        "SSIM on the paper's noise set",
        _NOISE,
        {
            "Warp bilinear": (0.98, 0.90, 0.19),
            "Oh et al.": (0.98, 0.97, 0.31),
            "the paper, trained by RAFT": (0.97, 0.94, 0.10),
        },
    ),
)
