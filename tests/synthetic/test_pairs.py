from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from napari_flowmag.errors import FlowmagError
from napari_flowmag.synthetic.pairs import Pairs, PairSettings, load_textures, random_pairs
from napari_flowmag.warp import MARGIN, identity_grid, sample_spline, spline_coefficients

QUIET = (1e-6, 1e-6)


def draw(
    count: int = 32, seed: int = 0, textures: Sequence[Tensor] = (), size: int = 64, **changes
) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    return random_pairs(count, textures, generator, PairSettings(size=size, **changes))


@pytest.fixture(scope="module")
def quiet() -> Pairs:
    return draw(48, noise=QUIET, motion=(1.0, 6.0))


def mismatch(pairs: Pairs, i: int) -> Tensor:
    """How far the second frame, brought onto the first one's grid, is from it; (H, W).

    As a share of the contrast, and apart from flicker, which is no motion.
    """
    first, flow = pairs.first[i], pairs.flow[i : i + 1]
    back = sample_spline(spline_coefficients(pairs.second[i : i + 1]), flow, MARGIN)[0]
    seen = ~pairs.occluded[i].expand(3, -1, -1)
    x, y = back[seen] - back[seen].mean(), first[seen] - first[seen].mean()
    gain = (x * y).mean() / x.square().mean()
    difference = gain * (back - back[seen].mean()) + first[seen].mean() - first
    return difference.abs().mean(0) / y.std()


# reproducible


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, again, other = (draw(4, seed, alpha=(1.0, 9.0)) for seed in (7, 7, 8))
    names = {"first", "second", "flow", "occluded", "noise", "alpha", "magnified"}
    assert vars(one).keys() == names
    for name, value in vars(one).items():
        assert torch.equal(value, getattr(again, name)), name
    assert not torch.equal(one.first, other.first)
    assert not torch.equal(one.magnified, other.magnified)
    assert not torch.equal(one.flow, other.flow)


def test_nothing_but_the_generator_is_random() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    draw(2)
    assert torch.equal(torch.get_rng_state(), state)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 5), st.integers(16, 70), st.integers(0, 2**32))
def test_pictures_are_pictures(count: int, size: int, seed: int) -> None:
    pairs = draw(count, seed, size=size)
    for frame in (pairs.first, pairs.second):
        assert frame.shape == (count, 3, size, size)
        assert frame.min() >= 0
        assert frame.max() <= 1
        assert frame.is_contiguous()
    assert pairs.flow.shape == (count, 2, size, size)
    assert pairs.flow.isfinite().all()
    assert pairs.occluded.shape == (count, 1, size, size)
    assert pairs.occluded.dtype == torch.bool


# true


def test_pairs_tell_their_noise() -> None:
    pairs = draw(32, noise=(0.1, 0.1), motion=(1e-4, 1e-3))
    apart = (pairs.first - pairs.second).flatten(1)
    apart = (apart - apart.median(1, keepdim=True).values).abs().median(1).values / 0.6745
    contrast = (pairs.first**2).mean((1, 2, 3)) - pairs.first.mean((1, 2, 3)) ** 2
    found = apart / contrast.sqrt() / 2**0.5
    noisy = pairs.noise > 0
    assert 16 < int(noisy.sum()) < 32
    assert pairs.noise[noisy].tolist() == pytest.approx([0.1] * int(noisy.sum()))
    assert float(found[noisy].median()) == pytest.approx(0.1, rel=0.15)
    assert float(found[~noisy].median()) < 0.02


def test_the_flow_brings_the_second_frame_onto_the_first(quiet: Pairs) -> None:
    shares, wrong = [], []
    for i in range(48):
        seen = ~quiet.occluded[i, 0]
        shares.append(float(mismatch(quiet, i)[seen].median()))
        opposite = replace(quiet, flow=-quiet.flow)
        wrong.append(float(mismatch(opposite, i)[seen].median()))
    # What is left is rounding to grey levels, and blur that a bend changes.
    assert np.median(shares) < 0.01
    assert max(shares) < 0.06
    moving = quiet.flow.abs().amax((1, 2, 3)) > 0.5
    assert moving.sum() > 30
    worse = np.array(wrong)[moving] > 3 * np.array(shares)[moving]
    assert worse.mean() > 0.8


def test_what_is_hidden_is_marked(quiet: Pairs) -> None:
    size = 64
    target = identity_grid(size, size, quiet.flow) + quiet.flow
    outside = ((target < 0) | (target > size - 1)).any(1)
    assert (quiet.occluded[:, 0] | ~outside).all()
    hidden_error, seen_error = [], []
    for i in range(48):
        hidden = quiet.occluded[i, 0] & ~outside[i]
        if hidden.sum() >= 20:
            error = mismatch(quiet, i)
            hidden_error.append(float(error[hidden].mean()))
            seen_error.append(float(error[~quiet.occluded[i, 0]].mean()))
    assert len(hidden_error) >= 5
    assert np.median(hidden_error) > 5 * np.median(seen_error)


