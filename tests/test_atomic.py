from __future__ import annotations

from napari_flowmag.atomic import discard_parts, write_atomically


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
