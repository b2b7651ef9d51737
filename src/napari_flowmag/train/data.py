"""Frame pairs on disk, and batches of them.

The layout is that of the paper's authors: ``ROOT/train/frameA/NAME``, ``ROOT/train/frameB/NAME``
and ``train_fn.json``, a list of NAMEs, in ``ROOT`` or ``ROOT/train``.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from napari_flowmag.errors import FlowmagError
from napari_flowmag.io.images import decode
from napari_flowmag.train.augment import add_noise, augment
from napari_flowmag.train.config import AugmentConfig
from napari_flowmag.train.feed import share

CHECKED = 1000
"""Pairs that are read before training begins; of larger sets, evenly spread ones."""


@dataclass(frozen=True)
class PairFolder:
    """Frame pairs in the authors' layout.

    Attributes
    ----------
    root : Path
        Folder of the split: it holds ``frameA`` and ``frameB``.
    names : tuple of str
        File names of the pairs, the same in both folders.
    """

    root: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Sequence[int]) -> PairFolder:
        """Keep the pairs with these indices."""
        return PairFolder(self.root, tuple(self.names[i] for i in indices))

    def read(self, index: int) -> Tensor:
        """Read a pair as (2, 3, H, W): uint8, or from other types floats in [0, 1].

        There, 0 and 1 are the smallest and the largest value in the two pictures.

        Raises
        ------
        FlowmagError
            If a picture is missing or damaged, or the two differ in size.
        """
        paths = [self.root / side / self.names[index] for side in ("frameA", "frameB")]
        first, second = (read_picture(path) for path in paths)
        if first.shape != second.shape or first.dtype != second.dtype:
            raise FlowmagError(
                f"{paths[1]}: {_describe(second)}, but its frameA is {_describe(first)}"
            )
        pair = np.stack([first, second])
        if pair.dtype != np.uint8:
            low, high = float(pair.min()), float(pair.max())
            if not np.isfinite(high - low):
                raise FlowmagError(f"{paths[0]}: values that are not finite, here or in frameB")
            pair = ((pair - low) / max(high - low, 1e-12)).astype(np.float32)
        return torch.from_numpy(pair).movedim(-1, 1).expand(-1, 3, -1, -1)


def _describe(picture: NDArray[Any]) -> str:
    return f"{picture.shape[1]}×{picture.shape[0]} px, {picture.shape[2]} channels, {picture.dtype}"


def read_picture(path: Path) -> NDArray[Any]:
    """Read a picture as (H, W, 1) or (H, W, 3), in its own data type.

    Raises
    ------
    FlowmagError
        If it is missing, damaged, or neither grey nor RGB.
    """
    if not path.is_file():
        raise FlowmagError(f"{path}: no such picture")
    is_tiff = path.suffix.lower() in {".tif", ".tiff"}
    try:
        picture = np.asarray(tifffile.imread(path)) if is_tiff else decode(path)
    except Exception as error:  # decoders raise whatever they like
        raise FlowmagError(f"{path}: damaged, or not a picture") from error
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4):
        raise FlowmagError(f"{path}: neither grey nor RGB (shape {picture.shape})")
    return picture[..., :3]  # without transparency


def is_pair_folder(root: Path) -> bool:
    """Tell whether a folder is in the authors' layout, complete or not."""
    return (root / "train" / "frameA").is_dir() or _listing(root, "train") is not None


def _listing(root: Path, split: str) -> Path | None:
    places = (root / f"{split}_fn.json", root / split / f"{split}_fn.json")
    return next((path for path in places if path.is_file()), None)


