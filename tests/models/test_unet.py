from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_flowmag import FlowmagError, load_magnifier
from napari_flowmag.checkpoint import save_checkpoint
from napari_flowmag.models.base import MaskedAlpha
from napari_flowmag.models.unet import UNetMagnifier, write_authors_checkpoint


@pytest.fixture(scope="module")
def authors_file(tmp_path_factory, data: Path, formula_weights) -> Path:
    """A checkpoint in the authors' format, its names spelled out in a stored list."""
    state = {}
    for name, shape in json.loads((data / "authors_unet_shapes.json").read_text()).items():
        ones = len(shape) == 1 and name.endswith(("weight", "running_var"))
        if name.endswith("num_batches_tracked"):
            values = np.array(1)
        elif ones:
            values = (1 + 0.3 * np.sin(np.arange(shape[0]))).astype(np.float32)
        else:
            values = formula_weights(name if len(shape) > 1 else f"{name}.bias", shape)
        state[name] = torch.from_numpy(values)
    path = tmp_path_factory.mktemp("unet") / "authors.pth"
    torch.save({"state_dict": state, "optimizer_state_dict": {}, "epoch": 140}, path)
    return path


@pytest.fixture(scope="module")
def unet(authors_file: Path) -> UNetMagnifier:
    return load_magnifier(authors_file, "cpu")


@pytest.fixture(scope="module")
def pair(waves) -> tuple[torch.Tensor, torch.Tensor]:
    """An odd-sized reference and frame."""
    reference, frame = waves(37, 45, (0, 0, 0), 0), waves(37, 45, (0.3, 0.6, 0.9), -0.4)
    return torch.from_numpy(reference), torch.from_numpy(frame)


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(found, torch.from_numpy(expected), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_outputs_are_the_stored_ones(data: Path, unet, pair) -> None:
    stored = np.load(data / "unet.npz")
    for alpha in (1, 2, 7.3, 16):
        output = unet(*pair, torch.tensor([float(alpha)]))
        close(output[..., ::2, ::2], stored[f"alpha{alpha}"])
    mask = torch.linspace(0, 1, 45).expand(1, 1, 37, 45)
    masked = unet(*pair, MaskedAlpha(torch.tensor([5.0]), mask))
    close(masked[..., ::2, ::2], stored["masked_alpha5"])
    once = unet(*pair, torch.tensor([8.0]))
    twice = unet(pair[0], once, torch.tensor([8.0]))
    close(twice[..., ::2, ::2], stored["recursive_alpha64"])


@pytest.mark.parametrize("clip", ["even", "odd"])
@torch.inference_mode()
def test_outputs_are_the_authors(shared_fixtures: Path, clip: str) -> None:
    unet = load_magnifier(shared_fixtures / "authors_unet_ndf8.pth", "cpu")
    stored = np.load(shared_fixtures / "authors_unet_ndf8_io.npz")
    frames = torch.from_numpy(stored[f"{clip}_frames"])
    reference, frame = frames[:1], frames[2:3]
    for alpha in (1, 2, 7.3, 16):
        close(unet(reference, frame, torch.tensor([alpha]))[0], stored[f"{clip}_alpha{alpha}"])
    mask = torch.from_numpy(stored[f"{clip}_mask"])[None, None]
    masked = unet(reference, frame, MaskedAlpha(torch.tensor([5.0]), mask))
    close(masked[0], stored[f"{clip}_masked_alpha5"])
    # Between 0 and 1 the two differ; for such a mask the map is the same.
    by_map = unet(reference, frame, 1 + 4 * mask)
    close(by_map[0], stored[f"{clip}_masked_alpha5"])
    for _ in range(2):
        frame = unet(reference, frame, torch.tensor([8.0]))
    close(frame[0], stored[f"{clip}_recursive_alpha64"])


def test_the_published_size() -> None:
    with torch.device("meta"):
        unet = UNetMagnifier()
    assert sum(p.numel() for p in unet.parameters()) == 17_287_683


@torch.inference_mode()
def test_samples_of_a_batch_do_not_mix(unet, pair) -> None:
    reference, frame = (x.repeat(2, 1, 1, 1) for x in pair)
    frame[1] = frame[1].flip(-1)
    both = unet(reference, frame, torch.tensor([2.0, 7.3]))
    second = unet(reference[1:], frame[1:], torch.tensor([7.3]))
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=0)


