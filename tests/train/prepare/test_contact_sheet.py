from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

Moving = Callable[..., np.ndarray]
Write = Callable[[Path, np.ndarray], Path]
Select = Callable[..., list[str]]


def parsed(out: Path) -> ET.Element:
    return ET.fromstring((out / "index.html").read_text("utf-8"))


@pytest.mark.parametrize(
    "name", ['<b>&"quo\'te".tif', "naïve 日本.tif", "a\x07b\tc.tif", "\udcff.tif"]
)
def test_any_file_name_gives_a_well_formed_page(
    tmp_path: Path, moving: Moving, write: Write, select: Select, name: str
) -> None:
    try:
        write(tmp_path / "clips" / "clip.tif", moving(4)).rename(tmp_path / "clips" / name)
    except (OSError, UnicodeError):
        pytest.skip("no such file name here")
    select(tmp_path / "clips", tmp_path / "out")
    titles = [element.text or "" for element in parsed(tmp_path / "out").iter("h2")]
    expected = "clips/" + "".join("\ufffd" if c in "\x07\t\udcff" else c for c in name)
    assert expected in titles


def test_kept_and_rejected_pairs_are_shown_with_their_figures(
    tmp_path: Path, moving: Moving, write: Write, select: Select
) -> None:
    write(tmp_path / "clips" / "deep.tif", moving(12, dtype=np.uint16))
    write(tmp_path / "clips" / "still.tif", np.repeat(moving(1, 3), 12, 0))
    select(tmp_path / "clips", tmp_path / "out", strides=(1,))
    page = parsed(tmp_path / "out")
    figures = list(page.iter("figure"))
    assert [f.get("class") for f in figures] == ["kept"] * 6 + ["rejected"] * 6
    captions = ["".join(figure.itertext()) for figure in figures]
    assert "frames 0 and 1" in captions[0]
    assert "mse" in captions[0]
    assert captions[0].endswith(
        "train: " + (tmp_path / "out/train_fn.json").read_text().split('"')[1]
    )
    assert captions[-1].endswith("mse 0 ≤ 1")
    images = [picture(image) for image in figures[0].iter("img")]
    assert [image.size for image in images] == [(144, 103)] * 3
    first, second, motion = (np.asarray(image).astype(float) for image in images)
    assert 100 < np.ptp(first) <= 255, "deep pictures are stretched"
    assert 1 < np.abs(first - second).mean() < 50
    assert motion.shape == (103, 144, 3)


def picture(image: ET.Element) -> PIL.Image.Image:
    kind, _, data = str(image.get("src")).partition(",")
    assert kind == "data:image/jpeg;base64"
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


def test_of_many_clips_fewer_pairs_are_shown(
    tmp_path: Path, moving: Moving, write: Write, select: Select, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_flowmag.train.prepare.build._SHOWN_IN_ALL", 3)
    for i in range(5):
        write(tmp_path / "clips" / f"{i}.tif", moving(4, i))
    select(tmp_path / "clips", tmp_path / "out", strides=(1,))
    figures = list(parsed(tmp_path / "out").iter("figure"))
    assert len(figures) == 3
