"""What a step sees of two pictures, and what it would see from elsewhere."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_flowmag.flow.gauss_newton import GaussNewtonFlow
from napari_flowmag.flow.steps import Evidence
from napari_flowmag.synthetic.clips import translating_texture

shifts = st.floats(-2, 2)


def evidence(motion: tuple[float, float], flow: tuple[float, float], seed: int) -> Evidence:
    """Means over cells of four pixels with random slopes, of which all follow one motion."""
    rng = torch.Generator().manual_seed(seed)
    gx, gy = torch.randn(2, 4, 1, 5, 7, generator=rng)
    d = -gx * (motion[0] - flow[0]) - gy * (motion[1] - flow[1])
    products = torch.cat([gx * gx, gx * gy, gy * gy, gx * d, gy * d, d * d], 1)
    warped = torch.tensor(flow).view(1, 2, 1, 1).repeat(1, 1, 5, 7)
    return Evidence(products.mean(0, keepdim=True), warped, torch.ones(1, 1, 5, 7))


@given(st.tuples(shifts, shifts), st.tuples(shifts, shifts), st.tuples(shifts, shifts))
def test_products_elsewhere_are_those_of_warping_there(
    motion: tuple[float, float], here: tuple[float, float], there: tuple[float, float]
) -> None:
    seen, wanted = evidence(motion, here, 3), evidence(motion, there, 3)
    torch.testing.assert_close(seen.at(wanted.flow), wanted.products, atol=1e-4, rtol=1e-4)


def test_where_it_was_warped_nothing_changes() -> None:
    seen = evidence((0.5, 0.1), (0.3, -0.2), 1)
    torch.testing.assert_close(seen.at(seen.flow), seen.products)


def pair(dx: float) -> tuple[Tensor, Tensor]:
    frames = translating_texture([(0, 0), (dx, 0)], size=(64, 80), seed=2)
    first, second = torch.from_numpy(frames).movedim(-1, 1).contiguous().split(1)
    return first, second


@torch.inference_mode()
def test_an_estimate_tells_what_its_last_step_saw() -> None:
    torch.manual_seed(0)
    flow = GaussNewtonFlow(8, 4, (1,) * 6)
    first, second = pair(0.4)
    found = flow.estimate(flow.prepare(first), second)
    assert found.seen.products.shape == (1, 6, 16, 20)
    torch.testing.assert_close(found.seen.flow, found.steps[-3])  # averaging is the last
    # Pictures that differ by more than noise differ by less once they are warped.
    before, after = (found.seen.at(x)[:, 5].mean() for x in (0.0, found.steps[-1]))
    assert after < 0.1 * before
    assert ((found.seen.trust > 0) & (found.seen.trust <= 1)).all()
