"""TIFF files as others write them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_flowmag import Clip, FlowmagError, read_clip, write_clip
from napari_flowmag.io import open_writer

RNG = np.random.default_rng(0)
STACK = RNG.integers(200, 1500, (5, 48, 64), np.uint16)
COLOUR = RNG.integers(0, 255, (5, 48, 64, 3), np.uint8)


def check(path, values, axes, **facts):
    clip = read_clip(path)
    assert clip.axes == axes
    np.testing.assert_array_equal(np.asarray(clip.frames), values)
    np.testing.assert_array_equal(clip.frame(len(clip) - 1), values[-1])
    for name, value in facts.items():
        assert getattr(clip, name) == (pytest.approx(value) if name != "unit" else value)
    return clip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib"},
        {"compression": "lzw", "predictor": True},
        {"tile": (16, 16)},
        {"tile": (16, 32), "compression": "zstd"},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"rowsperstrip": 7},
        {"metadata": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_ways_to_store_a_stack(tmp_path, options, dtype):
    values = STACK.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, **{"photometric": "minisblack", **options})
    check(tmp_path / "a.tif", values, "TYX")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colour_by_pixel_or_by_plane(tmp_path, planar, compression):
    values = COLOUR if planar == "contig" else np.moveaxis(COLOUR, -1, 1)
    tifffile.imwrite(
        tmp_path / "a.tif",
        values,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
    )
    check(tmp_path / "a.tif", COLOUR, "TYXS")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_samples_of_grey_pages_are_channels(tmp_path, planar, photometric, count):
    values = RNG.integers(200, 1500, (3, count, 16, 20), np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for frame in values:
            stored = frame if planar == "separate" else np.moveaxis(frame, 0, -1)
            tif.write(stored, photometric=photometric, planarconfig=planar, metadata=None)
    check(tmp_path / "a.tif", 65535 - values if photometric == "miniswhite" else values, "TCYX")


SAMPLES = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="20" SizeY="16" SizeZ="1"
SizeC="4" SizeT="3">{channels}<TiffData/></Pixels></Image></OME>"""


