"""Reading of photographs and masks: every mode by hand-made files, every damage by its sentence."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import torch
from pictures import ORIENTATION_TAG, photograph, saved
from PIL import Image

from monai_ext.data.tiles.images import read_tile
from monai_ext.raster.images import ImageFileError, image_size, read_image
from monai_ext.raster.masks import read_mask

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14  # (H=2, W=3, C)


def png_16bit(path, values, colour_type):
    """A 16-bit PNG, which Pillow cannot write in colour; values (H, W[, C]) uint16, colour_type 0 grey or 2 RGB."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(tag, data):
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def first_pixel(path):
    return read_image(path)[:, 0, 0].tolist()


# --- images: modes -------------------------------------------------------------------------------------------------


def test_rgb_pixels_come_as_channels_rows_columns(tmp_path):
    image = read_image(saved(tmp_path / "a.png", PIXELS))
    assert image.dtype == torch.uint8 and image.is_contiguous()
    assert torch.equal(image, torch.from_numpy(PIXELS).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("L", (3, 2), 77), [77, 77, 77]),
        (Image.new("1", (3, 2), 1), [255, 255, 255]),
        (Image.new("RGBA", (3, 2), (200, 100, 50, 255)), [200, 100, 50]),
        (Image.new("RGBA", (3, 2), (200, 100, 50, 0)), [0, 0, 0]),
        (Image.new("RGBA", (3, 2), (255, 255, 255, 51)), [51, 51, 51]),
        (Image.new("LA", (3, 2), (255, 51)), [51, 51, 51]),
    ],
    ids=["grey", "1-bit", "opaque", "transparent", "a fifth opaque", "grey with alpha"],
)
def test_modes_become_rgb_and_transparency_lies_over_black(tmp_path, picture, expected):
    assert first_pixel(saved(tmp_path / "a.png", picture)) == expected


def test_palettes_become_their_colours_and_transparent_entries_black(tmp_path):
    picture = Image.new("P", (3, 2), 1)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    assert first_pixel(saved(tmp_path / "a.png", picture)) == [10, 20, 30]
    assert first_pixel(saved(tmp_path / "b.png", picture, transparency=1)) == [0, 0, 0]


def test_cmyk_becomes_rgb(tmp_path):
    path = saved(tmp_path / "a.tif", Image.new("CMYK", (3, 2), (255, 0, 0, 0)))
    assert first_pixel(path) == [0, 255, 255]
    jpeg = read_image(saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 16), (255, 0, 0, 0)), quality=100))
    assert (jpeg[:, 0, 0].int() - torch.tensor([0, 255, 255])).abs().max() <= 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_divided_by_257_and_rounded(tmp_path, suffix):
    values = np.array([[0, 257 * 7, 257 * 7 + 128], [257 * 7 + 129, 65406, 65535]], dtype=np.uint16)
    image = read_image(saved(tmp_path / f"a.{suffix}", values))
    assert image[0].tolist() == [[0, 7, 7], [8, 254, 255]]
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


def test_grey_whose_0_is_white_looks_as_it_is_meant_in_8_and_16_bits(tmp_path):
    import tifffile

    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    for name, stored in (("a.tif", values), ("b.tif", values.astype(np.uint16) * 257)):
        tifffile.imwrite(tmp_path / name, stored, photometric="miniswhite")
        assert np.array_equal(read_image(tmp_path / name)[0], 255 - values)
        mask = np.where(values > 100, np.iinfo(stored.dtype).max, 0).astype(stored.dtype)
        tifffile.imwrite(tmp_path / f"mask_{name}", mask, photometric="miniswhite")
        assert np.array_equal(read_mask(tmp_path / f"mask_{name}")[0], values <= 100)


