"""The self-supervised loss: motion must be α times as large, colours must stay (Eq. 3 to 5).

Pan, Geng, Owens, "Self-Supervised Motion Magnification by Backpropagating Through Optical
Flow", NeurIPS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from napari_flowmag.errors import FlowmagError
from napari_flowmag.models.base import Alpha, broadcast_alpha
from napari_flowmag.warp import sample


@dataclass(frozen=True)
class LossTerms:
    """What the loss is made of.

    Attributes
    ----------
    magnification : Tensor
        Eq. 3, scalar: px, or relative if normalised.
    colour : Tensor
        Eq. 4, scalar, in the frames' values.
    total : Tensor
        Eq. 5, scalar: the weighted sum.
    input_flow, output_flow : Tensor
        Motion from the reference to the frame and to the magnified frame, (B, 2, H, W) px.
    """

    magnification: Tensor
    colour: Tensor
    total: Tensor
    input_flow: Tensor
    output_flow: Tensor


@dataclass(frozen=True)
class MagnificationLoss:
    """The paper's loss with a frozen flow estimator.

    It is not a module: the estimator's weights can neither reach an optimiser nor a
    checkpoint through it. They are frozen here; gradients pass through the estimator to
    the magnified frame, in Eq. 3 and in Eq. 4.

    Attributes
    ----------
    flow : nn.Module
        From :func:`~napari_flowmag.flow.load_flow`; differentiable.
    magnification_weight, colour_weight : float
        Weights in Eq. 5.
    normalise : float or None
        None: Eq. 3 as in the paper. A number c in px: Eq. 3 of each pair is divided by
        ``mean |α F| + c``, so that pairs with large motion do not drown those with small.

    Raises
    ------
    FlowmagError
        If gradients do not pass through the estimator.
    """

    flow: nn.Module
    magnification_weight: float = 1.0
    colour_weight: float = 10.0
    normalise: float | None = None

    def __post_init__(self) -> None:
        if not getattr(self.flow, "differentiable", True):
            raise FlowmagError(
                f"no gradients pass through {type(self.flow).__name__}: "
                "train with default, raft_large, raft_small or arflow"
            )
        self.flow.eval().requires_grad_(False)

    def __call__(
        self,
        magnified: Tensor,
        reference: Tensor,
        frame: Tensor,
        alpha: Alpha,
        input_flow: Tensor | None = None,
    ) -> LossTerms:
        """Judge a magnified frame.

        Parameters
        ----------
        magnified, reference, frame : Tensor
            (B, C, H, W) in [0, 1].
        alpha : Alpha
            Magnification asked for, (B,) or (B, 1, H, W).
        input_flow : Tensor, optional
            (B, 2, H, W) px from reference to frame, if it is known already.

        Returns
        -------
        LossTerms
            Scalars with gradients to ``magnified``, and the two flows.
        """
        # Slices of a 5-D batch corrupted memory in torch's CPU backward passes.
        magnified, reference, frame = (x.contiguous() for x in (magnified, reference, frame))
        if input_flow is None:
            input_flow = self.flow(reference, frame)
        output_flow = self.flow(reference, magnified)
        magnification = magnification_loss(output_flow, input_flow, alpha, self.normalise)
        colour = colour_loss(magnified, output_flow, frame, input_flow)
        total = self.magnification_weight * magnification + self.colour_weight * colour
        return LossTerms(magnification, colour, total, input_flow, output_flow)


def magnification_loss(
    output_flow: Tensor, input_flow: Tensor, alpha: Alpha, normalise: float | None = None
) -> Tensor:
    """Eq. 3: ``mean |F(I0, Ĩt) - α F(I0, It)|`` over pixels and both components.

    Parameters
    ----------
    output_flow, input_flow : Tensor
        (B, 2, H, W) px: motion after and before magnification.
    alpha : Alpha
        Magnification asked for.
    normalise : float, optional
        Divide each pair's mean by ``mean |α F(I0, It)| + normalise`` (px).

    Returns
    -------
    Tensor
        Scalar.
    """
    asked = broadcast_alpha(alpha) * input_flow
    error = (output_flow - asked).abs()
    if normalise is None:
        return error.mean()
    scale = asked.abs().mean((1, 2, 3)) + normalise
    return (error.mean((1, 2, 3)) / scale).mean()


def colour_loss(
    magnified: Tensor, output_flow: Tensor, frame: Tensor, input_flow: Tensor
) -> Tensor:
    """Eq. 4: ``mean |warp(Ĩt, F(I0, Ĩt)) - warp(It, F(I0, It))|``.

    Both frames are brought onto the reference's grid (backward, bilinear, reflected at the
    border) and must agree there.

    Parameters
    ----------
    magnified, frame : Tensor
        (B, C, H, W).
    output_flow, input_flow : Tensor
        (B, 2, H, W) px from the reference to ``magnified`` and to ``frame``.

    Returns
    -------
    Tensor
        Scalar, in the frames' values.
    """
    before = sample(frame, input_flow, padding="reflection")
    after = sample(magnified, output_flow, padding="reflection")
    return (after - before).abs().mean()
