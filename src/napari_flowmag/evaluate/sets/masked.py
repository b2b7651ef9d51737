"""Folders of pictures with masks of the objects in them, as users have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.sets.pictures import FloatArray, picture_paths, read_rgb, read_rgba
from napari_flowmag.evaluate.sets.request import listing

_SMALLEST = 32  # px: shorter side of an object that is worth moving
_TRIES = 200
_VOID = 255  # VOC's label of outlines that nobody decided on

Masked = tuple[FloatArray, NDArray[Any]]
"""A picture (H, W, 3) in [0, 1] and a mask (H, W) of one object, from 0 to 1."""

Polygons = list[list[float]]


@dataclass(frozen=True)
class MaskedFolder:
    """Objects in one of the layouts that `open` knows.

    Attributes
    ----------
    root
        The folder.
    items
        What `read` takes: one for a picture or for an object.
    read
        Returns one object of an item; None where it holds none.
    files
        The files that decide what is drawn.
    """

    root: Path
    items: tuple[Any, ...]
    read: Callable[[Any, np.random.Generator], Masked | None]
    files: tuple[Path, ...]

    @classmethod
    def open(cls, root: Path) -> MaskedFolder:
        """Find out the layout of a folder and list what it holds.

        Pascal VOC has ``JPEGImages`` and ``SegmentationObject``; COCO has a JSON file of
        instances, here or in ``annotations``, and pictures anywhere below; everything else is
        taken as PNG pictures whose transparency is the mask.

        Raises
        ------
        FlowmagError
            If there is no such folder, or no object in it.
        """
        if (root / "SegmentationObject").is_dir():
            return _open_voc(root)
        instances = sorted([*root.glob("*.json"), *root.glob("annotations/instances*.json")])
        return _open_coco(root, instances) if instances else _open_transparent(root)

    @property
    def identity(self) -> Any:
        """Names and sizes of the files."""
        return listing(self.files, self.root)

    def draw(self, rng: np.random.Generator) -> Masked:
        """Return one object and its surroundings cut away.

        Raises
        ------
        FlowmagError
            If a picture cannot be read, or many draws gave nothing of 32 px or more.
        """
        for _ in range(_TRIES):
            found = self.read(self.items[rng.integers(len(self.items))], rng)
            if found is None:
                continue
            picture, mask = found
            rows, columns = (np.flatnonzero((mask > 0.5).any(axis)) for axis in (1, 0))
            if min(len(rows), len(columns)) < _SMALLEST:
                continue
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            return picture[box], mask[box]
        raise FlowmagError(f"{self.root}: found no object of {_SMALLEST}×{_SMALLEST} px or more")


def _open_transparent(root: Path) -> MaskedFolder:
    paths = tuple(path for path in picture_paths(root) if path.suffix.lower() == ".png")
    if not paths:
        raise FlowmagError(
            f"{root}: neither PNG pictures with transparency, nor Pascal VOC, nor COCO"
        )

    return MaskedFolder(root, paths, _read_transparent, paths)


def _read_transparent(path: Path, rng: np.random.Generator) -> Masked | None:
    rgba = read_rgba(path)
    cover = rgba[..., 3]
    return None if cover.min() == 1 else (rgba[..., :3], cover)


def _open_voc(root: Path) -> MaskedFolder:
    masks = tuple(sorted((root / "SegmentationObject").glob("*.png")))
    if not masks:
        raise FlowmagError(f"{root / 'SegmentationObject'}: no PNG masks in this folder")

    pictures = (_voc_picture(path) for path in masks)
    used = (*masks, *(path for path in pictures if path.is_file()))
    return MaskedFolder(root, masks, _read_voc, used)


def _read_voc(path: Path, rng: np.random.Generator) -> Masked | None:
    labels = _read_labels(path)
    objects = [n for n in np.unique(labels) if n not in (0, _VOID)]
    if not objects:
        return None
    picture = read_rgb(_voc_picture(path))
    if picture.shape[:2] != labels.shape:
        raise FlowmagError(f"{path}: not of the size of its picture in JPEGImages")
    return picture, labels == objects[rng.integers(len(objects))]


def _voc_picture(mask: Path) -> Path:
    return mask.parents[1] / "JPEGImages" / f"{mask.stem}.jpg"


def _read_labels(path: Path) -> NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            labels = np.asarray(image)  # of a palette picture, the indices
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow's decoders raise
        raise FlowmagError(f"{path}: damaged, or not a PNG picture") from error
    if labels.ndim != 2:
        raise FlowmagError(f"{path}: not a picture of labels")
    return labels


def _open_coco(root: Path, instances: list[Path]) -> MaskedFolder:
    places = {path.name: path for path in picture_paths(root)}
    items = [item for path in instances for item in _coco_items(path, places)]
    if not items:
        raise FlowmagError(
            f"{instances[0]}: no object with an outline in any picture of the folder"
        )

    used = {item[0] for item in items}
    return MaskedFolder(root, tuple(items), _read_coco, (*instances, *used))


def _read_coco(item: tuple[Path, Polygons], rng: np.random.Generator) -> Masked | None:
    picture = read_rgb(item[0])
    return picture, _fill(item[1], picture.shape[:2])


def _coco_items(path: Path, places: dict[str, Path]) -> list[tuple[Path, Polygons]]:
    try:
        content = json.loads(path.read_text())
        names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
        return [
            (places[names[found["image_id"]]], _polygons(found["segmentation"]))
            for found in content["annotations"]
            # Crowds have no outline of one thing.
            if isinstance(found["segmentation"], list) and names[found["image_id"]] in places
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise FlowmagError(f"{path}: not COCO's format of instances") from error


def _polygons(segmentation: list[list[Any]]) -> Polygons:
    """Return the corners x, y, x, y, … of each polygon, of three or more."""
    return [[float(value) for value in polygon] for polygon in segmentation if len(polygon) >= 6]


def _fill(polygons: Polygons, shape: tuple[int, ...]) -> NDArray[Any]:
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon(polygon, fill=1)
    return np.asarray(canvas)
