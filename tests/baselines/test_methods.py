"""What all baselines promise, and how well each does what it is there for."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_flowmag import FlowmagError, load_magnifier, magnify
from napari_flowmag.baselines import BASELINES
from napari_flowmag.baselines.warps import NearestWarp
from napari_flowmag.measure import achieved_factor
from napari_flowmag.models.base import Magnifier, MaskedAlpha
from napari_flowmag.models.base import broadcast_alpha as factor_of
from napari_flowmag.settings import MagnifySettings
from napari_flowmag.synthetic.clips import disk_on_still_ground, translating_texture

READY = [name for name, baseline in BASELINES.items() if baseline.ready]


@pytest.fixture(scope="module", params=READY)
def baseline(request: pytest.FixtureRequest) -> Magnifier:
    """Each method; those that measure flow do it without weights, to be quick."""
    name = request.param
    return load_magnifier(f"{name}:farneback" if "warp" in name else name, "cpu")


def pictures(shift: float = 0.3, size: tuple[int, int] = (48, 56)) -> tuple[torch.Tensor, ...]:
    frames = translating_texture([(0, 0), (shift, -0.5 * shift)], size=size)
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().split(1)


def factor(
    name: str | Magnifier, shift: float, alpha: float, size: tuple[int, int] = (96, 96)
) -> float:
    frames = translating_texture([(0, 0), (shift, -0.5 * shift)], size=size)
    model = load_magnifier(name, "cpu") if isinstance(name, str) else name
    found = magnify(frames, alpha, model=model, device="cpu")
    return achieved_factor(frames[0], frames[1:], found[1:]).value


# the protocol


@torch.inference_mode()
def test_alpha_1_is_the_frame_to_the_bit(baseline: Magnifier) -> None:
    reference, frame = pictures()
    assert torch.equal(baseline(reference, frame, torch.ones(1)), frame)
    assert torch.equal(baseline(reference, frame, torch.ones(1, 1, 48, 56)), frame)


@pytest.mark.parametrize("name", ["linear:0", "phase", "riesz"])
@torch.inference_mode()
def test_near_1_it_is_near_the_frame(name: str) -> None:
    reference, frame = pictures()
    found = load_magnifier(name, "cpu")(reference, frame, torch.tensor([1.01]))
    assert not torch.equal(found, frame)
    assert (found - frame).abs().mean() < 0.02 * (frame - reference).abs().mean()


@torch.inference_mode()
def test_batches_are_what_single_frames_are(baseline: Magnifier) -> None:
    reference, frame = pictures()
    alphas = torch.tensor([3.0, 0.5])
    both = baseline(torch.cat([reference] * 2), torch.cat([frame, 1 - frame]), alphas)
    for one, picture, alpha in zip(both, (frame, 1 - frame), alphas, strict=True):
        alone = baseline(reference, picture, alpha[None])
        torch.testing.assert_close(one[None], alone, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_map_moves_what_is_inside_alone(baseline: Magnifier) -> None:
    reference, frame = pictures()
    alpha = torch.ones(1, 1, 48, 56)
    alpha[..., :28] = 6
    mask = (alpha > 1).float()
    found = baseline(reference, frame, alpha)
    masked = baseline(reference, frame, MaskedAlpha(torch.tensor([6.0]), mask))
    assert torch.equal(factor_of(MaskedAlpha(torch.tensor([6.0]), mask)), alpha)
    torch.testing.assert_close(masked, found, atol=1e-6, rtol=0)
    # A point of the inside may be pushed across the border, by 5 × 0.3 px and what is around it.
    assert torch.equal(found[..., 32:], frame[..., 32:])
    whole = baseline(reference, frame, torch.tensor([6.0]))
    torch.testing.assert_close(found[..., 8:40, 8:12], whole[..., 8:40, 8:12], atol=0.05, rtol=0)


@settings(deadline=None, max_examples=6)
@given(
    name=st.sampled_from(READY),
    shape=st.sampled_from([(2, 33, 141), (3, 17, 40, 3), (2, 135, 32, 2)]),
    dtype=st.sampled_from(["uint8", "uint16", "float32", "float64"]),
    tile=st.sampled_from([None, 128]),
    alpha=st.sampled_from([0.5, 4.0]),
)
def test_clips_keep_shape_and_type(
    name: str, shape: tuple[int, ...], dtype: str, tile: int | None, alpha: float
) -> None:
    rng = np.random.default_rng(0)
    frames = (200 * rng.random(shape)).astype(dtype)
    frames[-1] = frames[0]
    model = load_magnifier(f"{name}:farneback" if "warp" in name else name, "cpu")
    chosen: dict[str, Any] = {"model": model, "device": "cpu", "tile": tile}
    found = magnify(frames, alpha, **chosen)
    assert found.shape == frames.shape
    assert found.dtype == frames.dtype
    # What does not move stays as it is, to the bit.
    np.testing.assert_array_equal(found[0], frames[0])
    np.testing.assert_array_equal(found[-1], frames[0])
    assert np.isfinite(found).all()


def test_16_bits_are_kept(baseline: Magnifier) -> None:
    """The same clip in other units: not rounded to 8 bit on the way."""
    frames = translating_texture([(0, 0), (0.4, 0.1)], size=(40, 48), channels=1)
    counts = np.round(20000 + 3000 * frames).astype(np.uint16)
    found = magnify(counts, 4, model=baseline, device="cpu").astype(float)
    exact = magnify(counts.astype(np.float32), 4, model=baseline, device="cpu")
    assert np.abs(found - exact).max() <= 2
    assert np.abs(found[1] - counts[1].astype(float)).max() > 20


def test_attenuation_halves_the_motion(baseline: Magnifier) -> None:
    if baseline.architecture in ("warp-nearest", "riesz"):
        pytest.skip("moves by whole pixels, or does not undo all of a texture's motion")
    assert factor(baseline, 0.6, 0.5) == pytest.approx(0.5, abs=0.06)


# how well each does


@pytest.mark.parametrize("name", ["warp-bilinear", "lucas-kanade"])
@pytest.mark.parametrize("alpha", [4, 10])
def test_warps_magnify_by_the_factor(name: str, alpha: float) -> None:
    assert factor(name, 0.3, alpha) == pytest.approx(alpha, rel=0.05)


def test_the_nearest_pixel_is_moved_to() -> None:
    assert factor("warp-nearest", 0.3, 10) == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("option", ["", ":2"])
def test_phase_magnifies_a_tenth_of_a_pixel_by_the_factor(option: str) -> None:
    assert factor(f"phase{option}", 0.1, 10) == pytest.approx(10, rel=0.2)


def test_linear_magnifies_tiny_motion_by_the_factor() -> None:
    assert factor("linear:0", 0.02, 10) == pytest.approx(10, rel=0.1)


def test_linear_falls_short_where_its_model_of_motion_ends() -> None:
    """What it is compared for: 1 px of motion is more than an eighth of fine wavelengths."""
    assert factor("linear:0", 0.3, 10) < 7


def test_the_cutoff_lowers_the_factor_of_fine_detail() -> None:
    found = [factor(f"linear:{cutoff}", 0.02, 10) for cutoff in (0, 8, 16, 64)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 2


def grating(shift: float) -> np.ndarray:
    y, x = np.mgrid[:96, :96].astype(np.float32)
    return 0.5 + 0.4 * np.sin(2 * np.pi * (0.8 * (x - shift) + 0.6 * y) / 8)


@pytest.mark.parametrize("name", ["phase", "riesz", "riesz:0"])
def test_a_slanted_grating_turns_its_phase_by_the_factor(name: str) -> None:
    frames = np.stack([grating(0), grating(0.1)])
    found = magnify(frames, 10, model=name, device="cpu")[1]
    inner = (slice(24, -24), slice(24, -24))
    errors = {f: np.abs(found - grating(0.1 * f))[inner].mean() for f in (7, 8, 9, 10, 11, 12, 13)}
    assert min(errors, key=errors.__getitem__) in ((10,) if name == "phase" else (9, 10, 11))


def test_phase_denoising_quiets_noise() -> None:
    clean = translating_texture([(0, 0), (0.1, 0)], size=(64, 64), channels=1)
    exact = translating_texture([(0, 0), (0.1, 0)], size=(64, 64), channels=1, factor=8)
    noisy = clean + 0.01 * np.random.default_rng(0).standard_normal(clean.shape)
    errors = []
    for name in ("phase:0", "phase:3"):
        found = magnify(noisy.astype(np.float32), 8, model=name, device="cpu")
        errors.append(float(np.std((found - exact)[1])))
    assert errors[1] < 0.8 * errors[0]


def test_moving_objects_leave_the_ground_filled() -> None:
    """Holes that splatting leaves are filled, smoothly."""
    motion = [(0, 0), (0.5, 0.0)]
    frames = disk_on_still_ground(motion, size=(80, 80), radius=20)
    exact = disk_on_still_ground(motion, size=(80, 80), radius=20, factor=12)
    found = magnify(frames, 12, model="warp-bilinear:lucas_kanade", device="cpu")
    assert np.abs(found - exact)[1].mean() < 0.5 * np.abs(frames - exact)[1].mean()


@pytest.fixture
def nearest() -> NearestWarp:
    return NearestWarp("farneback")


def test_nearest_moves_by_whole_pixels(nearest: NearestWarp) -> None:
    values = torch.arange(20.0).view(1, 1, 4, 5)
    motion = torch.tensor([1.4, -0.6]).view(1, 2, 1, 1).expand(-1, -1, 4, 5)
    pushed, share = nearest.push(values, motion)
    assert torch.equal(pushed[..., :3, 1:], values[..., 1:, :4])
    assert share[0, 0].tolist() == [[0, 1, 1, 1, 1]] * 3 + [[0] * 5]


@pytest.mark.parametrize(
    ("moves", "winner"),
    [((0.0, -1.2), 0), ((0.3, -1.2), 1), ((0.25, -0.75), 0), ((0.0, -1.0), 0)],
)
def test_of_pixels_that_meet_the_nearest_is_seen(
    nearest: NearestWarp, moves: tuple[float, float], winner: int
) -> None:
    """And of equally near ones the first."""
    motion = torch.zeros(1, 2, 1, 4)
    motion[0, 0, 0, :2] = torch.tensor(moves)
    pushed, share = nearest.push(torch.arange(4.0).view(1, 1, 1, 4), motion)
    assert pushed[0, 0, 0, 0] == winner
    assert share.flatten().tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.7), (10, 200), (500, 40_000), (-3, -1)])
def test_holes_are_filled_from_around_them_in_any_unit(
    nearest: NearestWarp, low: float, high: float
) -> None:
    row = torch.linspace(low, high, 20).expand(20, -1)
    pictures = torch.stack([row, row.T])[None]
    holes = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    holes[..., 8:12, 8:12] = True
    torn = torch.where(holes, 0.0, pictures)
    filled = nearest._filled(torn, holes)
    torch.testing.assert_close(filled, pictures, atol=0.06 * (high - low), rtol=0)
    assert torch.equal(filled[..., :8, :], pictures[..., :8, :])


def test_with_nothing_but_holes_there_is_nothing_to_fill_from(nearest: NearestWarp) -> None:
    pictures = torch.zeros(1, 1, 5, 5)
    assert torch.equal(nearest._filled(pictures, torch.ones_like(pictures).bool()), pictures)


# refusals


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("phase:loud", "'phase:loud': give phase:SIGMA, such as phase:0.0"),
        ("linear:", "'linear:': give linear:CUTOFF"),
        ("phase:-1", "sigma of -1 px: give a number from 0 to 100"),
        ("riesz:nan", "sigma of nan px: give a number from 0 to 100"),
        ("linear:-3", "cutoff of -3 px: give a number from 0 to"),
        ("lucas-kanade:0", "sigma of 0 px"),
        ("lucas-kanade:inf", "sigma of inf px"),
        ("phase:1e9", "from 0 to 100"),
        ("warp-bilinear:nothing", "unknown flow 'nothing'"),
        ("warp-nearest:", "give warp-nearest:FLOW, such as warp-nearest:default"),
        ("oh:3", "oh has no option"),
        ("oh", "flowmag-train oh -o RUN"),
        ("phases", "unknown model 'phases': give one of default, warp-nearest"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(name: str, says: str) -> None:
    with pytest.raises(FlowmagError, match=says) as error:
        load_magnifier(name, "cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["warp-nearest", "warp-bilinear"])
def test_warps_say_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(module: str, *args: Any, **kwargs: Any) -> Any:
        if module == "cv2":
            raise ImportError(module)
        return original(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        FlowmagError, match=r'OpenCV, which is missing: pip install "flowmag\[eval]"'
    ):
        load_magnifier(name, "cpu")


def test_whole_pictures_are_not_steered_by_another_channel() -> None:
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    with pytest.raises(FlowmagError, match="motion channels cannot be chosen"):
        magnify(frames, 2, model="linear", device="cpu", motion_channels=(0,))


def test_provenance_says_which_and_has_a_hash_where_there_are_weights() -> None:
    from napari_flowmag.magnification import Magnification

    frames = np.zeros((2, 32, 32), np.uint8)
    for name, weights in (("phase:2", False), ("warp-bilinear:dis", False), ("warp-nearest", True)):
        job = Magnification(frames, MagnifySettings(3, model=name, device="cpu"))
        model = job.provenance()["model"]
        assert model["name"] == name
        assert model["architecture"] == name.partition(":")[0]
        assert (model["sha256"] is not None) == weights
