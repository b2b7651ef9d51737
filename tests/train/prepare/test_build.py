"""Sets as a whole: what is in the folder at the end, however it came about."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_flowmag.errors import Cancelled, FlowmagError
from napari_flowmag.train.data import open_pairs, read_picture
from napari_flowmag.train.prepare import build, measure
from napari_flowmag.train.prepare.measure import Job
from napari_flowmag.train.prepare.parallel import Died
from napari_flowmag.train.prepare.results import ClipResult

Moving = Callable[..., np.ndarray]
Write = Callable[[Path, np.ndarray], Path]
Select = Callable[..., list[str]]
Tree = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def clips(tmp_path: Path, moving: Moving, write: Write) -> Path:
    """Three clips, one of them deep, one cut; a copy of one; a damaged one."""
    root = tmp_path / "clips"
    write(root / "a.tif", moving(7, 1))
    write(root / "b.tif", np.concatenate([moving(6, 2), moving(6, 3)]))
    write(root / "deeper" / "a.tif", moving(4, 4, dtype=np.uint16))
    (root / "damaged.tif").write_bytes((root / "b.tif").read_bytes()[:9000])
    write(root / "deeper" / "copy.tif", moving(7, 1))
    return root


def statistics(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "statistics.json").read_text())
    return found


def test_clips_become_pairs_in_the_authors_layout(
    clips: Path, tmp_path: Path, select: Select, moving: Moving
) -> None:
    select(clips, tmp_path / "out")
    pairs = open_pairs(tmp_path / "out", 32)
    (name,) = (n for n in pairs.names if n.startswith("a_") and n.endswith("_p0_t000001_s5.png"))
    found = pairs.read(pairs.names.index(name)).numpy()
    np.testing.assert_array_equal(found[:, 0], moving(7, 1)[[1, 6]])
    deep = [n for n in pairs.names if n.endswith(".tif")]
    assert len(deep) == 3
    picture = read_picture(tmp_path / "out" / "train" / "frameA" / deep[0])
    assert picture.dtype == np.uint16
    assert len(np.unique(picture)) > 256, "16-bit pictures stay as fine as they were"
    for side in ("frameA", "frameB"):
        there = {path.name for path in (tmp_path / "out" / "train" / side).iterdir()}
        assert there == set(pairs.names)


def test_twice_the_same_by_any_number_of_processes(
    clips: Path, tmp_path: Path, select: Select, tree: Tree
) -> None:
    select(clips, tmp_path / "one")
    select(clips, tmp_path / "other", workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "other")


def test_a_damaged_clip_is_named_and_passed_over(
    clips: Path, tmp_path: Path, select: Select
) -> None:
    lines = select(clips, tmp_path / "out")
    (line,) = (line for line in lines if "passed over: " in line)
    assert line.startswith("[3/5] passed over: clips/damaged.tif is cut off")
    (row,) = (c for c in statistics(tmp_path / "out")["clips"] if "error" in c)
    assert row["clip"] == "clips/damaged.tif"
    assert "clips/damaged.tif is cut off" in (tmp_path / "out" / "index.html").read_text()
    assert str(tmp_path) not in (tmp_path / "out" / "statistics.json").read_text()


def test_kept_are_just_the_pairs_inside_the_bounds(
    tmp_path: Path, moving: Moving, write: Write, select: Select
) -> None:
    for i, px in enumerate((0.05, 0.3, 1.5)):
        write(tmp_path / "clips" / f"{i}.tif", moving(9, i, px))
    bounds = {"max_p999": 6.0, "max_p80": 2.0, "max_p001": 0.5, "min_mse": 10.0}
    select(tmp_path / "clips", tmp_path / "out", **bounds)
    rows = statistics(tmp_path / "out")["pairs"]
    assert len(rows) == 3 * (8 + 4)
    for row in rows:
        inside = {name: row[name[4:]] <= bounds[name] for name in bounds if name != "min_mse"}
        inside["min_mse"] = row["mse"] > 10
        assert row["kept"] is all(inside.values())
        for name, holds in inside.items():
            assert holds or f"{name[4:]} " in row["reason"]
    assert {row["kept"] for row in rows} == {True, False}
    names = json.loads((tmp_path / "out" / "train_fn.json").read_text())
    assert names == [row["file"] for row in rows if row["kept"]]


def test_no_pair_straddles_a_cut_and_scenes_are_balanced(
    clips: Path, tmp_path: Path, select: Select
) -> None:
    select(clips, tmp_path / "out", pairs_per_scene=2)
    found = statistics(tmp_path / "out")
    (clip,) = (c for c in found["clips"] if c["clip"] == "clips/b.tif")
    assert clip["scenes"] == [0, 6]
    rows = [row for row in found["pairs"] if row["clip"] == "clips/b.tif"]
    assert len(rows) == 2 * (5 + 1)
    assert all((row["frames"][0] < 6) == (row["frames"][1] < 6) for row in rows)
    assert [row["scene"] for row in rows if row["kept"]] == [0, 0, 1, 1]
    assert {row["stride"] for row in rows if row["kept"]} == {1, 5}
    assert all("pairs_per_scene" in row["reason"] for row in rows if not row["kept"])


def test_copies_are_found_across_files_and_repeats_within_one(
    clips: Path, tmp_path: Path, moving: Moving, write: Write, select: Select
) -> None:
    write(clips / "slow.tif", np.repeat(moving(5, 6), 2, 0))
    select(clips, tmp_path / "out", strides=(1, 2))
    rows = statistics(tmp_path / "out")["pairs"]
    copied = [row for row in rows if row["clip"] == "clips/deeper/copy.tif"]
    first = [row for row in rows if row["clip"] == "clips/a.tif"]
    assert len(copied) == 11
    assert [r["reason"] for r in copied] == [f"duplicate of {row['file']}" for row in first]
    slow = [row for row in rows if row["clip"] == "clips/slow.tif"]
    unchanged = [row for row in slow if row["reason"] and "mse" in row["reason"]]
    assert [row["frames"] for row in unchanged] == [[t, t + 1] for t in range(0, 9, 2)]
    assert sum(row["kept"] for row in slow) == 4
    assert sum("duplicate" in str(row["reason"]) for row in slow) == 8


def test_the_test_split_has_other_scenes(
    clips: Path, tmp_path: Path, select: Select, tree: Tree, moving: Moving, write: Write
) -> None:
    out = tmp_path / "out"
    for seed in range(10, 14):
        write(clips / f"{seed}.tif", moving(6, seed))
    # The same scene as a.tif at another time, so that no pair is a copy.
    write(clips / "later.tif", moving(12, 1, px=0.3)[7:])
    lines = select(clips, out, test=0.3)
    assert not any("done before" in line for line in lines)
    sides = {
        split: {n.rpartition("_p0")[0] for n in open_pairs(out, 32, split).names}
        for split in ("train", "test")
    }
    assert not sides["train"] & sides["test"]
    scene = [name for names in sides.values() for name in names if name[:2] in ("a_", "la")]
    assert len(scene) == 3
    assert len(sides["train"]) > len(sides["test"]) > 0
    rows = statistics(out)["pairs"]
    share = np.mean([row["split"] == "test" for row in rows if row["kept"]])
    assert 0.15 < share < 0.45
    # Another share takes no measuring.
    assert select(clips, out)[-1] == "[1/1] " + next(x for x in lines if "passed over" in x)[7:]
    select(clips, tmp_path / "anew")
    assert tree(out) == tree(tmp_path / "anew")


def test_one_scene_cannot_be_split(tmp_path: Path, moving: Moving, write: Write, select: Select):
    write(tmp_path / "clip.tif", moving(6))
    with pytest.raises(FlowmagError, match="all pairs show one scene"):
        select(tmp_path / "clip.tif", tmp_path / "out", test=0.5)


def interrupt(monkeypatch: pytest.MonkeyPatch, clip: str, name: str, calls: int) -> list[str]:
    """Raise KeyboardInterrupt at a call of a function of `measure` in a clip; list what is done."""
    done: list[str] = []
    do, function = measure._do, getattr(measure, name)
    count = 0

    def noted(job: Job, *arguments: Any) -> ClipResult:
        done.append(job.source.path.name)
        return do(job, *arguments)

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        count += done[-1] == clip
        if count == calls:
            raise KeyboardInterrupt
        return function(*arguments)

    monkeypatch.setattr(measure, "_do", noted)
    monkeypatch.setattr(measure, name, interrupted)
    return done


@pytest.mark.parametrize(
    ("name", "calls"), [("measure_pair", 3), ("_write_pictures", 3), ("write_result", 1)]
)
def test_a_stopped_run_goes_on_to_the_same_end(
    clips: Path,
    tmp_path: Path,
    select: Select,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    calls: int,
) -> None:
    select(clips, tmp_path / "whole")
    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        done = interrupt(patch, "b.tif", name, calls)
        with pytest.raises(Cancelled, match="the same command goes on"):
            select(clips, out)
        assert done == ["a.tif", "b.tif"]
    assert not (out / "train_fn.json").exists()
    # A killed process also leaves the file that it was writing.
    (out / "train" / "frameA" / f".b_x.png.{12345}.part").write_bytes(b"half")
    with monkeypatch.context() as patch:
        done = interrupt(patch, "", name, -1)
        lines = select(clips, out)
    assert lines[0] == "1 of 5 clips were done before"
    assert done == ["b.tif", "damaged.tif", "a.tif", "copy.tif"]
    assert tree(out) == tree(tmp_path / "whole")


def test_shards_make_the_same_set(clips: Path, tmp_path: Path, select: Select, tree: Tree) -> None:
    select(clips, tmp_path / "whole")
    shared, other = tmp_path / "shared", tmp_path / "other"
    lines = select(clips, shared, shard="2/2")
    assert "other shards have clips to do" in lines[-1]
    assert not (shared / "statistics.json").exists()
    assert not (shared / "train_fn.json").exists()
    # On another machine, with another folder, that is copied afterwards.
    select(clips, other, shard="1/2")
    shutil.copytree(shared, other, dirs_exist_ok=True)
    select(clips, shared, shard="1/2")
    assert tree(shared) == tree(tmp_path / "whole")
    select(clips, other)
    assert tree(other) == tree(tmp_path / "whole")


def test_other_settings_and_other_clips_make_another_set(
    clips: Path, tmp_path: Path, moving: Moving, write: Write, select: Select, tree: Tree
) -> None:
    out = tmp_path / "out"
    select(clips, out, strides=(1, 2))
    (clips / "damaged.tif").unlink()
    (clips / "a.tif").rename(tmp_path / "a.tif")
    write(clips / "b.tif", moving(5, 8))
    select(clips, out, strides=(1, 3))
    select(clips, tmp_path / "anew", strides=(1, 3))
    # What is set aside is of the clip that is gone, and comes back with it.
    aside = {name for name in tree(out) if name.startswith(("set_aside/", "clips/"))}
    assert {n: c for n, c in tree(out).items() if n not in aside} == {
        n: c for n, c in tree(tmp_path / "anew").items() if not n.startswith("clips/")
    }
    (tmp_path / "a.tif").rename(clips / "a.tif")
    lines = select(clips, out, strides=(1, 2))
    assert lines[0] == "1 of 4 clips were done before"
    select(clips, tmp_path / "again", strides=(1, 2))
    found, anew = tree(out), tree(tmp_path / "again")
    assert {n: c for n, c in found.items() if "damaged" not in n} == anew


def test_the_list_comes_last_and_needs_its_pictures(
    clips: Path, tmp_path: Path, select: Select
) -> None:
    select(clips, tmp_path / "out")
    names = json.loads((tmp_path / "out" / "train_fn.json").read_text())
    (tmp_path / "out" / "train" / "frameB" / names[0]).unlink()
    with pytest.raises(FlowmagError, match=rf"missing, such as {names[0]}; delete .*\.jsonl"):
        select(clips, tmp_path / "out")
    assert not (tmp_path / "out" / "train_fn.json").exists()


def test_a_set_from_elsewhere_is_left_alone(clips: Path, tmp_path: Path, select: Select) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "train_fn.json").write_text('["0.png"]')
    with pytest.raises(FlowmagError, match=r"theirs: holds frame pairs that .* did not make"):
        select(clips, tmp_path / "theirs")
    assert (tmp_path / "theirs" / "train_fn.json").read_text() == '["0.png"]'


def test_each_plane_and_channel_gives_pairs(tmp_path: Path, moving: Moving, select: Select) -> None:
    frames = np.stack(
        [np.stack([moving(3, 2 * z + c) for c in range(2)], 1) for z in range(2)], 1
    )  # T, Z, C, Y, X
    tifffile.imwrite(tmp_path / "zc.tif", frames, imagej=True, metadata={"axes": "TZCYX"})
    lines = select(tmp_path / "zc.tif", tmp_path / "out", strides=(2,))
    assert lines == ["[1/1] zc.tif: 4 fit pairs of 4"]


def test_colour_and_pictures_in_a_folder(tmp_path: Path, moving: Moving, select: Select) -> None:
    frames = np.stack([moving(4), moving(4, 1), moving(4, 2)], -1)
    for i, frame in enumerate(frames):
        (tmp_path / "clip").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "clip" / f"{i}.tif", frame, photometric="rgb")
    assert select(tmp_path / "clip", tmp_path / "out", strides=(3,)) == [
        "[1/1] clip: 1 fit pairs of 1"
    ]
    found = open_pairs(tmp_path / "out", 32).read(0).numpy()
    np.testing.assert_array_equal(np.moveaxis(found, 1, -1), frames[[0, 3]])


def test_at_most_so_many_pairs_are_looked_at(
    tmp_path: Path, moving: Moving, write: Write, select: Select
) -> None:
    write(tmp_path / "clip.tif", moving(30))
    select(tmp_path / "clip.tif", tmp_path / "out", pairs_per_clip=6)
    assert len(statistics(tmp_path / "out")["pairs"]) == 6


def test_without_a_fit_pair_there_is_no_list_but_the_reasons(
    tmp_path: Path, moving: Moving, write: Write, select: Select
) -> None:
    write(tmp_path / "still.tif", np.repeat(moving(1), 4, 0))
    with pytest.raises(FlowmagError, match=r"no frame pair is fit .*index\.html"):
        select(tmp_path / "still.tif", tmp_path / "out")
    assert not (tmp_path / "out" / "train_fn.json").exists()
    assert "mse 0 ≤ 1" in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_a_clip_that_kills_its_process_is_passed_over(
    clips: Path, tmp_path: Path, select: Select, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(start: Any, jobs: list[Job], workers: int) -> Any:
        do = start()
        return ((j, Died(-9) if j.source.path.name == "b.tif" else do(j)) for j in jobs)

    monkeypatch.setattr(build, "work_through", work)
    lines = select(clips, tmp_path / "out")
    assert lines[1].startswith("[2/5] passed over: clips/b.tif: the process that read it died")
    assert sum("error" in clip for clip in statistics(tmp_path / "out")["clips"]) == 2
    monkeypatch.undo()
    assert "[1/2] clips/b.tif: 12 fit pairs of 12 in 2 scenes" in select(clips, tmp_path / "out")


def test_clips_without_two_frames(
    tmp_path: Path, moving: Moving, write: Write, select: Select
) -> None:
    write(tmp_path / "clips" / "short.tif", moving(2))
    write(tmp_path / "clips" / "single.tif", moving(1))
    with pytest.raises(FlowmagError, match="no clip has two frames of a scene"):
        select(tmp_path / "clips", tmp_path / "out", strides=(2,))
    lines = select(tmp_path / "clips", tmp_path / "out", strides=(1,))
    assert lines[-1] == "[2/2] clips/single.tif: no two frames at one of the strides (1 in all)"


def test_only_damaged_clips(tmp_path: Path, select: Select) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.tif"):
        (tmp_path / "clips" / name).write_text("nothing to see")
    with pytest.raises(FlowmagError, match=r"not one of 2 clips can be read; .*clips/a\.mp4 is"):
        select(tmp_path / "clips", tmp_path / "out")
    assert len(statistics(tmp_path / "out")["clips"]) == 2


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_shard_is_one_of_some(tmp_path: Path, select: Select, shard: str) -> None:
    with pytest.raises(FlowmagError, match=f"setting shard = {shard}: give i/n"):
        select(tmp_path, tmp_path / "out", shard=shard)
