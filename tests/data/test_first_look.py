"""What a set shows as a whole: each situation by a made-up set, and silence about good ones."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from pictures import ORIENTATION_TAG
from PIL import Image
from rater_cases import RAMP, square, write_case

from monai_ext.data import (
    DataSetError,
    DecodeImaged,
    DecodeRaters,
    DeviceDataset,
    LookedDataset,
    lesion_items,
    qubiq_items,
    write_lesion_phantoms,
    write_rater_phantoms,
)
from monai_ext.data.first_look import review, shared_images
from monai_ext.data.item_numbers import image_numbers, look_at, with_numbers
from monai_ext.raster.images import TURNS

COUNT, SIZE = 6, (24, 32)


def noise(seed, size=SIZE, high=256):
    return np.random.default_rng(seed).integers(0, high, (*size, 3)).astype(np.uint8)


def blob(seed, size=SIZE):
    rows, columns = np.indices(size)
    centre = np.random.default_rng(seed).uniform(0.4, 0.6, 2) * size
    return ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (3 + seed) ** 2).astype(np.uint8) * 255


def lesions(folder, *, images=noise, masks=blob, count=COUNT, **saving):
    for kind, make in (("images", images), ("masks", masks)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for seed in range(count):
            options = saving if kind == "images" else {}
            Image.fromarray(make(seed)).save(folder / kind / f"im{seed}.png", **options)
    return lesion_items(folder)


def looked(items, decode=None, **options):
    return review(look_at(items, decode or DecodeImaged(), num_workers=1), **options)


def test_good_sets_give_facts_alone(tmp_path):
    write_lesion_phantoms(tmp_path / "lesions", count=12, size=(48, 64))
    look = looked(lesion_items(tmp_path / "lesions"))
    assert not look.doubtful and not look.refused and look.facts[0].startswith("12 images of 48 x 64 pixels, values ")
    write_rater_phantoms(tmp_path / "raters", count=4, size=(48, 48))
    look = looked(qubiq_items(tmp_path / "raters"), DecodeRaters())
    assert not look.doubtful and not look.refused and "masks, foreground" in look.facts[1]


def test_large_lesions_that_leave_the_image_are_not_inverted(tmp_path):
    def large(seed):
        mask = blob(seed)
        mask[:, : 20 + seed] = 255
        return mask

    look = looked(lesions(tmp_path, masks=large))
    assert not look.doubtful and not look.refused


def test_voxels_and_directions_of_volumes_are_facts(tmp_path):
    for number, flip in enumerate((1, -1)):
        affine = np.diag([flip * 0.5, 0.7, 3.0 + number, 1])
        image, mask = noise(number)[..., :3], np.zeros((*SIZE, 3), np.uint8)
        mask[4:9, 4:9] = 1
        write_case(tmp_path / f"case{number}", image=image, masks={1: mask}, raters=[1], affine=affine)
    look = looked(qubiq_items(tmp_path), DecodeRaters(spatial_dims=3))
    assert look.facts[0].startswith("2 images of 24 x 32 x 3 pixels")
    assert look.facts[1] == (
        "voxels of 0.5 x 0.7 x 3 to 0.5 x 0.7 x 4 mm, axes leading to LAS, RAS; spacing brings all to RAS"
    )


def inverted(seed):
    return 255 - blob(seed)


MASKS_OF_ALL = {
    "look inverted: .* fills the border of the image and covers a median of .*--labels 0": inverted,
    "all 6 masks are empty: look at one": lambda seed: blob(seed) * 0,
    "all 6 masks are foreground as a whole": lambda seed: blob(seed) * 0 + 255,
}


@pytest.mark.parametrize("message", MASKS_OF_ALL)
def test_what_cannot_be_meant_of_a_whole_set_is_refused_before_training_and_evaluation(tmp_path, message):
    items = lesions(tmp_path, masks=MASKS_OF_ALL[message])
    for start in (DeviceDataset, LookedDataset):
        with pytest.raises(DataSetError, match=message):
            start(items, DecodeImaged())
    assert looked(items[:3]).refused == [] and len(looked(items[:3]).doubtful) == 1


def test_a_label_turns_inverted_masks_or_confirms_them(tmp_path):
    lesions(tmp_path, masks=inverted)
    right = DeviceDataset(lesion_items(tmp_path, labels=0), DecodeImaged())
    assert torch.equal(right[2]["label"][0], torch.from_numpy(blob(2) // 255))
    look = looked(lesion_items(tmp_path, labels=255), labelled=True)
    assert not look.refused and "6 of 6 masks look inverted" in look.doubtful[0]
    with pytest.raises(DataSetError, match="all 6 masks are empty: no mask has the chosen label"):
        DeviceDataset(lesion_items(tmp_path, labels=7), DecodeImaged())


DOUBTFUL = {
    "2 of 6 masks look inverted": {"masks": lambda seed: inverted(seed) if seed in (1, 4) else blob(seed)},
    "1 of 6 masks are empty: im3": {"masks": lambda seed: blob(seed) * (seed != 3)},
    "1 of 6 masks are foreground as a whole: im0": {"masks": lambda seed: np.maximum(blob(seed), 255 * (seed == 0))},
    "1 of 6 images hold one value alone: im2": {"images": lambda seed: noise(seed) * (seed != 2)},
    "6 of 6 images are nearly black": {"images": lambda seed: noise(seed, high=17)},
    "2 of 6 images occur more than once, .*: im1 = im5": {"images": lambda seed: noise(1 if seed == 5 else seed)},
    "2 of 6 masks are equal though their images differ: im0 = im4": {
        "masks": lambda seed: blob(0 if seed == 4 else seed)
    },
}


@pytest.mark.parametrize("message", DOUBTFUL)
def test_what_is_doubtful_is_a_warning_with_numbers_and_names(tmp_path, message, caplog):
    items = lesions(tmp_path, **DOUBTFUL[message])
    with caplog.at_level(logging.INFO, logger="monai_ext"):
        DeviceDataset(items, DecodeImaged(), progress=False)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match(message, line)


def test_masks_that_vanish_at_the_size_of_the_network_and_soft_ones_are_named(tmp_path):
    def small(seed):
        mask = blob(seed)
        if seed == 2:
            mask[:] = 0
            mask[5, 5] = 255
        return mask

    items = lesions(tmp_path / "small", masks=small)
    assert "1 of 6 masks are empty at the size of the network: im2" in looked(items, DecodeImaged((6, 8))).doubtful

    def soft(seed):
        return np.array(Image.fromarray(blob(seed)).resize((8, 6)).resize((32, 24), Image.Resampling.BICUBIC))

    (line,) = looked(lesions(tmp_path / "soft", masks=soft)).doubtful
    assert line.startswith("6 of 6 masks are soft, up to ") and "are cut at one half" in line


def test_further_pages_are_named_and_smaller_copies_are_none(tmp_path):
    lesions(tmp_path)
    frames = [Image.fromarray(noise(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "images" / "im0.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "images" / "im0.png").unlink()
    items = lesion_items(tmp_path)
    assert "1 of 6 images have further pages or frames, which are not read: im0" in looked(items).doubtful


def test_a_copy_of_an_image_with_its_mask_is_named_once(tmp_path):
    def copied(make):
        return lambda seed: make(seed % 5)

    (line,) = looked(lesions(tmp_path, images=copied(noise), masks=copied(blob))).doubtful
    assert line.startswith("2 of 6 images occur more than once") and line.endswith(": im0 = im5")


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_photograph_with_a_mask_on_stored_pixels_is_named(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation

    def shown(seed):
        mask = blob(seed, (32, 32))
        mask[:10] = 0
        return np.roll(mask, 5, 1)

    def image(seed):
        return np.stack([200 - shown(seed) // 2] * 3, -1)

    def upright(seed):
        return np.array(Image.fromarray(shown(seed)).transpose(TURNS[orientation]))

    for masks, better in ((shown, 6), (upright, 0)):
        (line,) = looked(lesions(tmp_path / f"{better}", images=image, masks=masks, exif=exif)).doubtful
        assert "6 of 6 masks have no EXIF orientation" in line
        assert f"{better} would fit better on the pixels as stored" in line


# --- raters --------------------------------------------------------------------------------------------------------


def test_raters_without_geometry_and_without_overlap_are_named(tmp_path):
    placed = np.array([[0.5, 0, 0, -30], [0, 0.7, 0, 12], [0, 0, 2, 5], [0, 0, 0, 1]])
    for number in (1, 2):
        masks = {1: square(side=2), 2: np.flip(square(side=2)) if number == 2 else square(side=2)}
        write_case(tmp_path / f"case{number}", masks=masks, affine=placed, image=RAMP + number)
    write_case(tmp_path / "case1", raters=(2,), image=None)
    look = looked(qubiq_items(tmp_path), DecodeRaters())
    assert "2 of 4 masks overlap no mask of another rater: case2 rater 1, case2 rater 2" in look.doubtful
    assert any(
        line.startswith("1 of 4 masks lie up to ") and line.endswith(": case1 rater 2") for line in look.doubtful
    )


def test_empty_masks_of_a_rater_are_an_answer(tmp_path):
    for number in range(COUNT):
        masks = {1: square(side=2), 2: square(side=0)} if number else {1: square(side=2), 2: square(side=2)}
        write_case(tmp_path / f"case{number}", masks=masks, image=RAMP + number)
    look = looked(qubiq_items(tmp_path), DecodeRaters())
    assert not look.refused and not any("empty" in line for line in look.doubtful)
    assert "5 empty" in look.facts[1]


def test_images_that_stand_in_two_parts_are_named():
    parts = {}
    for part, seeds in (("training", (0, 1, 2)), ("testing", (2, 3))):
        items = [{"id": f"{part[0]}{seed}", "seed": seed} for seed in seeds]
        parts[part] = look_at(items, _Noise(), num_workers=1)
    assert shared_images(parts) == ["1 images stand in several parts, pixel for pixel: training t2 = testing t2"]


class _Noise:
    def with_look(self, item):
        pixels = noise(item["seed"]).transpose(2, 0, 1)
        return {"id": item["id"], **with_numbers(image_numbers(pixels, SIZE), [])}


# --- how it is kept ------------------------------------------------------------------------------------------------


def test_the_numbers_are_kept_with_the_decoded_set_and_are_in_no_batch(tmp_path, caplog):
    items = lesions(tmp_path, masks=lambda seed: inverted(seed) if seed == 1 else blob(seed))
    first = DeviceDataset(items, DecodeImaged(), cache_dir=tmp_path / "cache", progress=False)
    caplog.clear()
    again = DeviceDataset(items, DecodeImaged(), cache_dir=tmp_path / "cache", progress=False)
    assert any("1 of 6 masks look inverted" in record.getMessage() for record in caplog.records)
    assert np.array_equal(first.look.masks, again.look.masks, equal_nan=True)
    assert np.array_equal(first.look.images, again.look.images, equal_nan=True)
    assert first.look.ids == [item["id"] for item in items]
    assert set(again.batch([0, 1])) == {"id", "image", "label", "original_size", "index"}
