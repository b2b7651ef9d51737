"""Warping of images by displacement fields: pure tensor functions."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_flowmag.device import constant

Interpolation = Literal["bilinear", "nearest"]
Padding = Literal["border", "reflection", "zeros"]

MARGIN = 2
"""Spline coefficients around a picture: what reading at its border touches."""


def sides(x: Tensor) -> tuple[int, int]:
    """Height and width of pictures (…, H, W), as numbers.

    Where torch records operations, sizes are tensors to it: less precise, and work at every replay.
    """
    return int(x.shape[-2]), int(x.shape[-1])


def strips(like: Tensor, pixels: int = 2**15) -> list[slice]:
    """Rows of pictures (B, …, H, W) to be worked on one after the other.

    A CPU keeps a strip in its cache from one operation to the next. On a graphics card every
    operation takes its time to be started, and for gradients all is kept: there it is all rows.

    Parameters
    ----------
    like : Tensor
        The pictures.
    pixels : int
        About so many of them at once.
    """
    height, width = sides(like)
    if torch.is_grad_enabled() or like.device.type != "cpu":
        return [slice(0, height)]
    rows = max(pixels // (len(like) * width), 1)
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def identity_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel coordinates of an image.

    Parameters
    ----------
    height, width : int
        Size of the image in px.
    like : Tensor
        The result has this tensor's dtype and device.

    Returns
    -------
    Tensor
        (1, 2, H, W); channel 0 is x, channel 1 is y.
    """
    y = torch.arange(height, dtype=like.dtype, device=like.device)
    x = torch.arange(width, dtype=like.dtype, device=like.device)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)])[None]


def sample(
    image: Tensor,
    flow: Tensor,
    mode: Interpolation = "bilinear",
    padding: Padding = "border",
) -> Tensor:
    """Read an image at displaced positions: ``out(x) = image(x + flow(x))``.

    With the optical flow from a first to a second frame this is backward warping: it
    brings the second frame onto the first one's grid (the warping of Eq. 4).

    Parameters
    ----------
    image : Tensor
        (B, C, H, W).
    flow : Tensor
        (B, 2, h, w) in px of ``image``, channel 0 along x, channel 1 along y. The pixel
        centres of the result are those of the image's first h rows and w columns.
    mode : {"bilinear", "nearest"}
        Interpolation between pixels.
    padding : {"border", "reflection", "zeros"}
        What lies outside the image; the paper reflects.

    Returns
    -------
    Tensor
        (B, C, h, w).
    """
    # Non-contiguous views of a batch corrupted memory in grid_sample's backward pass on CPU.
    image, flow = image.contiguous(), flow.contiguous()
    height, width = sides(image)
    places = _places(flow[:, 0], width, -1), _places(flow[:, 1], height, -2)
    return F.grid_sample(image, _grid(*places), mode, padding, align_corners=True)


def _places(way: Tensor, size: int, axis: int) -> Tensor:
    """Where displacements along an axis lead: -1 is the first pixel, 1 the last."""
    scale = 2 / max(size - 1, 1)
    return _readable(torch.add(_along(way, axis) * scale - 1, way, alpha=scale))


def _along(like: Tensor, axis: int) -> Tensor:
    """Count pixels along the last axis (-1), or along that before it (-2)."""
    count = torch.arange(sides(like)[axis], dtype=like.dtype, device=like.device)
    return count if axis == -1 else count[:, None]


def _grid(x: Tensor, y: Tensor) -> Tensor:
    """Join places along the two axes, (B, H, W), as grid_sample reads them."""
    # Planes rather than pairs in memory: joining them is 16 times as fast, reading as fast.
    return torch.stack([x, y], 1).permute(0, 2, 3, 1)


def _readable(position: Tensor) -> Tensor:
    """Replace positions that are not finite, with which grid_sample's backward pass crashes on CPU.

    Its forward pass reads some pixel there as well, and gradients of networks are not finite then.
    """
    return position.nan_to_num(0.0, 1e6, -1e6) if torch.is_grad_enabled() else position


def spline_coefficients(image: Tensor) -> Tensor:
    """Prepare a picture for :func:`sample_spline`: with them it passes through every pixel.

    The inverse of the cubic B-spline's values at the pixels, (1/6, 4/6, 1/6) along each
    axis (Unser 1999), with the picture's border repeated.

    Parameters
    ----------
    image : Tensor
        (B, C, H, W).

    Returns
    -------
    Tensor
        (B, C, H + 2 * MARGIN, W + 2 * MARGIN).
    """
    pole, reaches = math.sqrt(3) - 2, (1, 2, 4, 8)
    pad = sum(reaches) + MARGIN
    out = F.pad(image, (pad, pad, pad, pad), mode="replicate") * (6 * pole) ** 2
    for axis in (2, 3):
        # 1 / (1 - pole z) = (1 + pole z)(1 + pole² z²)(1 + pole⁴ z⁴)…, there and back again;
        # what is left out after four factors is below 1e-9.
        for reach in reaches:
            length = sides(out)[axis - 2] - reach
            before, here = out.narrow(axis, 0, length), out.narrow(axis, reach, length)
            out = torch.add(here, before, alpha=pole**reach)
        for reach in reaches:
            length = sides(out)[axis - 2] - reach
            here, after = out.narrow(axis, 0, length), out.narrow(axis, reach, length)
            out = torch.add(here, after, alpha=pole**reach)
    return out


