"""Masks from files: the rule for foreground, labels, and what has no single meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import saved
from PIL import Image, ImageFilter

from monai_ext.raster.images import ImageFileError
from monai_ext.raster.masks import grey_values_in, read_mask


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 1], [1, 0]], np.uint8), [[0, 1], [1, 0]]),
        (np.array([[0, 255], [255, 0]], np.uint8), [[0, 1], [1, 0]]),
        (np.array([[127, 128], [129, 255]], np.uint8), [[0, 0], [1, 1]]),
        (np.array([[0, 0], [0, 0]], np.uint8), [[0, 0], [0, 0]]),
        (np.array([[1, 1], [1, 1]], np.uint8), [[1, 1], [1, 1]]),
        (np.array([[255, 255], [255, 255]], np.uint8), [[1, 1], [1, 1]]),
        (np.array([[0, 65535], [32896, 32897]], np.uint16), [[0, 1], [0, 1]]),
        (np.array([[0, 1], [1, 0]], np.uint16), [[0, 1], [1, 0]]),
        (np.array([[0, 255], [255, 0]], np.uint16), [[0, 1], [1, 0]]),
        (np.array([[0, 255], [255, 0]], np.int32), [[0, 1], [1, 0]]),
        (np.array([[0, 0.5], [0.51, 1]], np.float32), [[0, 0], [1, 1]]),
        (np.array([[0, 128], [129, 255]], np.float32), [[0, 0], [1, 1]]),
        (np.array([[0, 65535], [0, 1]], np.int32), [[0, 1], [0, 0]]),
        (np.array([[False, True], [True, False]]), [[0, 1], [1, 0]]),
    ],
)
def test_foreground_rule(tmp_path, values, expected):
    mask = read_mask(saved(tmp_path / "m.tif", values))
    assert mask.dtype == torch.uint8 and mask.shape == (1, 2, 2)
    assert mask[0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0, 1, 2, 5]], np.uint8), "m.tif has values up to 5 and none above 128: it is neither"),
        (np.array([[0, 128]], np.uint8), "up to 128 and none above 128"),
        (np.array([[0, 300]], np.uint16), "up to 300 and none above 32896"),
        (np.array([[0, 70000]], np.int32), "values from 0 to 70000"),
        (np.array([[-1, 1]], np.int32), "values from -1 to 1"),
        (np.array([[0, 7.5]], np.float32), "up to 7.5 and none above 128"),
        (np.array([[0, np.nan]], np.float32), "holds floats"),
    ],
)
def test_values_that_are_no_mask_are_refused(tmp_path, values, message):
    with pytest.raises(ImageFileError, match=message):
        read_mask(saved(tmp_path / "m.tif", values))


def test_colour_masks_count_by_luminance_and_not_by_index(tmp_path):
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0, 0, 255, 0])  # white, black, green: luminance 255, 0, 149
    assert read_mask(saved(tmp_path / "p.png", palette)).tolist() == [[[1, 0, 1]]]


def test_a_mask_blurred_by_jpeg_keeps_its_shape(tmp_path):
    truth = np.zeros((64, 64), np.uint8)
    truth[16:48, 8:40] = 1
    mask = read_mask(saved(tmp_path / "m.jpg", truth * 255, quality=60))
    assert torch.equal(mask[0], torch.from_numpy(truth))


def disc(size: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: size[0], : size[1]]
    return ((rows + 0.5 - centre[0]) ** 2 + (columns + 0.5 - centre[1]) ** 2 <= radius**2).astype(np.uint8)


@pytest.mark.parametrize("factor", [0.3, 0.5, 0.7, 2.0])
def test_resized_masks_keep_place_and_share(tmp_path, factor):
    values = disc((100, 120), (43.0, 61.0), 20.0)
    size = (round(100 * factor), round(120 * factor))
    mask = read_mask(saved(tmp_path / "m.png", values * 255), spatial_size=size)[0].numpy()
    assert set(np.unique(mask)) == {0, 1}
    rows, columns = np.nonzero(mask)
    assert (rows + 0.5).mean() == pytest.approx(43.0 * factor, abs=0.15)
    assert (columns + 0.5).mean() == pytest.approx(61.0 * factor, abs=0.15)
    assert mask.mean() == pytest.approx(values.mean(), rel=0.03)


def test_masks_are_resized_as_torch_does_with_antialiasing(tmp_path):
    values = disc((64, 96), (30.0, 50.0), 17.0)
    mask = read_mask(saved(tmp_path / "m.png", values * 255), spatial_size=(23, 41))
    source = torch.from_numpy(values)[None, None].float()
    share = torch.nn.functional.interpolate(source, (23, 41), mode="bilinear", antialias=True)[0]
    clear = (share - 0.5).abs() > 0.01  # Pillow rounds to 8 bits
    assert torch.equal(mask[clear], (share > 0.5).byte()[clear])


# --- several structures --------------------------------------------------------------------------------------------


def blocks(*levels, size=(40, 60)):
    """A disc-free picture of equal columns, one for each level (a number or a colour)."""
    values = np.zeros((*size, *np.shape(levels[0])), np.uint8)
    for part, level in zip(np.array_split(np.arange(size[1]), len(levels)), levels, strict=True):
        values[:, part] = level
    return values


RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)


@pytest.mark.parametrize(
    ("levels", "named"),
    [
        ((0, 128, 255), "grey values .*0 .*128 .*255"),
        ((0, 100, 200), "grey values .*100"),
        ((255, 100), "grey values .*100 .*255"),
        ((255, 200), "grey values"),
        ((BLACK, RED, GREEN), r"colours .*\[255, 0, 0\]"),
        ((WHITE, (255, 255, 0)), "colours"),
        ((WHITE, RED), "colours"),
        ((BLACK, (230, 160, 160), (160, 230, 160)), "colours"),  # of nearly one brightness
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_masks_of_several_structures_or_without_dark_background_are_refused(tmp_path, levels, named, suffix):
    path = saved(tmp_path / f"m.{suffix}", blocks(*levels), **({"quality": 90} if suffix == "jpg" else {}))
    named = named if suffix != "jpg" else ""
    with pytest.raises(
        ImageFileError, match=f"m.{suffix} holds several structures, or no dark .*({named}).* by labels"
    ):
        read_mask(path)


@pytest.mark.parametrize("depth", ["uint16", "float32", "palette"])
def test_structures_of_other_types_are_refused_as_well(tmp_path, depth):
    values = blocks(0, 128, 255)
    if depth == "palette":
        picture = Image.fromarray(values // 127).convert("P")
        picture.putpalette([*BLACK, *RED, *GREEN])
        path = saved(tmp_path / "m.png", picture)
    else:
        path = saved(tmp_path / "m.tif", values * np.uint16(257) if depth == "uint16" else values / np.float32(255))
    with pytest.raises(ImageFileError, match="several structures"):
        read_mask(path)


def test_soft_edges_of_any_kind_are_no_structures(tmp_path):
    values = disc((120, 160), (60.0, 70.0), 40.0) * 255
    picture = Image.fromarray(values)
    softened = {f"jpg{quality}": None for quality in (20, 50, 90)}
    softened |= {f"blur{radius}": picture.filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 3, 8)}
    softened |= {f"{way}{size}": picture.resize((size, size), way) for way in (0, 1, 2, 3, 4, 5) for size in (70, 300)}
    for name, soft in softened.items():
        if soft is None:
            path = saved(tmp_path / "m.jpg", picture, quality=int(name[3:]))
        else:
            path = saved(tmp_path / "m.png", soft)
        assert read_mask(path).float().mean() == pytest.approx((values > 0).mean(), abs=0.03), name


# --- transparency --------------------------------------------------------------------------------------------------


def with_alpha(grey, alpha):
    return Image.merge("LA", [Image.fromarray(np.broadcast_to(np.uint8(each), (20, 20))) for each in (grey, alpha)])


@pytest.mark.parametrize(("mode", "suffix"), [("LA", "png"), ("RGBA", "png"), ("RGBA", "tif"), ("RGBA", "webp")])
@pytest.mark.parametrize("grey", [0, 255])
def test_content_in_the_transparency_is_refused_or_chosen(tmp_path, grey, mode, suffix):
    truth = disc((20, 20), (10.0, 8.0), 5.0)
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"m.{suffix}", with_alpha(grey, truth * 255).convert(mode), **options)
    with pytest.raises(ImageFileError, match=r"its content in its transparency \(20% are opaque.* labels='alpha'"):
        read_mask(path)
    assert np.array_equal(read_mask(path, labels="alpha")[0], truth)


def test_foreground_that_is_transparent_is_refused_and_a_transparent_background_is_not(tmp_path):
    truth = disc((20, 20), (10.0, 8.0), 5.0)
    assert np.array_equal(read_mask(saved(tmp_path / "a.png", with_alpha(truth * 255, truth * 255)))[0], truth)
    assert np.array_equal(read_mask(saved(tmp_path / "b.png", with_alpha(truth * 255, 90)))[0], truth)
    with pytest.raises(ImageFileError, match="two ways, 100% of its foreground being transparent"):
        read_mask(saved(tmp_path / "c.png", with_alpha(truth * 255, 255 - truth * 255)))


# --- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "expected"),
    [(128, [0, 1, 0]), ([128, 255], [0, 1, 1]), (0, [1, 0, 0]), (255, [0, 0, 1]), (7, [0, 0, 0])],
)
def test_a_label_chooses_grey_values(tmp_path, label, expected):
    mask = read_mask(saved(tmp_path / "m.png", blocks(0, 128, 255)), labels=label)[0]
    assert mask[0, [0, 30, 59]].tolist() == expected


def test_a_label_chooses_colours_indices_and_deep_values(tmp_path):
    path = saved(tmp_path / "colours.png", blocks(BLACK, RED, GREEN))
    assert read_mask(path, labels=[255, 0, 0])[0, 0, [0, 30, 59]].tolist() == [0, 1, 0]
    assert read_mask(path, labels=[[255, 0, 0], [0, 255, 0]])[0, 0, [0, 30, 59]].tolist() == [0, 1, 1]
    with pytest.raises(ImageFileError, match="is coloured, and the label 3 is no colour"):
        read_mask(path, labels=3)
    picture = Image.fromarray(blocks(0, 1, 2)).convert("P")
    picture.putpalette([*GREEN, *BLACK, *RED])
    assert read_mask(saved(tmp_path / "p.png", picture), labels=2)[0, 0, [0, 30, 59]].tolist() == [0, 0, 1]
    deep = saved(tmp_path / "deep.png", blocks(0, 1, 2).astype(np.uint16) * 1000)
    assert read_mask(deep, labels=2000)[0, 0, [0, 30, 59]].tolist() == [0, 0, 1]
    with pytest.raises(ImageFileError, match="is grey, and the label .* a colour"):
        read_mask(deep, labels=[[255, 0, 0]])
    bit = saved(tmp_path / "bit.png", Image.fromarray(blocks(0, 255)).convert("1"))
    assert [read_mask(bit, labels=label)[0, 0, 59].item() for label in (0, 1, 255)] == [0, 1, 1]


def test_label_0_turns_black_on_white_with_its_soft_edges(tmp_path):
    truth = disc((60, 60), (30.0, 30.0), 20.0)
    path = saved(tmp_path / "m.jpg", 255 - truth * 255, quality=70)
    assert np.array_equal(read_mask(path, labels=0)[0], 1 - read_mask(path)[0])
    assert np.array_equal(read_mask(path, labels=255), read_mask(path))


@pytest.mark.parametrize("suffix", ["tif", "gif"])
def test_a_mask_of_several_pages_is_refused(tmp_path, suffix):
    pages = [Image.fromarray(disc((20, 20), (10.0, 8.0), radius) * 255) for radius in (3.0, 5.0)]
    pages[0].save(tmp_path / f"m.{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageFileError, match=f"m.{suffix} has 2 pages or frames: save the one that is meant"):
        read_mask(tmp_path / f"m.{suffix}")


REGIONS = {"disc": [1, 2], "cup": [2]}


def test_labels_by_name_are_a_mask_of_each_structure_from_one_file(tmp_path):
    values = blocks(0, 1, 2)
    path = saved(tmp_path / "m.png", values)
    masks = read_mask(path, labels=REGIONS)
    assert torch.equal(masks, torch.stack([torch.from_numpy(values >= 1), torch.from_numpy(values == 2)]).byte())
    assert read_mask(path, labels={"one": 1}).shape == (1, *values.shape)
    small = read_mask(path, labels=REGIONS, spatial_size=(10, 30))
    assert small.shape == (2, 10, 30) and not (small[1] & ~small[0]).any()
    assert grey_values_in(path) == [0, 1, 2]
    picture = saved(tmp_path / "c.png", np.stack([values * 100, values, values], axis=-1))
    assert grey_values_in(picture) == []
