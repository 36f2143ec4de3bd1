"""Numbers of images and masks."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from monai_ext.data.item_numbers import contrast, image_numbers, mask_numbers

SIZE = (24, 32)


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def test_numbers_of_a_mask_by_hand():
    mask = np.zeros((4, 5), np.uint8)
    mask[:2, :3] = 1  # touches the upper and the left border
    found = mask_numbers(mask, grey=0.25)
    assert (found.share, found.sides, found.grey) == (6 / 20, 2, 0.25)
    assert found.border == pytest.approx((3 + 2) / 18)  # of both rows and both columns at the border
    image = np.where(mask, 30, 10)[None]
    assert contrast(image, mask) == pytest.approx(20 / image.std())
    assert np.isnan(contrast(image, mask * 0)) and np.isnan(contrast(image * 0, mask))


def test_images_of_equal_crc_are_not_taken_for_equal():
    first = noise(0).transpose(2, 0, 1).copy()
    second = first.copy()
    polynomial = np.array([int(bit) for bit in f"{0x104C11DB7:033b}"], np.uint8)  # adding it leaves the CRC as it was
    second.reshape(-1)[7:12] ^= np.packbits(polynomial, bitorder="little")
    assert zlib.crc32(first) == zlib.crc32(second) and not np.array_equal(first, second)
    assert image_numbers(first, SIZE).checksum != image_numbers(second, SIZE).checksum
