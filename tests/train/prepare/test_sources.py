from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.prepare.sources import Source, find_sources, fingerprint

Moving = Callable[..., np.ndarray]
Write = Callable[[Path, np.ndarray], Path]


def labels(*paths: Path, besides: Path | None = None) -> list[str]:
    return [source.label for source in find_sources(paths, besides)]


def test_clips_are_called_by_their_way_from_the_folder(
    tmp_path: Path, moving: Moving, write: Write
) -> None:
    root = tmp_path / "clips"
    for name in ("b.tif", "a.tif", "deeper/a.tif", "._a.tif", "out/train/frameA/x.tif"):
        write(root / name, moving(2))
    for i, frame in enumerate(moving(3)):
        write(root / "pictures" / f"{i}.tif", frame)
    (root / "notes.txt").write_text("no clip")
    (root / "deeper" / "around").symlink_to(root)
    found = ["clips/a.tif", "clips/b.tif", "clips/deeper/a.tif", "clips/pictures"]
    assert labels(root, besides=root / "out") == found
    assert labels(root, root / "a.tif", besides=root / "out") == found, "each clip once"
    assert labels(root / "b.tif") == ["b.tif"]


def test_two_folders_of_one_name(tmp_path: Path, moving: Moving, write: Write) -> None:
    for side in "ab":
        write(tmp_path / side / "clips" / "x.tif", moving(2))
    found = labels(tmp_path / "a" / "clips", tmp_path / "b" / "clips")
    assert found == ["clips/x.tif", "clips/x.tif (2)"]


@pytest.mark.parametrize("label", ["a b/c.mp4", "ü/…/файл.mov", "x" * 200 + ".avi", "<&>'.tif"])
def test_file_names_are_plain_and_unlike(label: str) -> None:
    name = Source(Path(label), label).name
    assert len(name) <= 49
    assert name.isascii()
    assert not set(name) & set(" /<>&'\"")
    assert name != Source(Path(label), "other/" + label).name


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(FlowmagError, match=r"holds neither frame pairs .* nor clips"):
        find_sources([tmp_path])
    with pytest.raises(FlowmagError, match="nowhere: no such file or folder"):
        find_sources([tmp_path / "nowhere"])


@pytest.mark.skipif(os.name == "nt", reason="pipes in folders")
def test_links_to_nothing_are_reported_later_and_pipes_left_alone(
    tmp_path: Path, moving: Moving, write: Write
) -> None:
    write(tmp_path / "clip.tif", moving(2))
    (tmp_path / "gone.tif").symlink_to(tmp_path / "nowhere.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    found = [path.rpartition("/")[2] for path in labels(tmp_path)]
    assert found == ["clip.tif", "gone.tif"]
    assert fingerprint(tmp_path / "gone.tif") == ""


def test_a_clip_is_known_again_by_its_content(tmp_path: Path, moving: Moving, write: Write) -> None:
    one = write(tmp_path / "a" / "clip.tif", moving(3))
    other = write(tmp_path / "b" / "clip.tif", moving(3))
    os.utime(other, (0, 0))
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one.parent) == fingerprint(other.parent)
    write(other, moving(3, seed=1))
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one.parent) != fingerprint(other.parent)


def test_long_files_are_sampled_from_end_to_end(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3_000_000)
    path = tmp_path / "long.mp4"
    seen = set()
    for change in (None, 0, 1_500_000, len(content) - 1):
        changed = bytearray(content)
        if change is not None:
            changed[change] ^= 1
        path.write_bytes(changed)
        seen.add(fingerprint(path))
    assert len(seen) >= 3
    assert fingerprint(path) not in (fingerprint(tmp_path), "")