def test_little_is_hidden_where_little_moves() -> None:
    pairs = draw(16, motion=(0.05, 0.05), noise=QUIET)
    edge = torch.zeros(64, 64, dtype=torch.bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    assert pairs.occluded[:, 0, ~edge].float().mean() < 0.01


# as asked


@pytest.mark.parametrize("scale", [0.02, 1.0, 12.0])
def test_motion_is_of_the_size_that_was_asked_for(scale: float) -> None:
    pairs = draw(64, motion=(scale, scale), size=48)
    length = torch.hypot(*pairs.flow.unbind(1)).flatten(1)
    moving = [float(x[x > 0].square().mean().sqrt()) for x in length if (x > 0).any()]
    assert len(moving) > 45
    assert min(moving) > 0.1 * scale  # of a thin object, where it happens to move little
    assert np.quantile(moving, 0.1) > 0.25 * scale
    assert max(moving) < 1.3 * scale
    assert length.max() < 3 * scale


def test_small_motions_are_as_frequent_as_large_ones() -> None:
    pairs = draw(200, motion=(0.01, 10.0), size=16, still=0.0)
    typical = torch.hypot(*pairs.flow.unbind(1)).flatten(1).median(1).values
    shares = torch.histc(typical.log10(), 3, -2, 1) / 200
    assert shares.min() > 0.2


def test_some_grounds_are_still_while_objects_move() -> None:
    pairs = draw(64, motion=(2.0, 2.0), size=48)
    still = (pairs.flow == 0).all(1).flatten(1).float().mean(1)
    ground = (still > 0.2) & (still < 1)
    assert 0.1 < ground.float().mean() < 0.6
    assert (still < 0.01).float().mean() > 0.3
    for i in torch.nonzero(ground).flatten()[:4]:
        same = (pairs.flow[i] == 0).all(0)
        assert (pairs.flow[i][:, ~same].abs().sum(0) > 0.05).float().mean() > 0.9


def test_everything_moves_when_nothing_is_to_stay() -> None:
    pairs = draw(16, motion=(2.0, 2.0), still=0.0)
    assert (pairs.flow == 0).all(1).float().mean() < 0.001


def test_motion_never_folds_a_layer() -> None:
    pairs = draw(64, motion=(15.0, 15.0), size=48)
    for axis in (2, 3):
        bends = pairs.flow.diff(dim=axis).abs().amax(1).flatten(1)
        assert (bends > 0.251).float().mean() < 0.05, "other than at outlines"


def test_noise_has_the_strength_that_was_asked_for() -> None:
    clean, noisy = (draw(64, noise=noise, size=32) for noise in (QUIET, (0.2, 0.2)))
    added = (noisy.first - clean.first).flatten(1).std(1) / clean.first.flatten(1).std(1)
    given_noise = added > 0.02
    assert 0.5 < given_noise.float().mean() < 0.95  # three pairs in four
    assert 0.08 < added[given_noise].median() < 0.3
    noise = torch.stack([noisy.first - clean.first, noisy.second - clean.second], 1).flatten(2)
    related = torch.stack([torch.corrcoef(n)[0, 1] for n in noise])
    assert related[given_noise].abs().median() < 0.1, "each frame has its own"


def slopes(pairs: Pairs) -> Tensor:
    """How much more light there is at one side of the second frames than at the other."""
    ratio = (pairs.second + 0.05) / (pairs.first + 0.05)
    place = torch.linspace(-0.5, 0.5, ratio.shape[-1])
    along = [(ratio * axis).mean((1, 2, 3)) * 12 for axis in (place, place[:, None])]
    return torch.hypot(*along)


def test_light_changes_across_the_frame_where_that_is_asked_for() -> None:
    still = {"motion": (1e-4, 1e-3), "noise": QUIET, "size": 96}
    even, uneven, some = (slopes(draw(48, light=share, **still)) for share in (0.0, 1.0, 0.4))
    assert even.median() < 0.002
    assert uneven.quantile(0.2) > 0.01
    assert uneven.max() < 0.25
    assert 10 < int((some > 0.01).sum()) < 30


def test_the_magnified_frame_is_in_the_light_of_the_second() -> None:
    pairs = draw(24, light=1.0, noise=QUIET, motion=(0.5, 2.0), alpha=(1.0, 1.0), size=96)
    assert pairs.magnified is not None
    assert (pairs.magnified - pairs.second).abs().mean() < 0.003


# textures


def png(path: Path, picture: np.ndarray) -> np.ndarray:
    path.write_bytes(imagecodecs.png_encode(picture))
    return picture


def test_textures_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colour = png(tmp_path / "b.png", rng.integers(0, 256, (20, 30, 3), np.uint8))
    grey = png(tmp_path / "a.PNG", rng.integers(0, 256, (8, 9), np.uint8))
    deep = png(tmp_path / "c.png", rng.integers(0, 2**16, (5, 6, 3), np.uint16))
    (tmp_path / "d.jpg").write_bytes(imagecodecs.jpeg_encode(colour))
    (tmp_path / "notes.txt").write_text("no picture")
    first, second, third, fourth = load_textures(tmp_path)
    assert torch.equal(first, torch.from_numpy(grey).expand(3, -1, -1))
    assert torch.equal(second, torch.from_numpy(colour).permute(2, 0, 1))
    assert third.dtype == torch.uint8
    np.testing.assert_allclose(third.permute(1, 2, 0).numpy(), deep / 257, atol=1)
    assert fourth.shape == (3, 20, 30)


def test_folders_without_pictures_are_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FlowmagError, match=f"{folder.name}: no PNG or JPEG pictures"):
            load_textures(folder)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_damaged_pictures_are_named(tmp_path: Path, content: bytes) -> None:
    png(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(FlowmagError, match=r"b\.png: damaged"):
        load_textures(tmp_path)


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 2), (40, 40), (129, 128)])
def test_textures_of_any_size_are_used(size: tuple[int, int]) -> None:
    blue = torch.zeros(3, *size, dtype=torch.uint8)
    blue[2] = 200
    pairs = draw(48, textures=[blue], noise=QUIET)
    assert pairs.first.isfinite().all()
    # Procedural textures, which are mixed in, are hardly ever of this colour.
    red, _, other = pairs.first.unbind(1)
    assert ((other - red).flatten(1).amax(1) > 0.2).float().mean() > 0.4