def test_16_bit_colour_is_within_one_level_of_division_by_257(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 65535
    image = read_image(png_16bit(tmp_path / "a.png", values, 2)).permute(1, 2, 0).numpy()
    assert np.abs(image - values / 257).max() <= 1
    assert image[0, 0].tolist() == [0, 0, 0] and image[0, 1].tolist() == [255, 255, 255]


def test_floats_are_read_in_their_two_ranges_and_refused_beyond(tmp_path):
    unit = np.array([[0, 0.5, 1.0]], dtype=np.float32)
    assert read_image(saved(tmp_path / "unit.tif", unit))[0].tolist() == [[0, 128, 255]]
    assert read_image(saved(tmp_path / "bytes.tif", unit * 200))[0].tolist() == [[0, 100, 200]]
    for name, values in (("high", unit * 256), ("negative", unit - 0.1), ("nan", unit * np.nan)):
        with pytest.raises(ImageFileError, match=rf"{name}.tif holds floats from .* only \[0, 1\] and \[0, 255\]"):
            read_image(saved(tmp_path / f"{name}.tif", values))


def test_32_bit_integers_are_refused(tmp_path):
    with pytest.raises(ImageFileError, match="a.tif holds 32-bit integers of unknown range: save it with 8 or 16 bits"):
        read_image(saved(tmp_path / "a.tif", np.array([[0, 70000]], dtype=np.int32)))


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("L", (4, 4), level) for level in (50, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert first_pixel(tmp_path / "a.gif") == [50, 50, 50]


# --- images: orientation and size ----------------------------------------------------------------------------------

# What a viewer shows for the stored 2 x 3 picture [[a b c] [d e f]], by EXIF orientation.
UPRIGHT = {
    1: ["abc", "def"],
    2: ["cba", "fed"],
    3: ["fed", "cba"],
    4: ["def", "abc"],
    5: ["ad", "be", "cf"],
    6: ["da", "eb", "fc"],
    7: ["fc", "eb", "da"],
    8: ["cf", "be", "ad"],
}


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("png", {}), ("tif", {}), ("tif", {"compression": "tiff_lzw"}), ("webp", {"lossless": True})],
    ids=["png", "tif", "compressed tif", "webp"],
)
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied_to_images_masks_and_sizes(tmp_path, orientation, suffix, options):
    levels = {letter: 129 + 20 * n for n, letter in enumerate("abcdef")} | {"b": 0, "f": 0}
    stored = np.array([[levels[letter] for letter in row] for row in ("abc", "def")], dtype=np.uint8)
    shown = torch.tensor([[levels[letter] for letter in row] for row in UPRIGHT[orientation]])
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    path = saved(tmp_path / f"a.{suffix}", stored, exif=exif, **options)
    assert torch.equal(read_image(path)[1].int(), shown.int())
    assert torch.equal(read_mask(path)[0], (shown > 0).byte())
    assert image_size(path) == tuple(shown.shape)


def test_a_turned_photograph_is_resized_and_drafted_to_the_upright_size(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    pixels = photograph(300, 400)
    turned = saved(tmp_path / "turned.jpg", pixels, exif=exif, quality=95)
    upright = saved(tmp_path / "upright.jpg", np.rot90(pixels, -1), quality=95)
    for draft in (False, True):
        a, b = (read_image(path, spatial_size=(96, 40), draft=draft) for path in (turned, upright))
        assert a.shape == (3, 96, 40)
        assert (a.int() - b.int()).abs().max() <= 4
    assert image_size(turned) == (400, 300)


def test_resizing_is_antialiased_bilinear(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    image = read_image(saved(tmp_path / "a.png", pixels), spatial_size=(30, 40))
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), size=(30, 40), mode="bilinear", antialias=True
    )[0]
    assert (image - reference).abs().max() <= 1.0