def test_gradients_reach_every_weight(pair) -> None:
    unet = UNetMagnifier(width=2)
    unet(*(x.repeat(2, 1, 1, 1) for x in pair), torch.tensor([2.0, 4.0])).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in unet.parameters())


def test_authors_format_both_ways(tmp_path: Path, authors_file: Path, unet) -> None:
    write_authors_checkpoint(tmp_path / "ours.pth", unet, epoch=140)
    ours, theirs = (torch.load(p, weights_only=True) for p in (tmp_path / "ours.pth", authors_file))
    assert ours.keys() == theirs.keys()
    assert ours["epoch"] == 140
    assert list(ours["state_dict"]) == list(theirs["state_dict"])
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name


def test_width_is_inferred(tmp_path: Path) -> None:
    write_authors_checkpoint(tmp_path / "a.pth", UNetMagnifier(width=6))
    assert load_magnifier(tmp_path / "a.pth", "cpu").config == {"width": 6}


@torch.inference_mode()
def test_own_format_gives_the_same_magnifier(tmp_path: Path, unet, pair) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(
        path, unet, kind="magnifier", architecture="unet", config=unet.config, training={}
    )
    again, alpha = load_magnifier(path, "cpu"), torch.tensor([4.0])
    assert torch.equal(again(*pair, alpha), unet(*pair, alpha))


def test_foreign_weights_are_refused(tmp_path: Path, authors_file: Path) -> None:
    content = torch.load(authors_file, weights_only=True)
    names = list(content["state_dict"])
    bad = {
        "nothing": {},
        "elsewhere": {"model": content["state_dict"]},
        "no dictionary": {"state_dict": [1]},
        "renamed": {"state_dict": {n.upper(): v for n, v in content["state_dict"].items()}},
        "incomplete": {"state_dict": {n: content["state_dict"][n] for n in names[:-1]}},
        "misshapen": {
            "state_dict": content["state_dict"] | {names[-1]: torch.zeros(4)},
        },
    }
    for name, wrong in bad.items():
        path = tmp_path / f"{name}.pth"
        torch.save(wrong, path)
        with pytest.raises(FlowmagError, match="the paper's U-Net"):
            load_magnifier(path, "cpu")


@pytest.mark.parametrize(
    ("shape", "reason"), [((1, 1, 32, 32), "not 1 channels"), ((1, 3, 15, 40), "not 15×40")]
)
def test_pictures_it_cannot_take(unet, shape, reason: str) -> None:
    with pytest.raises(FlowmagError, match=reason):
        unet(torch.rand(shape), torch.rand(shape), torch.tensor([2.0]))


@torch.inference_mode()
def test_context_is_all_that_a_pixel_sees(unet) -> None:
    """Beyond it nothing but the grid of the upsampling changes a tile."""
    reference, frame = torch.rand(2, 1, 3, 32, 400)
    alpha, middle = torch.tensor([4.0]), slice(192, 208)
    whole = unet(reference, frame, alpha)[..., middle]
    far = slice(0, middle.start - unet.context)
    frame[..., far] = torch.rand_like(frame[..., far])
    torch.testing.assert_close(unet(reference, frame, alpha)[..., middle], whole, atol=0, rtol=0)
    near = slice(middle.start - 32, middle.start)
    frame[..., near] = torch.rand_like(frame[..., near])
    assert (unet(reference, frame, alpha)[..., middle] - whole).abs().max() > 1e-4
