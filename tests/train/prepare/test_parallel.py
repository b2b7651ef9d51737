from __future__ import annotations

import multiprocessing
from functools import partial

import pytest

from napari_flowmag.train.prepare.parallel import Died, work_through

# What is given to the processes must be importable there, which test modules are not.
CALCULATE = partial(partial, eval)


def test_a_process_that_dies_costs_its_item_alone() -> None:
    items = ["1 + 1", "__import__('os')._exit(3)", "2 + 2", "3 + 3"]
    found = dict(work_through(CALCULATE, items, 2))
    assert found == {items[0]: 2, items[1]: Died(3), items[2]: 4, items[3]: 6}
    assert multiprocessing.active_children() == []


def test_what_a_process_raises_is_raised_here_and_ends_the_others() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(work_through(CALCULATE, ["1 / 0", "__import__('threading').Event().wait()"], 2))
    assert "Traceback" in "".join(caught.value.__notes__)
    assert multiprocessing.active_children() == []


def test_without_processes_the_work_is_done_here() -> None:
    assert list(work_through(CALCULATE, ["1 + 1", "5"], 0)) == [("1 + 1", 2), ("5", 5)]
    assert list(work_through(CALCULATE, [], 3)) == []
