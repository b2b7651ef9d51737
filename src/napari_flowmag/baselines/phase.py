"""Phase-based magnification (Wadhwa et al., SIGGRAPH 2013), relative to the reference.

Pictures are split into the bands of a complex steerable pyramid; motion shows as a change of a
band's phase, which is multiplied. The pyramid is made in the frequency domain, of half-octave
bands with eight orientations as in the paper, each on the smallest grid that holds it. There is
no temporal filter: as with all magnifiers here, motion is that from the reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from napari_flowmag.baselines.common import (
    WholeFrame,
    factor_at,
    keep_unmagnified,
    require_px,
    smooth,
)
from napari_flowmag.models.base import Alpha, broadcast_alpha

ORIENTATIONS = 8
_STEP = 0.5
"""Octaves from one band to the next, and width of the flank between them."""

_FEWEST = 2
"""Wavelengths that a picture's shorter side holds in the coarsest band."""

_MARGIN = 32
"""Pixels of mirrored picture around it: what is transformed is taken to be periodic."""


class PhaseMagnifier(WholeFrame):
    """Multiplies the change of phase in the bands of a complex steerable pyramid.

    Where the motion in a band is more than half a wavelength its change of phase is ambiguous.
    What no band holds, the finest and the coarsest, stays as it is in the frame.

    Parameters
    ----------
    sigma : float
        Standard deviation, in px of each band, of a Gaussian that averages changes of phase,
        weighted by the band's amplitude (Sec. 3.4 of the paper). 0: none.

    Raises
    ------
    FlowmagError
        If sigma is not from 0 to 100.
    """

    architecture = "phase"

    def __init__(self, sigma: float = 0.0) -> None:
        super().__init__()
        require_px("phase", "sigma", sigma, 0, 100)
        self.sigma = sigma
        self.config = {"sigma": sigma}

    def render(self, prediction: Tensor, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        """Add what the bands change by to the frame."""
        before, after = (torch.fft.fft2(_mirrored(p), norm="forward") for p in (reference, frame))
        factor = broadcast_alpha(alpha).to(frame)
        if factor.shape[-1] > 1:
            factor = _mirrored(factor)
        added = torch.zeros_like(after)
        for level in levels(after.shape[-2], after.shape[-1], frame):
            here, there = level.cut(before), level.cut(after)
            change = torch.zeros_like(there)
            for mask in level.masks():
                band = analyse(there, mask)
                moved = self._change(analyse(here, mask), band)
                turn = (factor_at(factor, moved) - 1) * moved
                change += synthesise(band * torch.polar(torch.ones_like(turn), turn) - band, mask)
            level.add(added, change)
        out = frame + _cut(torch.fft.ifft2(added, norm="forward").real, frame)
        return keep_unmagnified(out, frame, alpha)

    def _change(self, before: Tensor, after: Tensor) -> Tensor:
        """Change of phase, from -π to π."""
        change = (after * before.conj()).angle()
        return smooth(change, after.abs(), self.sigma) if self.sigma else change


@dataclass(frozen=True)
class Level:
    """The bands of one width, on the grid that holds them.

    Attributes
    ----------
    rows, columns : Tensor
        (h,) and (w,): which frequencies of the picture's spectrum the grid has.
    radial : Tensor
        (h, w): response over the distance from the origin.
    x, y : Tensor
        (h, w): direction of each frequency, a unit vector.
    """

    rows: Tensor
    columns: Tensor
    radial: Tensor
    x: Tensor
    y: Tensor

    def cut(self, spectrum: Tensor) -> Tensor:
        """Take the level's frequencies, (B, C, h, w), from (B, C, H, W)."""
        return spectrum[..., self.rows[:, None], self.columns]

    def add(self, spectrum: Tensor, part: Tensor) -> None:
        """Add (B, C, h, w) to the level's frequencies of (B, C, H, W)."""
        spectrum[..., self.rows[:, None], self.columns] += part

    def masks(self) -> Iterator[Tensor]:
        """Responses (h, w) of the orientations, each in one half of the plane only.

        The squares of all, with their mirror images, sum to that of `radial`.
        """
        power = ORIENTATIONS - 1
        total = ORIENTATIONS * math.factorial(2 * power) / (2**power * math.factorial(power)) ** 2
        for number in range(ORIENTATIONS):
            angle = math.pi * number / ORIENTATIONS
            along = (math.cos(angle) * self.x + math.sin(angle) * self.y).clamp_min(0)
            yield along**power * self.radial / math.sqrt(total)


def levels(height: int, width: int, like: Tensor) -> Iterator[Level]:
    """Levels of the pyramid of a picture, fine to coarse.

    Parameters
    ----------
    height, width : int
        Size of the picture in px.
    like : Tensor
        The responses have this tensor's dtype and device.
    """
    for number in range(_count(height, width)):
        edge = math.exp2(-_STEP * number)  # frequency, as a share of Nyquist's, above which it is 0
        rows, columns = (_frequencies(n, edge, like.device) for n in (height, width))
        fy = torch.fft.fftfreq(height, device=like.device)[rows, None]
        fx = torch.fft.fftfreq(width, device=like.device)[columns]
        radius = torch.hypot(fx, fy).clamp_min(1e-9)
        radial = _low(radius, edge) * _high(radius, edge * math.exp2(-_STEP))
        x, y, radial = (v.to(like.dtype) for v in (fx / radius, fy / radius, radial))
        yield Level(rows, columns, radial, x, y)


def residual(height: int, width: int, like: Tensor) -> Tensor:
    """Share (H, W) of each frequency that no level holds: the highest and the lowest."""
    fy = torch.fft.fftfreq(height, device=like.device)[:, None]
    radius = torch.hypot(fy, torch.fft.fftfreq(width, device=like.device)).clamp_min(1e-9)
    coarsest = math.exp2(-_STEP * _count(height, width))
    share = _high(radius, 1.0) ** 2 + _low(radius, coarsest) ** 2
    return share.to(like.dtype)


def analyse(spectrum: Tensor, mask: Tensor) -> Tensor:
    """Make a complex band, whose real part is what the response lets through."""
    band: Tensor = torch.fft.ifft2(2 * mask * spectrum, norm="forward")
    return band


def synthesise(band: Tensor, mask: Tensor) -> Tensor:
    """Return what a band contributes to the spectrum; of the sum the real part is the picture."""
    spectrum: Tensor = torch.fft.fft2(band, norm="forward")
    return mask * spectrum


def _count(height: int, width: int) -> int:
    return max(int(math.log2(max(min(height, width) / (2 * _FEWEST), 1)) / _STEP), 1)


def _frequencies(count: int, edge: float, device: torch.device) -> Tensor:
    """Places of the frequencies below an edge in a spectrum, as many as transform quickly."""
    few = min(next_fast_len(2 * math.ceil(edge * count / 2) + 1), count)
    place = torch.arange(few, device=device)
    return torch.where(place < (few + 1) // 2, place, place + count - few)


def _low(radius: Tensor, edge: float) -> Tensor:
    """Fall from 1 to 0 over the step below an edge, as a cosine of the logarithm."""
    return torch.cos(_flank(radius, edge))


def _high(radius: Tensor, edge: float) -> Tensor:
    """Rise where :func:`_low` falls; their squares sum to 1."""
    return torch.sin(_flank(radius, edge))


def _flank(radius: Tensor, edge: float) -> Tensor:
    """Angle from 0 to π/2 over the flank below an edge, which is a share of Nyquist's."""
    passed = (torch.log2(2 * radius / edge) / _STEP + 1).clamp(0, 1)
    return passed * (math.pi / 2)


def _margins(picture: Tensor) -> tuple[int, int, int, int]:
    before = []
    for size in (picture.shape[-1], picture.shape[-2]):
        more = next_fast_len(size + 2 * min(_MARGIN, size // 2), real=True) - size
        before += [more // 2, more - more // 2]
    return before[0], before[1], before[2], before[3]


def _mirrored(picture: Tensor) -> Tensor:
    return F.pad(picture, _margins(picture), mode="reflect")


def _cut(padded: Tensor, like: Tensor) -> Tensor:
    left, _, top, _ = _margins(like)
    return padded[..., top : top + like.shape[-2], left : left + like.shape[-1]]
