from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from napari_flowmag.train.prepare.sampling import candidates, over_the_cap, shares

SIZES = st.lists(st.integers(0, 30), max_size=8)


@given(SIZES, st.integers(0, 120))
def test_shares_are_as_even_as_sizes_allow(sizes: list[int], most: int) -> None:
    counts = shares(sizes, most)
    assert sum(counts) == min(most, sum(sizes))
    assert all(count <= size for count, size in zip(counts, sizes, strict=True))
    unfilled = [count for count, size in zip(counts, sizes, strict=True) if count < size]
    if unfilled:
        assert max(counts) - min(unfilled) <= 1


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.sets(st.integers(1, 6)))
def test_a_pair_lies_within_a_scene(lengths: list[int], strides: set[int]) -> None:
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    scenes = [range(end - length, end) for end, length in zip(ends, lengths, strict=True)]
    found = candidates(scenes, sorted(strides), 10_000)
    every = {(t, t + s) for scene in scenes for s in strides for t in scene if t + s in scene}
    assert {(pair.first, pair.second) for pair in found} == every
    assert found == sorted(found)
    for pair in found:
        assert pair.first in scenes[pair.scene]


def test_what_is_looked_at_is_spread_over_time_scenes_and_strides() -> None:
    found = candidates([range(100), range(100, 120), range(120, 220)], (1, 5), 24)
    assert [sum(pair.scene == i for pair in found) for i in range(3)] == [8, 8, 8]
    assert sum(pair.stride == 5 for pair in found) == 12
    first = [pair.first for pair in found if pair.scene == 0 and pair.stride == 1]
    assert first == [0, 32, 65, 98] or first == [0, 33, 65, 98]


def test_more_scenes_than_pairs() -> None:
    found = candidates([range(10 * i, 10 * i + 10) for i in range(100)], (1,), 5)
    assert [pair.scene for pair in found] == [0, 24, 49, 74, 99]
    assert {pair.first % 10 for pair in found} == {4}, "of a scene's only pair, the middle one"


def test_a_scene_keeps_no_more_than_the_cap() -> None:
    scenes = [0] * 9 + [1] * 2
    assert over_the_cap(scenes, None) == set()
    left = set(range(11)) - over_the_cap(scenes, 3)
    assert left == {0, 4, 8, 9, 10}
