"""Results find their clips again."""

from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag import _origin
from napari_flowmag._origin import is_made_of, newest_pair, origin_of

layers = pytest.importorskip("napari.layers")


def clip(name="clip"):
    return layers.Image(np.zeros((3, 8, 9)), name=name)


def result(source, number=1, role="result"):
    known = origin_of(source) | {"role": role, "number": number}
    return layers.Image(np.zeros((3, 8, 9)), name="result", metadata={"flowmag": known})


def test_a_clip_of_another_name_is_known_and_another_of_the_same_name_is_not():
    source = clip()
    made = result(source)
    source.name = "renamed"
    assert is_made_of(made, source)
    assert newest_pair(source, [source, made]) == ([source], [made])
    other = clip()
    assert not is_made_of(made, other)
    assert newest_pair(other, [other, made]) == ([], [])


def test_a_result_of_another_session_is_known_by_name(monkeypatch):
    before = result(clip(), number=7)
    monkeypatch.setattr(_origin, "_SESSION", "another")
    reopened = clip()
    assert is_made_of(before, reopened)
    now = result(reopened, number=1)
    every = [reopened, before, now]
    assert newest_pair(reopened, every) == ([reopened], [now]), "it is newer, whatever its number"
    assert newest_pair(before, every) == ([reopened], [before])


def test_channels_are_paired_in_order_and_a_preview_comes_first():
    first, second = clip("a"), clip("b")
    old, new = [[result(c, number) for c in (first, second)] for number in (1, 2)]
    every = [first, second, *old, *new]
    assert newest_pair(second, every) == ([first, second], new)
    assert newest_pair(old[1], every) == ([first, second], old)
    shown = result(first, role="preview")
    assert newest_pair(first, [*every, shown], [shown]) == ([first], [shown])
    copy = result(second, 2)
    assert newest_pair(first, [*every, copy]) == ([first, second], new)
    assert newest_pair(None, every) == ([], [])
