from __future__ import annotations

import os
import time

from napari_flowmag.atomic import discard_parts, write_atomically


def test_what_was_forgotten_long_ago_goes(tmp_path):
    long_ago = time.time() - 7 * 24 * 3600
    for name in (".clip.tif.1.part", ".other.tif.1.part"):
        (tmp_path / name).write_bytes(b"left by a writer that was killed")
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / ".clip.tif.2.part").write_bytes(b"being written by another")
    folder = tmp_path / ".clip.tif.3.part"
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "chunk").write_bytes(b"written just now")
    for path in (folder, folder / "0"):
        os.utime(path, (long_ago, long_ago))
    write_atomically(tmp_path / "clip.tif", b"new")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"clip.tif", ".clip.tif.2.part", ".clip.tif.3.part", ".other.tif.1.part"}


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    real, link = tmp_path / "disk" / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    (tmp_path / "disk" / ".real.1.part").write_bytes(b"left by a writer that was killed")
    discard_parts(link)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "link", "real"]