@pytest.mark.parametrize("names", [("a", "b", "c", "d"), ("all",)])
def test_ome_channels_stored_as_samples(tmp_path, names):
    values = RNG.integers(200, 1500, (3, 4, 16, 20), np.uint16)
    channels = "".join(
        f'<Channel ID="Channel:0:{i}" Name="{name}" SamplesPerPixel="4"/>'
        for i, name in enumerate(names)
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for t, frame in enumerate(values):
            tif.write(
                frame,
                photometric="minisblack",
                planarconfig="separate",
                metadata=None,
                description=None if t else SAMPLES.format(channels=channels),
            )
    clip = check(tmp_path / "a.ome.tif", values, "TCYX")
    assert clip.channel_names == (names if len(names) == 4 else None)


def test_pages_written_one_by_one(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for frame in STACK:
            tif.write(frame, metadata=None)
    check(tmp_path / "a.tif", STACK, "TYX")


def test_a_single_picture_is_a_clip_of_one_frame(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    check(tmp_path / "a.tif", STACK[:1], "TYX")
    tifffile.imwrite(tmp_path / "b.tif", COLOUR[0], photometric="rgb")
    check(tmp_path / "b.tif", COLOUR[:1], "TYXS")


@pytest.mark.parametrize("truncate", [False, True], ids=["a page a plane", "one page for all"])
def test_imagej_hyperstack(tmp_path, truncate):
    values = RNG.integers(0, 60000, (4, 3, 2, 16, 20), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        values,
        imagej=True,
        resolution=(1 / 0.325, 1 / 0.65),
        truncate=truncate,
        metadata={"axes": "TZCYX", "unit": "micron", "spacing": 2.5, "finterval": 0.04}
        | {"Labels": ["DAPI", "actin"] * 12},
    )
    clip = check(
        tmp_path / "a.tif", values, "TZCYX", fps=25, pixel_size=(2.5, 0.65, 0.325), unit="µm"
    )
    assert clip.channel_names == ("DAPI", "actin")


def test_imagej_slices_are_time_unless_they_have_a_distance(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    check(tmp_path / "a.tif", STACK, "TYX")
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
    tifffile.imwrite(tmp_path / "b.tif", STACK, imagej=True, metadata=metadata, resolution=(2, 2))
    check(tmp_path / "b.tif", STACK[None], "TZYX", pixel_size=(2, 0.5, 0.5), unit="µm")


@pytest.mark.parametrize("order", ["TZCYX", "TCZYX", "CTZYX", "ZTCYX"])
def test_ome_axes_in_any_order(tmp_path, order):
    sizes = {"T": 4, "Z": 3, "C": 2, "Y": 16, "X": 20}
    stored = RNG.integers(0, 255, [sizes[a] for a in order], np.uint8)
    metadata = {
        "axes": order,
        "PhysicalSizeX": 325,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 325,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 1000,
        "PhysicalSizeZUnit": "nm",
        "TimeIncrement": 20,
        "TimeIncrementUnit": "ms",
        "Channel": {"Name": ["one", "two"]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, metadata=metadata, photometric="minisblack")
    values = stored.transpose([order.index(a) for a in "TZCYX"])
    clip = check(
        tmp_path / "a.ome.tif", values, "TZCYX", fps=50, pixel_size=(1000, 325, 325), unit="nm"
    )
    assert clip.channel_names == ("one", "two")
    assert clip.name == "a"


def test_a_pyramid_gives_its_full_resolution(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        tif.write(STACK, subifds=1, metadata={"axes": "TYX"}, tile=(16, 16))
        tif.write(STACK[:, ::2, ::2], subfiletype=1, tile=(16, 16))
    check(tmp_path / "a.ome.tif", STACK, "TYX")


OME = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{uuid}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="64" SizeY="48"
SizeZ="1" SizeC="1" SizeT="4"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels>
</Image></OME>"""
PLANE = (
    '<TiffData IFD="{ifd}" FirstT="{t}" PlaneCount="1"><UUID FileName="{file}">urn:uuid:{uuid}'
    "</UUID></TiffData>"
)


@pytest.fixture
def two_files(tmp_path):
    uuids = [f"00000000-0000-0000-0000-00000000000{i}" for i in range(2)]
    planes = "".join(
        PLANE.format(ifd=t % 2, t=t, file=f"part{t // 2}.ome.tif", uuid=uuids[t // 2])
        for t in range(4)
    )
    for i in range(2):
        tifffile.imwrite(
            tmp_path / f"part{i}.ome.tif",
            STACK[2 * i : 2 * i + 2],
            description=OME.format(uuid=uuids[i], planes=planes),
            metadata=None,
        )
    return tmp_path


def test_an_ome_clip_in_several_files(two_files):
    check(two_files / "part0.ome.tif", STACK[:4], "TYX")


def test_an_ome_clip_with_a_file_missing_is_refused(two_files):
    (two_files / "part1.ome.tif").unlink()
    with pytest.raises(FlowmagError, match="some of its frames are not there"):
        read_clip(two_files / "part0.ome.tif")


def test_channels_without_time(tmp_path):
    values = STACK[:2]
    tifffile.imwrite(tmp_path / "a.ome.tif", values, metadata={"axes": "CYX"})
    check(tmp_path / "a.ome.tif", values[None], "TCYX")


def test_two_nameless_axes_are_time_and_depth(tmp_path):
    values = RNG.random((3, 2, 16, 20), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    check(tmp_path / "a.tif", values, "TZYX")


def test_too_many_nameless_axes_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 2, 2, 16, 20)), photometric="minisblack")
    with pytest.raises(FlowmagError, match="axes QQQYX"):
        read_clip(tmp_path / "a.tif")


def test_pages_of_different_sizes_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for frame in (STACK[0], STACK[0, ::2], STACK[1]):
            tif.write(frame, metadata=None)
    with pytest.raises(FlowmagError, match=r"different sizes \(24×64, 48×64\)"):
        read_clip(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True},
        {"imagej": True, "truncate": True},
        {},
        {"compression": "zlib"},
        {"ome": True},
        {"ome": True, "compression": "zlib"},
    ],
    ids=str,
)
@pytest.mark.parametrize("part", [0.001, 0.5, 0.97])
def test_a_stack_that_was_cut_off_is_refused(tmp_path, options, part):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(FlowmagError, match=r"cut off or damaged|not a TIFF file, or damaged"):
        read_clip(path)


def test_damage_inside_a_frame_names_the_frame(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, compression="zlib")
    with tifffile.TiffFile(path) as tif:
        start, size = tif.pages[3].dataoffsets[0], tif.pages[3].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    clip = read_clip(path)
    np.testing.assert_array_equal(clip.frame(2), STACK[2])
    with pytest.raises(FlowmagError, match=r"frame 3 of a\.tif cannot be read"):
        clip.frame(3)


def test_what_is_written_is_what_imagej_expects(tmp_path):
    clip = Clip.from_array(STACK, "TYX", fps=30, pixel_size=(0.65, 0.325), unit="µm", name="heart")
    path = write_clip(clip, tmp_path / "a.tif", provenance={"alpha": 8})
    with tifffile.TiffFile(path) as tif:
        assert tif.is_imagej
        assert not tif.is_bigtiff
        metadata = tif.imagej_metadata
        assert (metadata["frames"], metadata["unit"]) == (5, "um")
        assert metadata["finterval"] == pytest.approx(1 / 30)
        assert '"alpha": 8' in metadata["Info"]
        x, y = (tif.pages[0].tags[f"{a}Resolution"].value for a in "XY")
        assert x[0] / x[1] == pytest.approx(1 / 0.325)
        assert y[0] / y[1] == pytest.approx(1 / 0.65)
        np.testing.assert_array_equal(tif.asarray(), STACK)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("a.tif", STACK, "imagej"),
        ("a.tif", COLOUR, "imagej"),
        ("a.tif", STACK.astype(np.float32), "imagej"),
        ("a.ome.tif", STACK, "ome"),
        ("a.tif", STACK.astype(np.float64), "ome"),
        ("a.tif", COLOUR.astype(np.uint16), "ome"),
        ("a.tif", STACK.astype(np.int64), "shaped"),
    ],
)
def test_the_dialect_is_one_that_holds_the_clip(tmp_path, name, values, kind):
    axes = "TYXS" if values.ndim == 4 else "TYX"
    path = write_clip(Clip.from_array(values, axes), tmp_path / name)
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].kind == kind


def test_more_than_four_gigabytes_go_into_a_bigtiff(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_flowmag.io.tiff_writer._CLASSIC_LIMIT", 1000)
    path = write_clip(Clip.from_array(STACK, "TYX", fps=5), tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff
        assert tif.is_ome
    check(path, STACK, "TYX", fps=5)


def test_types_that_ome_tiff_has_not_are_refused(tmp_path):
    clip = Clip.from_array(STACK.astype(np.float16), "TYX")
    with pytest.raises(FlowmagError, match="OME-TIFF has no float16"):
        write_clip(clip, tmp_path / "a.ome.tif")
    with (
        pytest.raises(FlowmagError, match="true/false"),
        open_writer(tmp_path / "a.tif", Clip.from_array(STACK > 500, "TYX")),
    ):
        pytest.fail("the writer must not open")
