"""Cut-outs and backgrounds from the user's folders."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_flowmag.errors import FlowmagError
from napari_flowmag.evaluate.sets import case_sets
from napari_flowmag.evaluate.sets.masked import MaskedFolder
from napari_flowmag.evaluate.sets.pictures import PictureFolder, background

BOX = (slice(10, 60), slice(30, 90))  # where the object of every layout lies
COLOUR = (200, 40, 90)


@pytest.fixture
def picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 60, (100, 120, 3), dtype=np.uint8)
    noise[BOX] += np.array(COLOUR, dtype=np.uint8)
    return noise


@pytest.fixture
def transparent(tmp_path: Path, picture: np.ndarray) -> Path:
    cover = np.zeros(picture.shape[:2], dtype=np.uint8)
    cover[BOX] = 255
    (tmp_path / "deeper").mkdir()
    Image.fromarray(np.dstack([picture, cover])).save(tmp_path / "deeper" / "a.png")
    Image.fromarray(picture).save(tmp_path / "opaque.png")
    return tmp_path


@pytest.fixture
def voc(tmp_path: Path, picture: np.ndarray) -> Path:
    labels = np.zeros(picture.shape[:2], dtype=np.uint8)
    labels[9:61, 29:91] = 255  # the border that nobody decided on
    labels[BOX] = 3
    labels[70:75, 3:9] = 4  # too small
    for name in ("JPEGImages", "SegmentationObject"):
        (tmp_path / name).mkdir()
    Image.fromarray(picture).save(tmp_path / "JPEGImages" / "a.jpg", quality=100, subsampling=0)
    mask = Image.fromarray(labels, mode="P")
    mask.putpalette(list(np.random.default_rng(1).integers(0, 255, 768)))
    mask.save(tmp_path / "SegmentationObject" / "a.png")
    return tmp_path


@pytest.fixture
def coco(tmp_path: Path, picture: np.ndarray) -> Path:
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    Image.fromarray(picture).save(tmp_path / "val2017" / "a.png")
    rectangle = [30, 10, 89, 10, 89, 59, 30, 59]
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "elsewhere.jpg"}],
        "annotations": [
            {"image_id": 7, "segmentation": [rectangle], "iscrowd": 0},
            {"image_id": 7, "segmentation": {"counts": [1, 2], "size": [100, 120]}, "iscrowd": 1},
            {"image_id": 8, "segmentation": [rectangle], "iscrowd": 0},
        ],
    }
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("layout", ["transparent", "voc", "coco"])
def test_objects_are_found_in_every_layout(
    layout: str, picture: np.ndarray, request: pytest.FixtureRequest
) -> None:
    folder = MaskedFolder.open(request.getfixturevalue(layout))
    found, mask = folder.draw(np.random.default_rng(0))
    assert mask.shape == (50, 60)
    assert (mask == 1).all()
    np.testing.assert_allclose(255 * found, picture[BOX], atol=8)  # JPEG loses a little


@pytest.mark.parametrize("layout", ["transparent", "voc", "coco"])
def test_sets_are_made_of_the_users_pictures(
    layout: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    behind = tmp_path_factory.mktemp("behind")
    Image.new("RGB", (300, 90), (0, 0, 255)).save(behind / "sky.jpg")
    folders = {"objects": request.getfixturevalue(layout), "backgrounds": behind}
    (made,) = case_sets(["subpixel"], quick=True, **folders)
    (built_in,) = case_sets(["subpixel"], quick=True)
    assert made.fingerprint != built_in.fingerprint
    sample = made.cases[0].make()
    elsewhere = pickle.loads(pickle.dumps(made.cases[0])).make()  # as other processes get it
    np.testing.assert_array_equal(elsewhere.frames, sample.frames)
    blue = sample.truth[0][sample.still].mean(axis=0)
    np.testing.assert_allclose(blue, (0, 0, 255), atol=3)
    # The object keeps its size, 50 × 60 px: it is smaller than asked for.
    red = sample.truth[0][..., 0] > 128
    count = round(red.sum() / 3000)
    assert 1 <= count <= 3
    assert red.sum() == pytest.approx(3000 * count, rel=0.04)
    assert (red & sample.moving).sum() > 0.97 * red.sum()


@pytest.mark.parametrize(
    ("layout", "picture_file"),
    [("transparent", "opaque.png"), ("voc", "JPEGImages/a.jpg"), ("coco", "val2017/a.png")],
)
def test_a_fingerprint_is_that_of_the_folders_files(
    layout: str, picture_file: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue(layout)
    first = MaskedFolder.open(root).identity
    Image.new("RGB", (120, 100)).save(root / picture_file)
    assert MaskedFolder.open(root).identity != first


def test_backgrounds_are_parts_of_larger_pictures(tmp_path: Path) -> None:
    y, x = np.mgrid[:200, :300]
    ramp = np.stack([x / 2, y, 0 * x], axis=-1).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    drawn = background(PictureFolder.open(tmp_path), (100, 100), np.random.default_rng(0))
    assert drawn.shape == (3, 100, 100)
    across, down = (255 * np.diff(drawn[c], axis=1 - c).mean() for c in (0, 1))
    assert across == pytest.approx(down / 2, rel=0.02)
    assert 1 <= down <= 2.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "no such folder"),
        (lambda root: root, "no PNG or JPEG pictures"),
    ],
)
def test_folders_without_pictures_are_named(make, message: str, tmp_path: Path) -> None:
    for kind in ("objects", "backgrounds"):
        with pytest.raises(FlowmagError, match=message):
            case_sets(["noise"], quick=True, **{kind: make(tmp_path)})


def test_pictures_without_masks_are_named(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    with pytest.raises(FlowmagError, match="neither PNG pictures with transparency"):
        MaskedFolder.open(tmp_path)
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.raises(FlowmagError, match="no object of 32×32 px"):
        MaskedFolder.open(tmp_path).draw(np.random.default_rng(0))
    (tmp_path / "b.png").write_bytes(b"\x89PNG damaged")
    (tmp_path / "a.png").unlink()
    with pytest.raises(FlowmagError, match="damaged"):
        MaskedFolder.open(tmp_path).draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"images": [], "annotations": [{"id": 1}]}',
        '{"images": [{"id": 1, "file_name": "a.png"}],'
        ' "annotations": [{"image_id": 1, "segmentation": [["a", 1, 2, 3, 4, 5]]}]}',
    ],
)
def test_json_that_is_not_cocos_is_named(content: str, tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(FlowmagError, match=r"not COCO's format|no object with an outline"):
        MaskedFolder.open(tmp_path)


def test_a_mask_of_another_size_is_named(voc: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture[:50]).save(voc / "JPEGImages" / "a.jpg")
    with pytest.raises(FlowmagError, match="size of its picture"):
        MaskedFolder.open(voc).draw(np.random.default_rng(0))