# the magnified frame


def test_a_magnified_frame_is_there_only_when_asked_for() -> None:
    plain, more = draw(2, 3, size=32), draw(2, 3, size=32, alpha=(4.0, 4.0))
    assert plain.magnified is None
    assert plain.alpha is None
    assert more.alpha is not None
    assert more.alpha.tolist() == pytest.approx([4.0] * 2)


def test_alpha_1_is_the_second_frame_without_noise() -> None:
    pairs = draw(4, size=32, noise=QUIET, alpha=(1.0, 1.0), motion=(0.1, 3.0))
    # What is left is rounding to grey levels.
    assert (pairs.magnified - pairs.second).abs().max() < 0.51 / 255


def test_layers_have_moved_by_alpha_times_the_flow() -> None:
    pairs = draw(24, noise=QUIET, alpha=(3.0, 12.0), motion=(0.3, 1.0), size=128)
    assert pairs.alpha is not None
    assert pairs.magnified is not None
    assert 3 <= pairs.alpha.min() < pairs.alpha.max() <= 12

    def medians(share: float) -> np.ndarray:
        far = share * pairs.alpha.view(-1, 1, 1, 1) * pairs.flow
        moved = replace(pairs, second=pairs.magnified, flow=far)
        return np.array([float(mismatch(moved, i).median()) for i in range(24)])

    right = medians(1.0)
    assert np.median(right) < 0.03
    assert np.mean(right < np.minimum(medians(0.8), medians(1.2))) > 0.6


def test_magnified_motion_stays_within_reach() -> None:
    pairs = draw(8, size=32, alpha=(2.0, 50.0), motion=(0.1, 5.0), reach=4.0)
    assert pairs.alpha is not None
    far = pairs.alpha.view(-1, 1, 1, 1) * pairs.flow
    scale = far.square().sum(1).mean((1, 2)).sqrt()
    assert scale.max() < 4.0 * 1.3
    assert scale.max() > 1.0


def test_thin_things_of_one_colour_are_common() -> None:
    """Networks take what they rarely see for still."""
    pairs = draw(64, motion=(2.0, 2.0), size=96, still=1.0, noise=QUIET)
    moving = (pairs.flow != 0).any(1, keepdim=True).float()
    # what nothing survives of that is 9 px wide
    opened = -torch.nn.functional.max_pool2d(-moving, 9, 1, 4)
    thin = (moving.flatten(1).mean(1) > 0.003) & (opened.flatten(1).mean(1) < 0.002)
    assert 0.2 < thin.float().mean() < 0.7