def test_draft_decoding_stays_close_and_never_goes_below_the_size(tmp_path):
    path = saved(tmp_path / "a.jpg", photograph(400, 600), quality=95)
    full, draft = (read_image(path, spatial_size=(90, 130), draft=draft) for draft in (False, True))
    assert (full.int() - draft.int()).abs().float().mean() <= 1.5
    same = read_image(path, spatial_size=(390, 590), draft=True)  # no room for a factor of 2
    assert torch.equal(same, read_image(path, spatial_size=(390, 590)))
    noise = saved(tmp_path / "n.jpg", np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    assert torch.equal(read_image(noise, spatial_size=(64, 64), draft=True), read_image(noise))


def test_size_comes_from_the_header_even_of_a_file_cut_short(tmp_path):
    path = saved(tmp_path / "a.jpg", photograph(120, 160))
    path.write_bytes(path.read_bytes()[:800])
    assert image_size(path) == (120, 160)


@pytest.mark.parametrize("size", [(0, 4), (4,), (4, 4, 4), 4, "ab"])
def test_wrong_sizes_are_refused_with_the_value_got(tmp_path, size):
    with pytest.raises(ValueError, match="spatial_size is .*: give"):
        read_image(saved(tmp_path / "a.png", PIXELS), spatial_size=size)


def test_draft_without_a_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="draft=True needs a spatial_size"):
        read_image(saved(tmp_path / "a.png", PIXELS), draft=True)


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_image, read_mask, image_size])
def test_missing_empty_and_foreign_files_are_named(tmp_path, read):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    (tmp_path / "study.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "bands.tif").write_bytes(b"II*\0\x08\0\0\0\0\0")
    for name, message in (
        ("missing.png", "missing.png does not exist"),
        ("empty.jpg", "cannot read image .*empty.jpg: it is empty"),
        ("text.png", "text.png: its 12 bytes are no image of a known format, convert it to JPEG or PNG"),
        ("phone.jpg", "phone.jpg: it is HEIC, AVIF or a film, convert it to JPEG or PNG"),
        ("study.dcm", "study.dcm: it is DICOM, export it as PNG"),
        ("bands.tif", "bands.tif: it is a TIFF of a kind that is no photograph .*, convert it to PNG"),
        (".", "cannot read image .*[Dd]irectory"),
    ):
        with pytest.raises(ImageFileError, match=message):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_truncated_files_are_named(tmp_path, read, suffix):
    path = saved(tmp_path / f"a.{suffix}", np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageFileError, match=rf"cannot read image .*a\.{suffix}: "):
        read(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_bytes_flipped_anywhere_never_let_another_error_out(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in ("png", "jpg", "tif", "gif"):
        path = saved(tmp_path / f"a.{suffix}", photograph(24, 24))
        good = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(60):
            damaged = good.copy()
            damaged[rng.integers(0, len(damaged), 4)] = rng.integers(0, 256, 4)
            path.write_bytes(damaged.tobytes())
            for read in (read_image, read_mask):
                try:
                    assert read(path).dtype == torch.uint8
                except ImageFileError as error:
                    assert path.name in str(error)


def test_an_image_without_pixels_is_named(tmp_path):
    path = png_16bit(tmp_path / "a.png", np.zeros((0, 0), dtype=np.uint16), 0)
    with pytest.raises(ImageFileError, match="a.png"):
        read_image(path)


def test_decompression_bombs_are_named(tmp_path, monkeypatch):
    path = saved(tmp_path / "bomb.png", np.zeros((100, 100), dtype=np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(
        ImageFileError, match="bomb.png: .*10000 pixels.*convert it to a GeoTIFF, which is read by rows"
    ):
        read_image(path)


# --- checksums -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
@pytest.mark.parametrize("read", [read_image, read_mask, read_tile])
def test_every_flipped_bit_of_a_png_is_found(tmp_path, mode, read):
    mask = np.zeros((24, 32), np.uint8)
    mask[5:15, 8:20] = 255
    picture = Image.fromarray(mask.astype(np.uint16) * 257 if mode == "I;16" else mask)
    whole = saved(tmp_path / "a.png", picture if mode == "I;16" else picture.convert(mode)).read_bytes()
    read(tmp_path / "a.png")
    for position in range(8, len(whole), 9):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(ImageFileError, match="cannot read image .*b.png"):
            read(tmp_path / "b.png")


def test_a_flipped_bit_of_a_deep_png_is_found_before_another_library_reads_it(tmp_path):
    path = png_16bit(tmp_path / "a.png", np.full((6, 6, 3), 40_000, np.uint16), 2)
    read_tile(path)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match=r"a.png: it is damaged, a checksum in it is wrong"):
        read_tile(path)
