"""What needs the results of all clips: duplicates among them, the split, lists, statistics."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from napari_flowmag.atomic import replacing
from napari_flowmag.errors import FlowmagError
from napari_flowmag.train.prepare.contact_sheet import write_contact_sheet
from napari_flowmag.train.prepare.duplicates import Signature, find_duplicates, group_by_scene
from napari_flowmag.train.prepare.layout import (
    FOLDER,
    SPLITS,
    place_pictures,
    remove_lists,
    write_list,
)
from napari_flowmag.train.prepare.results import ClipResult, PairResult, read_result

TRAIN, TEST, ASIDE = SPLITS


class NothingFitError(FlowmagError):
    """Not one pair in the clips is fit to learn from."""


@dataclass(frozen=True)
class Kept:
    """A pair that its clip keeps.

    Attributes
    ----------
    file : str
        Name of its pictures.
    clip : int
        Number of its clip.
    signature : Signature
        What it shows.
    """

    file: str
    clip: int
    signature: Signature


def merge(
    out: Path, paths: Sequence[Path], test: float, duplicate: float, facts: dict[str, Any]
) -> int:
    """Make the set of the results of all clips.

    Parameters
    ----------
    out
        Folder of the set.
    paths
        Result files, in the order of the clips. All must be there.
    test
        Share of the pairs to put into the test split.
    duplicate
        Tolerance of :func:`~napari_flowmag.train.prepare.duplicates.find_duplicates`.
    facts
        Settings and versions, for the statistics and the contact sheet.

    Returns
    -------
    int
        Number of pairs in the lists.

    Raises
    ------
    FlowmagError
        If no clip could be read, no pair is fit, or all show one scene, which cannot be split.
    """
    kept = list(_all_kept(paths))
    twins = find_duplicates([p.signature for p in kept], duplicate, [p.clip for p in kept])
    repeated = {
        pair.file: kept[twin].file
        for pair, twin in zip(kept, twins, strict=True)
        if twin is not None
    }
    tested = _tested_clips(kept, set(repeated), test)
    splits = {
        pair.file: ASIDE if pair.file in repeated else TEST if pair.clip in tested else TRAIN
        for pair in kept
    }
    remove_lists(out)
    _place(out, paths, splits)

    def final() -> Iterator[ClipResult]:
        return (_with_duplicates(_read(path), repeated) for path in paths)

    counts = _count(final(), splits)
    facts = facts | {"counts": counts}
    _write_statistics(out / "statistics.json", final(), splits, facts)
    write_contact_sheet(out / "index.html", final, splits, facts)
    _check(out, counts, final())
    if test and not tested:
        raise FlowmagError(
            f"setting test = {test:g}: all pairs show one scene, which cannot be on both sides; "
            "give clips of other scenes, or leave it out"
        )
    names = {split: [pair.file for pair in kept if splits[pair.file] == split] for split in SPLITS}
    for split in (TRAIN, TEST) if tested else (TRAIN,):
        write_list(out, split, names[split])
    return len(names[TRAIN]) + len(names[TEST])


def _all_kept(paths: Iterable[Path]) -> Iterator[Kept]:
    for number, path in enumerate(paths):
        for pair in _read(path).kept:
            assert pair.file is not None
            assert pair.signature is not None
            yield Kept(pair.file, number, pair.signature)


def _read(path: Path) -> ClipResult:
    result = read_result(path)
    if result is None:
        raise FlowmagError(f"{path}: missing or damaged; start the same command again")
    return result


def _tested_clips(kept: Sequence[Kept], repeated: set[str], test: float) -> set[int]:
    """Choose the clips of the test split, so that no scene is on both sides; none if there is one.

    The order in which scenes are taken is that of a hash of what they are called, which has
    nothing to do with what they show.
    """
    if not test or not kept:
        return set()
    groups = group_by_scene([p.clip for p in kept], [p.signature for p in kept])
    sizes: dict[int, int] = dict.fromkeys(groups.values(), 0)
    names: dict[int, str] = {}
    for pair in kept:
        group = groups[pair.clip]
        sizes[group] += pair.file not in repeated
        names.setdefault(group, pair.file)
    if len(sizes) < 2:
        return set()
    order = sorted(sizes, key=lambda group: hashlib.sha256(names[group].encode()).digest())
    chosen = {order[0]}
    wanted = test * sum(sizes.values())
    count = sizes[order[0]]
    for group in order[1:-1]:
        if abs(count + sizes[group] - wanted) < abs(count - wanted):
            chosen.add(group)
            count += sizes[group]
    return {clip for clip, group in groups.items() if group in chosen}


def _place(out: Path, paths: Sequence[Path], splits: dict[str, str]) -> None:
    """Move all pictures to where they belong, those of clips that are no source now too."""
    aside = {
        str(pair.file): ASIDE
        for path in sorted(set((out / FOLDER).glob("*.jsonl")) - set(paths))
        if (result := read_result(path))
        for pair in result.kept
    }
    if missing := set(place_pictures(out, aside | splits)) & set(splits):
        name = min(missing)
        clip = next(p for p in paths if name.startswith(p.stem))
        raise FlowmagError(
            f"{out}: pictures of {len(missing)} pairs are missing, such as {name}; delete {clip} "
            "and start the same command again"
        )


def _with_duplicates(result: ClipResult, repeated: dict[str, str]) -> ClipResult:
    return replace(
        result,
        pairs=tuple(
            replace(pair, reason=f"duplicate of {repeated[pair.file]}")
            if pair.file in repeated
            else pair
            for pair in result.pairs
        ),
    )


def _count(results: Iterable[ClipResult], splits: dict[str, str]) -> dict[str, int]:
    counts = dict.fromkeys(("clips", "unreadable", "scenes", "pairs", "kept"), 0)
    for result in results:
        counts["clips"] += 1
        counts["unreadable"] += result.error is not None
        counts["scenes"] += len(result.scenes)
        counts["pairs"] += len(result.pairs)
        counts["kept"] += len(result.kept)
    for split in (TRAIN, TEST):
        counts[split] = sum(place == split for place in splits.values())
    return counts


def _check(out: Path, counts: dict[str, int], results: Iterable[ClipResult]) -> None:
    if counts["unreadable"] == counts["clips"]:
        first = next(result.error for result in results)
        raise FlowmagError(f"not one of {counts['clips']} clips can be read; the first: {first}")
    if not counts["pairs"]:
        raise FlowmagError(
            "no clip has two frames of a scene at one of the distances strides; is time perhaps "
            "another axis in the files?"
        )
    if not counts["kept"]:
        raise NothingFitError(
            "no frame pair is fit to learn from; see the bounds max_p999, max_p80, max_p001 and "
            f"min_mse, and what the pairs have instead in {out / 'index.html'}"
        )


def _write_statistics(
    path: Path, results: Iterable[ClipResult], splits: dict[str, str], facts: dict[str, Any]
) -> None:
    """Write facts, clips and pairs as JSON, a line each, so that memory and diffs stay small."""
    clips: list[str] = []
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(facts)[:-1] + ', "pairs": [')
        separator = "\n"
        for result in results:
            clips.append(json.dumps(_clip_row(result)))
            for pair in result.pairs:
                file.write(separator + json.dumps(_pair_row(result.label, pair, splits)))
                separator = ",\n"
        file.write('\n], "clips": [\n' + ",\n".join(clips) + "\n]}\n")


def _clip_row(result: ClipResult) -> dict[str, Any]:
    row = {
        "clip": result.label,
        "frames": result.frames,
        "size": result.size,
        "scenes": result.scenes,
        "looked_at": len(result.pairs),
        "kept": len(result.kept),
    }
    return row if result.error is None else {"clip": result.label, "error": result.error}


def _pair_row(label: str, pair: PairResult, splits: dict[str, str]) -> dict[str, Any]:
    kept = pair.reason is None
    return {
        "clip": label,
        "scene": pair.scene,
        "plane": pair.plane,
        "frames": pair.frames,
        "stride": pair.stride,
        **asdict(pair.statistics),
        "kept": kept,
        "reason": pair.reason,
        "split": splits[str(pair.file)] if kept else None,
        "file": pair.file,
    }