def open_pairs(
    root: Path, crop: int, split: str = "train", *, checked: int = CHECKED
) -> PairFolder:
    """Open pairs in the authors' layout, and check that they can be trained on.

    Parameters
    ----------
    root
        Folder that holds the split's folder.
    crop
        Shortest side that pictures must have, in px.
    split
        ``train`` or ``test``.
    checked
        How many pairs are read for that at most: evenly spread ones, see `spread`.

    Raises
    ------
    FlowmagError
        If the list of names is missing or empty, or a picture is missing, damaged, smaller than
        the crop or of another size than its partner; it names the file.
    """
    listing = _listing(root, split)
    if listing is None:
        raise FlowmagError(f"{root}: the list of pairs, {split}_fn.json, is missing")
    try:
        names = json.loads(listing.read_text())
    except ValueError as error:
        raise FlowmagError(f"{listing}: not JSON") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FlowmagError(f"{listing}: must be a list of file names")
    if not names:
        raise FlowmagError(f"{listing}: lists no pairs")
    names = list(dict.fromkeys(names))  # a pair named twice could be both held out and learnt from
    pairs = PairFolder(root / split, tuple(names))
    for side in ("frameA", "frameB"):
        folder = pairs.root / side
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if missing := sorted(set(names) - there):
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise FlowmagError(f"{folder / missing[0]}: no such picture{more}")
    for index in spread(len(pairs), checked):
        height, width = pairs.read(index).shape[-2:]
        if min(height, width) < crop:
            raise FlowmagError(
                f"{pairs.root / 'frameA' / names[index]}: {width}×{height} px is too small for a "
                f"crop of {crop} px; lower the crop"
            )
    return pairs


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` indices, evenly spread over ``range(count)``."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, most))})


def hold_out(pairs: PairFolder, count: int) -> tuple[PairFolder, PairFolder]:
    """Split pairs into those to train on and at most `count`, evenly spread, to validate on.

    Raises
    ------
    FlowmagError
        If none would be left to train on.
    """
    held = set(spread(len(pairs), count)) if count else set()
    if len(held) == len(pairs):
        raise FlowmagError(
            f"{pairs.root}: has {len(pairs)} pairs, held_out = {count} leaves none to train on"
        )
    rest = [i for i in range(len(pairs)) if i not in held]
    return pairs.subset(rest), pairs.subset(sorted(held))


class PairBatches(Dataset[dict[str, Tensor]]):
    """Endless augmented batches, each pair once an epoch; batch `i` is a function of (seed, i).

    A batch holds ``reference`` and ``frame`` (B, 3, crop, crop) in [0, 1], ``draw`` (B,) in
    [0, 1), from which α follows, and, with noise, ``noisy_reference`` and ``noisy_frame``.

    Parameters
    ----------
    pairs
        What to draw from.
    batch
        B.
    config
        How pairs are varied.
    seed
        Seed of order and variation.
    """

    def __init__(self, pairs: PairFolder, batch: int, config: AugmentConfig, seed: int) -> None:
        self.pairs, self.batch, self.config, self.seed = pairs, batch, config, seed
        self.places = range(batch)

    def part(self, rank: int, ranks: int) -> Self:
        """Return the share of every batch that is a rank's; nothing else of it is read."""
        part = copy.copy(self)
        part.places = share(self.batch, rank, ranks)
        return part

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.rows([index * self.batch + i for i in self.places])

    def rows(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Return the pairs at these positions in the endless sequence as one batch."""
        items = [self.item(position) for position in positions]
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def item(self, position: int) -> dict[str, Tensor]:
        """Draw the pair at a position in the endless sequence."""
        rng = np.random.default_rng([self.seed, position])
        epoch, place = divmod(position, len(self.pairs))
        clean = self.pairs.read(int(_order(self.seed, epoch, len(self.pairs))[place]))
        clean = augment(clean, self.config, rng)
        item = {
            "reference": clean[0],
            "frame": clean[1],
            "draw": torch.tensor(rng.random(), dtype=torch.float32),
        }
        if self.config.noise:
            noisy = add_noise(clean, self.config.noise, rng)
            item |= {"noisy_reference": noisy[0], "noisy_frame": noisy[1]}
        return item


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, count]).permutation(count)
