"""Room for a result that is too large for memory."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from napari_flowmag import _run
from napari_flowmag.errors import FlowmagError

SHAPE = (20, 100, 100)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(_run, "_free_memory", lambda: 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_the_file_has_all_of_its_bytes_before_the_first_frame(folder):
    room = _run._room(SHAPE, np.dtype("uint16"))
    (path,) = folder.iterdir()
    assert path.stat().st_size == room.nbytes
    if hasattr(os, "posix_fallocate"):
        assert path.stat().st_blocks * 512 >= room.nbytes
    room[-1] = 7
    assert np.fromfile(path, "uint16")[-1] == 7
    del room
    gc.collect()
    assert not list(folder.iterdir())


def test_a_disk_without_room_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(FlowmagError, match=f"in {folder}: .* TMPDIR"):
        _run._room(SHAPE, np.dtype("uint16"))
    assert not list(folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system has no such call")
@pytest.mark.parametrize(("number", "refused"), [(errno.EDQUOT, True), (errno.EOPNOTSUPP, False)])
def test_a_full_quota_is_an_error_and_a_folder_that_cannot_reserve_is_none(
    folder, monkeypatch, number, refused
):
    def fail(*args):
        raise OSError(number, "no")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    if refused:
        with pytest.raises(FlowmagError, match="TMPDIR"):
            _run._room(SHAPE, np.dtype("uint16"))
        assert not list(folder.iterdir())
    else:
        assert _run._room(SHAPE, np.dtype("uint16")).shape == SHAPE