def sample_spline(coefficients: Tensor, flow: Tensor, margin: int = 0) -> Tensor:
    """Read a cubic B-spline at displaced positions.

    Linear interpolation moves detail of w rad/px by only sin(w)/w of a small displacement,
    and torch's bicubic kernel (a = -0.75) moves even a ramp by 1.5 times of it; a spline is
    right to a fraction of a percent, which sub-pixel motion times α needs.

    Parameters
    ----------
    coefficients : Tensor
        (B, C, H + 2 * margin, W + 2 * margin): from :func:`spline_coefficients`, with
        ``margin=MARGIN``; or a picture itself, which is then smoothed (σ = 0.58 px).
    flow : Tensor
        (B, 2, H, W) px.
    margin : int
        Coefficients around the picture on each side. Positions outside the picture read all of
        them but the outermost `MARGIN`; beyond, the last one is repeated.

    Returns
    -------
    Tensor
        (B, C, H, W).
    """
    coefficients = coefficients.contiguous()
    height, width = sides(coefficients)
    along_x, along_y = (_along(flow, axis) for axis in (-1, -2))

    def read(x: Tensor, y: Tensor) -> Tensor:
        places = _grid(x, y)
        return F.grid_sample(coefficients, places, padding_mode="border", align_corners=True)

    found = []
    for rows in strips(flow):
        x, y = flow[:, 0, rows] + along_x, flow[:, 1, rows] + along_y[rows]
        left, right, across = _spline_reads(x, width, margin)
        upper, lower, down = _spline_reads(y, height, margin)
        above = torch.lerp(read(left, upper), read(right, upper), across)
        below = torch.lerp(read(left, lower), read(right, lower), across)
        found.append(torch.lerp(above, below, down))
    return torch.cat(found, 2)


def _spline_reads(position: Tensor, size: int, margin: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two places along an axis where a spline is read linearly, and how they are mixed.

    A cubic B-spline's four weights along an axis are two linear reads at the right places:
    of the first two neighbours, which weigh 1 - share together, and of the other two.

    Parameters
    ----------
    position : Tensor
        (B, H, W) px along the axis, from the picture's first one.
    size, margin : int
        Coefficients along it, and how many of them lie beyond the picture on either side.

    Returns
    -------
    near, far : Tensor
        (B, H, W): -1 at the first coefficient, 1 at the last.
    share : Tensor
        (B, 1, H, W) of the far one.
    """
    beyond = max(margin - MARGIN, 0)
    position = _readable(position.clamp(-beyond, size - 1 - 2 * margin + beyond))
    start = position.detach().floor()
    f = position - start
    half = constant((0.5,), f.dtype, f.device)
    sixth = constant((1 / 6,), f.dtype, f.device)
    inner = torch.addcmul(half, f, torch.sub(half, f, alpha=1 / 3))
    share = torch.addcmul(sixth, f, inner)  # 1/6 + f (1/2 + f (1/2 - f/3))
    scale = 2 / max(size - 1, 1)
    corner = start * scale + (margin * scale - 1)
    near = torch.addcdiv(corner, (1 - f).pow(3), 1 - share, value=-scale / 6)
    far = torch.addcdiv(corner + scale, f.pow(3), share, value=scale / 6)
    return near, far, share.unsqueeze(1)


def splat(values: Tensor, flow: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Push every pixel along its displacement (forward warping), bilinear.

    Parameters
    ----------
    values : Tensor
        (B, C, H, W).
    flow : Tensor
        (B, 2, H, W) px: where each pixel goes, relative to where it is.
    weight : Tensor
        (B, 1, H, W), at least 0: how much a pixel counts where several meet.

    Returns
    -------
    total : Tensor
        (B, C, H, W): the weighted sum of what arrives. ``total / share`` is its mean.
    share : Tensor
        (B, 1, H, W): the sum of the weights that arrive; 0 where nothing does.
    """
    (batch, channels), (height, width) = values.shape[:2], sides(values)
    position = identity_grid(height, width, flow) + flow
    # Of what is not finite, `part` keeps it; an index must be one.
    corner = position.detach().nan_to_num(0.0, 1e6, -1e6).floor()
    part = position - corner
    columns = _arrivals(corner[:, 0], part[:, 0], width)
    rows = _arrivals(corner[:, 1], part[:, 1], height)
    carried = torch.cat([values * weight, weight], 1).flatten(2)
    out = carried.new_zeros(batch, channels + 1, height * width)
    for x, share_x in columns:
        for y, share_y in rows:
            # Whole numbers: float32 cannot count the pixels of very large pictures.
            index = (y * width + x).flatten(1).unsqueeze(1)
            moved = carried * (share_x * share_y).flatten(1).unsqueeze(1)
            out = out.scatter_add(2, index.expand_as(moved), moved)
    out = out.view(batch, channels + 1, height, width)
    return out[:, :channels], out[:, channels:]


def _arrivals(corner: Tensor, part: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """Give the two pixels along an axis between which points arrive, and how much each gets.

    Outside the picture that is nothing, of some pixel within it.
    """
    found = []
    for at, share in ((corner, 1 - part), (corner + 1, part)):
        inside = (at >= 0) & (at < size)
        found.append((at.clamp(0, size - 1).long(), share * inside))
    return found
