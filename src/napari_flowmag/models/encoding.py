"""The paper's encoding of the magnification for a network that is told α by its input."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_flowmag.models.base import Alpha, MaskedAlpha, broadcast_alpha

ENCODING_CHANNELS = 32

# From 2^-3 to 2^7, spaced geometrically.
_WAVELENGTHS = [2.0 ** (-3 + 10 * i / (ENCODING_CHANNELS - 1)) for i in range(ENCODING_CHANNELS)]

# The published weights were trained with π cut after six digits. At α = 16 and the shortest
# wavelength that moves the phase by 1.7e-4, so the exact π would not reproduce them.
_PI = 3.141592


def encode_alpha(alpha: Alpha) -> Tensor:
    """Sinusoidal encoding of α: ``sin(2π α / λ)`` for 32 wavelengths λ from 2^-3 to 2^7.

    For a :class:`MaskedAlpha` the two encodings are mixed by the mask, ``mask enc(α) +
    (1 - mask) enc(outside)``, as the paper's targeted magnification does.

    Parameters
    ----------
    alpha : Alpha
        (B,), (B, 1, H, W) or a :class:`MaskedAlpha`.

    Returns
    -------
    Tensor
        float32, (B, 32, 1, 1) for one α per sample, else (B, 32, H, W); in [-1, 1].
    """
    if isinstance(alpha, MaskedAlpha):
        outside = torch.tensor([alpha.outside], device=alpha.mask.device)
        mask = alpha.mask.float()
        return mask * encode_alpha(alpha.alpha) + (1 - mask) * encode_alpha(outside)
    # Half precision cannot hold a phase of 800 rad; the order of the operations is the
    # authors', to the last bit.
    value = broadcast_alpha(alpha).float()
    wavelengths = torch.tensor(_WAVELENGTHS, device=value.device).view(1, -1, 1, 1)
    return torch.sin(2 * _PI * value / wavelengths)
