"""Results find their clips again."""

from __future__ import annotations

import numpy as np
import pytest

from napari_flowmag import _origin
from napari_flowmag._origin import above_family, is_made_of, newest_pair, origin_of

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


def test_what_is_new_lies_above_all_of_its_clip_and_below_what_was_drawn():
    first, second, other = clip("a"), clip("b"), clip("c")
    old, of_old, preview = result(first), clip(), result(second, role="preview")
    of_old.metadata = result(old).metadata
    line = layers.Shapes(name="line")
    assert above_family([first], [first, line]) == 1
    assert above_family([first, second], [first, second, line, other]) == 2
    assert above_family([first], [first, old, line]) == 2
    assert above_family([first], [first, line, old, other]) == 3
    assert above_family([first], [first, old, of_old, line]) == 3, "made of the result"
    assert above_family([old], [first, old, result(first), line]) == 3, "another of the same clip"
    assert above_family([first, second], [first, second, old, preview, line]) == 4
    assert above_family([other], [first, line]) == 2, "it is gone"
