from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

from napari_flowmag import FlowmagError, MagnificationLoss, load_flow
from napari_flowmag.synthetic.clips import known_motion


@pytest.fixture(scope="module")
def texture():
    noise = np.random.default_rng(0).random((81, 103))
    smooth = gaussian_filter(noise, 1.5) + gaussian_filter(noise, 4) * 3
    return (smooth - smooth.min()) / np.ptp(smooth)


def pictures(*arrays):
    return [torch.from_numpy(np.ascontiguousarray(a))[None, None].float() for a in arrays]


@pytest.mark.parametrize(
    ("dx", "tolerance"), [(0.02, 0.001), (0.3, 0.003), (1.5, 0.005), (6, 0.02)]
)
def test_a_shift_is_found_to_hundredths(texture, dx, tolerance):
    first, second = pictures(texture, shift(texture, (-dx / 2, dx), order=5, mode="nearest"))
    flow = load_flow("lucas_kanade")(first, second)
    assert flow.shape == (1, 2, 81, 103)
    inner = flow[..., 18:-18, 18:-18]
    exact = torch.tensor([dx, -dx / 2]).view(1, 2, 1, 1)
    assert float((inner - exact).abs().mean()) < tolerance


def test_two_pairs_do_not_mix(texture):
    first, second = pictures(texture, shift(texture, (0, 1.0), order=5, mode="nearest"))
    flow = load_flow("lucas_kanade")
    both = flow(torch.cat([first, first]), torch.cat([second, first]))
    torch.testing.assert_close(both[:1], flow(first, second), atol=1e-5, rtol=0)
    assert float(both[1].abs().max()) < 1e-4


def test_where_nothing_can_be_seen_nothing_moves():
    flat = torch.full((1, 1, 40, 40), 0.5)
    assert float(load_flow("lucas_kanade")(flat, flat + 0.01).abs().max()) == 0


def test_gradients_reach_the_magnified_frame_and_are_finite(texture):
    first, second = pictures(texture, shift(texture, (0, 0.5), order=5, mode="nearest"))
    first[..., :30] = second[..., :30] = 0.2  # flat: no window says anything there
    magnified = second.clone().requires_grad_()
    loss = MagnificationLoss(load_flow("lucas_kanade"))(
        magnified, first, second, 4.0 * torch.ones(1)
    )
    loss.total.backward()
    assert torch.isfinite(magnified.grad).all()
    assert float(magnified.grad.abs().sum()) > 0


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (33, 47)])
def test_any_size_will_do(size):
    x = torch.rand(1, 3, *size)
    assert load_flow("lucas_kanade")(x, x).shape == (1, 2, *size)


@pytest.mark.parametrize("options", [{"sigma": 0}, {"steps": 0}, {"levels": 0}, {"damping": 0}])
def test_senseless_options_are_refused(options):
    with pytest.raises(FlowmagError, match="must be above 0"):
        load_flow("lucas_kanade", **options)


def test_the_border_moves_with_the_rest():
    clip = known_motion("whole")
    first, second = torch.from_numpy(clip.frames[[0, 4]]).movedim(-1, 1)[:, None].float()
    with torch.inference_mode():
        error = np.abs(load_flow("lucas_kanade")(first, second)[0].numpy() - clip.displacement[4])
    assert error[:, 8:-8, -3:].mean() < 0.02
    assert error[:, 8:-8, :3].mean() < 0.02
