"""What every magnifier offers, and how the asked magnification reaches it.

The engine calls a magnifier in three steps, so that work is shared and pictures can be cut
into tiles:

1. ``prepare(reference)``, once for a clip and tile, and ``show(reference)``, once for a clip,
2. ``predict(prepared, frame, alpha)``: once for a frame and tile; the results are blended,
3. ``render(prediction, shown, frame, alpha)``: once for a whole frame.

``alpha`` is an :data:`Alpha` everywhere: a tensor of shape (B,) or (B, 1, H, W), or a
:class:`MaskedAlpha` where a (soft) mask says how much of the magnification a pixel gets.
The second form exists because models that *encode* alpha mix the encodings of the two
magnifications by the mask, which differs from encoding the mixed alpha unless the mask is 0
or 1. Models that *multiply* by alpha read ``broadcast_alpha(alpha)`` and need not care.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class MaskedAlpha:
    """A magnification that applies inside a mask only.

    Attributes
    ----------
    alpha : Tensor
        Magnification inside the mask, (B,) or (B, 1, H, W).
    mask : Tensor
        (B, 1, H, W) or (1, 1, H, W) in [0, 1], dilated and feathered already.
    outside : float
        Magnification outside the mask; 1 leaves the motion there as it is.
    """

    alpha: Tensor
    mask: Tensor
    outside: float = 1.0

    def map(self) -> Tensor:
        """Magnification of every pixel, (B, 1, H, W): ``mask α + (1 - mask) outside``."""
        return self.mask * broadcast_alpha(self.alpha) + (1 - self.mask) * self.outside


Alpha = Tensor | MaskedAlpha


def broadcast_alpha(alpha: Alpha) -> Tensor:
    """Magnification in a shape that multiplies with (B, C, H, W).

    Parameters
    ----------
    alpha : Alpha
        (B,), (B, 1, H, W) or a :class:`MaskedAlpha`.

    Returns
    -------
    Tensor
        (B, 1, 1, 1) or (B, 1, H, W).
    """
    if isinstance(alpha, MaskedAlpha):
        return alpha.map()
    return alpha.reshape(-1, 1, 1, 1) if alpha.ndim <= 1 else alpha


def crop_alpha(alpha: Alpha, rows: slice, columns: slice) -> Alpha:
    """Magnification of a tile: cuts what varies over the picture, keeps what does not."""
    if isinstance(alpha, MaskedAlpha):
        inside = alpha.alpha[..., rows, columns] if alpha.alpha.ndim == 4 else alpha.alpha
        return MaskedAlpha(inside, alpha.mask[..., rows, columns], alpha.outside)
    return alpha[..., rows, columns] if alpha.ndim == 4 else alpha


class Magnifier(nn.Module, ABC):
    """A network that repaints a frame so that its motion from the reference is α times as large.

    Attributes
    ----------
    architecture : str
        Name in the registry of :mod:`napari_flowmag.models`.
    config : dict
        The constructor's keyword arguments: what rebuilds this module before its weights
        are loaded. Values that JSON can hold.
    alpha_range : tuple of float
        Magnifications that one pass covers, both ends included. Above it the engine makes
        several passes; below it a magnifier cannot work.
    channels : int or None
        Number of channels it takes; None: any number, all moved together.
    context : int
        Surroundings in px that a tile needs on each side to give what the whole would give.
    decoder : tuple of str
        Names of the submodules that turn features into the prediction.
    light : bool
        Whether frames are worth magnifying side by side on a CPU: from several threads at once.
    recordable : tuple of str
        Names of methods whose operations depend on the sizes of their inputs alone, not on their
        numbers, so that they can be replayed (:mod:`napari_flowmag.recorded`).
    trainable : bool
        Whether its weights may be trained; else they are part of a method.
    loaded : tuple of str, optional
        Hash of the file that it was read from, and of the weights that were read.
    """

    architecture: str
    config: dict[str, Any]
    alpha_range: tuple[float, float]
    channels: int | None
    context: int
    decoder: tuple[str, ...] = ()
    light: bool = False
    recordable: tuple[str, ...] = ()
    trainable: bool = True
    loaded: tuple[str, str] | None = None

    @abstractmethod
    def prepare(self, reference: Tensor) -> Any:
        """Compute what depends on the reference alone, once for a clip.

        Parameters
        ----------
        reference : Tensor
            Motion image (B, c, H, W) in [0, 1].

        Returns
        -------
        Any
            A tensor or a nested tuple, list or dict of tensors, batch dimension first.
        """

    @abstractmethod
    def predict(self, prepared: Any, frame: Tensor, alpha: Alpha) -> Tensor:
        """Estimate local maps from which the magnified frame is rendered.

        Parameters
        ----------
        prepared : Any
            From :meth:`prepare`, same batch size as ``frame``.
        frame : Tensor
            Motion image (B, c, H, W) in [0, 1].
        alpha : Alpha
            Magnification.

        Returns
        -------
        Tensor
            (B, K, H, W); maps of overlapping tiles may be blended linearly.
        """

    def show(self, reference: Tensor) -> Any:
        """Compute what drawing needs of the reference alone, once for a clip.

        Parameters
        ----------
        reference : Tensor
            (B, C, H, W); where ``channels`` is None, any number of channels and any values.

        Returns
        -------
        Any
            As from :meth:`prepare`; the reference itself unless a magnifier says otherwise.
        """
        return reference

    @abstractmethod
    def render(self, prediction: Tensor, shown: Any, frame: Tensor, alpha: Alpha) -> Tensor:
        """Make the magnified picture of the whole frame.

        Parameters
        ----------
        prediction : Tensor
            (B, K, H, W) from :meth:`predict`.
        shown : Any
            From :meth:`show`.
        frame : Tensor
            (B, C, H, W), channels and values like the reference's.
        alpha : Alpha
            Magnification.

        Returns
        -------
        Tensor
            (B, C, H, W) in the values of ``frame``.
        """

    def forward(self, reference: Tensor, frame: Tensor, alpha: Alpha) -> Tensor:
        """Magnify the motion from ``reference`` to ``frame``.

        Parameters
        ----------
        reference, frame : Tensor
            (B, C, H, W) in [0, 1].
        alpha : Alpha
            Magnification; 1 leaves the frame as it is.

        Returns
        -------
        Tensor
            The magnified frame, (B, C, H, W).
        """
        prediction = self.predict(self.prepare(reference), frame, alpha)
        return self.render(prediction, self.show(reference), frame, alpha)
