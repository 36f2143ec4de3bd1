"""Drawn lesions: deterministic, varied, and not solved by a threshold."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from skimage.measure import label

from monai_ext.data.isic import lesion_items
from monai_ext.phantoms.lesions import draw_lesion, write_lesion_phantoms
from monai_ext.raster.images import read_image
from monai_ext.raster.masks import read_mask


@pytest.fixture(scope="module")
def phantoms():
    return [draw_lesion((96, 128), seed=(7, index)) for index in range(32)]


def otsu_dice(image: torch.Tensor, mask: torch.Tensor) -> float:
    """Dice of the largest dark component of the blue channel under Otsu's threshold."""
    blue, truth = image[2].numpy(), mask[0].numpy() > 0
    components = label(blue <= threshold_otsu(blue))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    guess = components == sizes.argmax()
    return 2 * (guess & truth).sum() / (guess.sum() + truth.sum())


def test_shapes_types_and_values(phantoms):
    for image, mask in phantoms:
        assert image.shape == (3, 96, 128) and image.dtype == torch.uint8
        assert mask.shape == (1, 96, 128) and mask.dtype == torch.uint8
        assert mask.unique().tolist() == [0, 1]


def test_the_same_seed_draws_the_same_picture_and_others_draw_others(phantoms):
    again = draw_lesion((96, 128), seed=(7, 0))
    assert all(torch.equal(a, b) for a, b in zip(phantoms[0], again, strict=True))
    assert not torch.equal(phantoms[0][0], phantoms[1][0])
    assert not torch.equal(phantoms[0][1], phantoms[1][1])


@pytest.mark.parametrize("size", [(32, 32), (41, 200), (150, 33)])
def test_any_size_and_aspect_can_be_drawn(size):
    image, mask = draw_lesion(size, seed=1)
    assert image.shape == (3, *size) and 0 < mask.float().mean() < 1


def test_areas_spread_from_small_to_large(phantoms):
    areas = torch.stack([mask.float().mean() for _, mask in phantoms])
    assert 0.005 < areas.min() < 0.06 and 0.3 < areas.max() < 0.85
    assert 0.08 < areas.median() < 0.2


def test_the_lesion_is_one_component_and_most_lesions_are_darker_than_the_skin_around(phantoms):
    darker = 0
    for image, mask in phantoms:
        truth = mask[0].numpy() > 0
        sizes = np.sort(np.bincount(label(truth).ravel())[1:])
        assert sizes[-1] > 0.95 * truth.sum()
        green = image[1].numpy()
        rows, columns = np.nonzero(truth)
        near = np.zeros_like(truth)
        near[max(0, rows.min() - 6) : rows.max() + 6, max(0, columns.min() - 6) : columns.max() + 6] = True
        darker += np.median(green[truth]) < np.median(green[near & ~truth])
    assert darker >= 26


def test_a_threshold_does_not_solve_them_but_does_not_fail_everywhere(phantoms):
    scores = np.array([otsu_dice(image, mask) for image, mask in phantoms])
    assert 0.4 < scores.mean() < 0.8
    assert (scores > 0.85).any() and (scores < 0.3).any()


def test_too_small_a_picture_is_refused():
    with pytest.raises(ValueError, match=r"size is \(16, 64\): draw_lesion needs at least 32 pixels"):
        draw_lesion((16, 64))


def test_written_phantoms_are_a_lesion_data_set(tmp_path):
    assert write_lesion_phantoms(tmp_path, count=3, size=(48, 64), seed=5) == 3
    items = lesion_items(tmp_path)
    assert [item["id"] for item in items] == ["phantom_0000", "phantom_0001", "phantom_0002"]
    for index, item in enumerate(items):
        image, mask = draw_lesion((48, 64), seed=(5, index))
        assert torch.equal(read_mask(item["label"]), mask)
        assert (read_image(item["image"]).float() - image).abs().mean() < 6  # JPEG
    assert not list(tmp_path.rglob(".*"))


def test_an_interrupted_or_larger_call_goes_on_without_touching_what_is_there(tmp_path):
    write_lesion_phantoms(tmp_path, count=2, size=(48, 64))
    kept = (tmp_path / "images" / "phantom_0000.jpg").stat().st_mtime_ns
    whole = (tmp_path / "images" / "phantom_0001.jpg").read_bytes()
    (tmp_path / "images" / "phantom_0001.jpg").unlink()
    assert write_lesion_phantoms(tmp_path, count=3, size=(48, 64)) == 3
    assert (tmp_path / "images" / "phantom_0000.jpg").stat().st_mtime_ns == kept
    assert (tmp_path / "images" / "phantom_0001.jpg").read_bytes() == whole
    assert write_lesion_phantoms(tmp_path, count=1, size=(48, 64)) == 3


def test_phantoms_of_other_settings_are_not_mixed(tmp_path):
    write_lesion_phantoms(tmp_path, count=1, size=(48, 64))
    for changed in ({"seed": 1, "size": (48, 64)}, {"size": (64, 64)}):
        with pytest.raises(ValueError, match="holds phantoms of .* choose another folder"):
            write_lesion_phantoms(tmp_path, count=1, **changed)
    assert json.loads((tmp_path / "phantoms.json").read_text())["size"] == [48, 64]
    with pytest.raises(ValueError, match="count is 0"):
        write_lesion_phantoms(tmp_path / "other", count=0)
