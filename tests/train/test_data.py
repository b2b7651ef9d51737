from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch

from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.config import AugmentConfig
from napari_flowmag.train.data import PairBatches, PairFolder, hold_out, open_pairs, spread

SIZE = (40, 50)


def random_picture(seed: int, dtype: type = np.uint8, size: tuple[int, int] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, np.iinfo(dtype).max, (*size, 3), dtype)


def write_pair(root: Path, name: str, first: np.ndarray, second: np.ndarray) -> None:
    for side, picture in (("frameA", first), ("frameB", second)):
        path = root / "train" / side / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            path.write_bytes(imagecodecs.png_encode(picture))
        else:
            tifffile.imwrite(path, picture)


def write_list(root: Path, names: object, inside: bool = False) -> None:
    (root / "train" if inside else root).joinpath("train_fn.json").write_text(json.dumps(names))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names = [f"{i}.png" for i in range(6)]
    for i, name in enumerate(names):
        write_pair(tmp_path, name, random_picture(2 * i), random_picture(2 * i + 1))
    write_list(tmp_path, names)
    return tmp_path


def test_pairs_are_read_in_the_authors_layout(root: Path) -> None:
    pairs = open_pairs(root, 32)
    assert len(pairs) == 6
    found = pairs.read(2)
    assert found.shape == (2, 3, *SIZE)
    np.testing.assert_array_equal(found[1].numpy(), np.moveaxis(random_picture(5), -1, 0))


def test_the_list_may_lie_beside_the_frames(root: Path) -> None:
    (root / "train_fn.json").unlink()
    write_list(root, ["1.png"], inside=True)
    assert open_pairs(root, 32).names == ("1.png",)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_16_bit_pictures_keep_their_precision(tmp_path: Path, name: str) -> None:
    first = np.full((*SIZE, 3), 1000, np.uint16)
    first[0, 0], first[0, 1] = 1001, 1512
    write_pair(tmp_path, name, first, first + 512)
    found = PairFolder(tmp_path / "train", (name,)).read(0)
    assert found.dtype == torch.float32
    assert float(found.min()) == 0
    assert float(found.max()) == 1
    assert float(found[0, 0, 0, 0]) == pytest.approx(1 / 1024, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pictures_become_rgb(tmp_path: Path, dtype: type) -> None:
    grey = random_picture(0, dtype)[..., 0]
    write_pair(tmp_path, "grey.tif", grey, grey)
    found = PairFolder(tmp_path / "train", ("grey.tif",)).read(0)
    assert found.shape == (2, 3, *SIZE)
    assert torch.equal(found[:, 0], found[:, 2])


def remove_list(root: Path) -> None:
    (root / "train_fn.json").unlink()


def break_list(root: Path) -> None:
    (root / "train_fn.json").write_text("[")


def empty_list(root: Path) -> None:
    write_list(root, [])


def list_of_numbers(root: Path) -> None:
    write_list(root, [1, 2])


def remove_picture(root: Path) -> None:
    (root / "train" / "frameB" / "3.png").unlink()


def remove_folder(root: Path) -> None:
    (root / "train" / "frameA").rename(root / "elsewhere")


def cut_picture(root: Path) -> None:
    path = root / "train" / "frameA" / "4.png"
    path.write_bytes(path.read_bytes()[:500])


def replace_by_text(root: Path) -> None:
    (root / "train" / "frameB" / "4.png").write_text("no picture")


def other_size(root: Path) -> None:
    write_pair(root, "5.png", random_picture(0), random_picture(1, size=(40, 52)))


def other_depth(root: Path) -> None:
    write_pair(root, "5.png", random_picture(0), random_picture(1, np.uint16))


def too_small(root: Path) -> None:
    write_pair(root, "2.png", random_picture(0, size=(31, 90)), random_picture(1, size=(31, 90)))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (remove_list, r"train_fn\.json, is missing"),
        (break_list, r"train_fn\.json: not JSON"),
        (empty_list, r"train_fn\.json: lists no pairs"),
        (list_of_numbers, r"train_fn\.json: must be a list of file names"),
        (remove_picture, r"frameB.3\.png: no such picture"),
        (remove_folder, r"frameA.0\.png: no such picture \(and 5 more\)"),
        (cut_picture, r"frameA.4\.png: damaged"),
        (replace_by_text, r"frameB.4\.png: damaged"),
        (other_size, r"frameB.5\.png: 52×40 px.*frameA is 50×40 px"),
        (other_depth, r"frameB.5\.png: .*uint16, but its frameA is .*uint8"),
        (too_small, r"frameA.2\.png: 90×31 px is too small for a crop of 32 px"),
    ],
)
def test_unusable_data_is_named(root: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(root)
    with pytest.raises(FlowmagError, match=says) as caught:
        open_pairs(root, 32)
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    picture = np.zeros(SIZE, np.float32)
    picture[3, 4] = np.nan
    write_pair(tmp_path, "nan.tif", picture, picture)
    with pytest.raises(FlowmagError, match=r"nan\.tif: values that are not finite"):
        PairFolder(tmp_path / "train", ("nan.tif",)).read(0)


CONFIG = AugmentConfig(crop=32, noise=0.05)


def test_a_batch_is_a_function_of_seed_and_step(root: Path) -> None:
    pairs = open_pairs(root, 32)
    one, other = PairBatches(pairs, 4, CONFIG, seed=7), PairBatches(pairs, 4, CONFIG, seed=7)
    one[0]
    torch.testing.assert_close(one[5], other[5], rtol=0, atol=0)
    reseeded = PairBatches(pairs, 4, CONFIG, seed=8)[5]
    assert not torch.equal(one[5]["reference"], reseeded["reference"])


def test_the_loss_sees_the_frames_without_their_noise(root: Path) -> None:
    pairs = open_pairs(root, 32)
    noisy = PairBatches(pairs, 2, CONFIG, 0)[0]
    clean = PairBatches(pairs, 2, AugmentConfig(crop=32), 0)[0]
    assert torch.equal(noisy["reference"], clean["reference"])
    assert not torch.equal(noisy["noisy_reference"], clean["reference"])
    assert "noisy_reference" not in clean


def test_an_epoch_shows_each_pair_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    read = PairFolder.read
    monkeypatch.setattr(PairFolder, "read", lambda p, i: (seen.append(i), read(p, i))[1])
    batches = PairBatches(open_pairs(root, 32), 4, CONFIG, 0)
    seen.clear()
    for i in range(3):
        batches[i]
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))
    assert seen[:6] != seen[6:]


def test_held_out_pairs_are_not_trained_on(root: Path) -> None:
    seen, held = hold_out(open_pairs(root, 32), 2)
    assert set(seen.names).isdisjoint(held.names)
    assert len(seen) + len(held) == 6
    with pytest.raises(FlowmagError, match="leaves none to train on"):
        hold_out(seen, 16)


def test_a_pair_that_is_named_twice_counts_once(root: Path) -> None:
    write_list(root, 2 * [f"{i}.png" for i in range(6)])
    assert len(open_pairs(root, 32)) == 6


def test_spread_covers_both_ends() -> None:
    assert spread(100, 3) == [0, 50, 99] or spread(100, 3) == [0, 49, 99]
    assert spread(2, 10) == [0, 1]
