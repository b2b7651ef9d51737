from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import PIL.Image
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.train.prepare.duplicates import (
    Signature,
    find_duplicates,
    group_by_scene,
    sign,
)
from napari_flowmag.train.prepare.pictures import to_tensor

Moving = Callable[..., np.ndarray]


def signature(first: np.ndarray, second: np.ndarray) -> Signature:
    return sign(to_tensor(first), to_tensor(second))


def as_jpeg(picture: np.ndarray, scale: float = 1.0) -> np.ndarray:
    image = PIL.Image.fromarray(picture)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return np.asarray(PIL.Image.open(file))


def test_copies_are_found_recompressed_and_scaled(moving: Moving) -> None:
    frames = moving(4, px=1.0)
    one = signature(frames[0], frames[2])
    copies = [
        signature(frames[0], frames[2]),
        signature(as_jpeg(frames[0]), as_jpeg(frames[2])),
        signature(as_jpeg(frames[0], 1.5), as_jpeg(frames[2], 1.5)),
    ]
    assert find_duplicates([one, *copies], 0.4) == [None, 0, 0, 0]
    assert find_duplicates([one, *copies], 0.0) == [None, 0, None, None]
    assert find_duplicates([one, *copies], 0.4, [7, 7, 7, 8]) == [None, None, None, 0]


def test_other_motion_before_the_same_scene_is_no_duplicate(moving: Moving) -> None:
    frames = moving(12, px=0.2)
    pairs = [signature(frames[0], frames[t]) for t in (2, 4, 8)]
    pairs += [signature(frames[t], frames[0]) for t in (2, 4, 8)]
    assert find_duplicates(pairs, 0.4) == [None] * 6


def test_the_first_that_is_no_duplicate_itself_is_named() -> None:
    change = np.ones(256, "<f2").tobytes()
    hashes = [0, 0b11111, 0b1111111111, 0b111111111111111]
    pairs = [Signature(hashed, 0, change) for hashed in hashes]
    # The second and third are within ten bits of the first, the last of the second and third only.
    assert find_duplicates(pairs, 0.4) == [None, 0, 0, None]


@given(st.integers(0, 2**128 - 1), st.sets(st.integers(0, 127), max_size=14))
def test_hashes_up_to_ten_bits_apart_are_alike(hashed: int, flipped: set[int]) -> None:
    other = hashed
    for bit in flipped:
        other ^= 1 << bit
    change = np.ones(256, "<f2").tobytes()
    pairs = [Signature(hashed, hashed, change), Signature(other, other, change)]
    assert (find_duplicates(pairs, 0.0)[1] == 0) is (len(flipped) <= 10)


def test_clips_of_one_scene_are_brought_together(moving: Moving) -> None:
    desk, street, lab = (moving(9, seed, px=0.1) for seed in (1, 2, 3))
    clips = [0, 1, 2, 2, 3]
    shown = [(desk, 0), (street, 0), (lab, 0), (street, 3), (lab, 5)]
    pairs = [signature(frames[t], frames[t + 2]) for frames, t in shown]
    assert group_by_scene(clips[:3], pairs[:3]) == {0: 0, 1: 1, 2: 2}
    assert group_by_scene(clips, pairs) == {0: 0, 1: 1, 2: 1, 3: 1}


def test_signatures_survive_their_text() -> None:
    one = sign(torch.rand(3, 20, 30), torch.rand(3, 20, 30))
    assert Signature.from_json(one.to_json()) == one
