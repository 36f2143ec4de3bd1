"""Whole batches: registration of image and label, replay, types, and the cost in operations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from random_images import blobs, generator, photographs
from torch.utils._python_dispatch import TorchDispatchMode

from monai_ext.transforms import (
    BatchAugment,
    RandomAffine,
    RandomBlur,
    RandomColour,
    RandomElastic,
    RandomFlip,
    RandomGamma,
    RandomNoise,
    RandomQuarterTurn,
)
from monai_ext.transforms.parameters import compile_parameters

MOVES = [RandomFlip(), RandomAffine(rotate=180, scale=(0.8, 1.25), shear=10, translate=0.1)]


ALL_MOVES = [*MOVES, RandomQuarterTurn(0.5), RandomElastic(0.05, 4)]


COLOURS = RandomColour(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)


EVERYTHING = [*ALL_MOVES, COLOURS, RandomGamma((0.7, 1.4)), RandomBlur(1.0), RandomNoise(0.05)]


NORMALISATION = {"mean": (0.6, 0.5, 0.4), "std": (0.2, 0.3, 0.25)}


@pytest.mark.parametrize("scale", [(0.8, 1.25), ((0.8, 1.25), (0.8, 1.25))], ids=["one zoom", "one for each axis"])
def test_nothing_is_drawn_for_no_images(scale: tuple) -> None:
    nothing = BatchAugment([RandomFlip(), RandomAffine(scale=scale), RandomNoise(0.1)]).draw(0, generator())
    assert len(nothing) == 0 and nothing.tensors["matrix"].shape == (0, 2, 3)


def test_image_and_label_of_equal_content_stay_registered() -> None:
    labels = blobs(16, (64, 80))
    for size in (None, (48, 60), (96, 120)):
        augment = BatchAugment(ALL_MOVES, spatial_size=size)
        result = augment({"image": labels.float().expand(-1, 3, -1, -1), "label": labels}, generator())
        disagree = (result["image"][:, :1] > 0.5) != result["label"].bool()
        assert disagree.float().mean() < 0.02, size  # pixels on the border of the shapes only
        assert result["label"].unique().tolist() == [0.0, 1.0]


def test_replay_is_equal_and_samples_differ() -> None:
    images = photographs(1, (24, 24)).repeat(5, 1, 1, 1)
    augment = BatchAugment(EVERYTHING, **NORMALISATION)
    parameters = augment.draw(5, generator())
    first, second = (
        augment.apply({"image": images}, parameters)["image"],
        augment.apply({"image": images}, parameters)["image"],
    )
    assert torch.equal(first, second)
    assert torch.equal(first, BatchAugment(EVERYTHING, **NORMALISATION)({"image": images}, generator())["image"])
    assert not torch.equal(first, augment({"image": images}, generator(1))["image"])
    assert min((first[i] - first[j]).abs().max() for i in range(5) for j in range(i)) > 0.1


def test_a_sample_is_augmented_alike_in_batches_of_any_size() -> None:
    images, labels = photographs(7, (24, 24)), blobs(7, (24, 24))
    augment = BatchAugment(EVERYTHING, **NORMALISATION)
    parameters = augment.draw(7, generator())
    whole = augment.apply({"image": images, "label": labels}, parameters)
    for size in (1, 4):
        parts = [
            augment.apply({"image": image, "label": label}, part)
            for image, label, part in zip(images.split(size), labels.split(size), parameters.split(size), strict=True)
        ]
        for name in ("image", "label"):
            torch.testing.assert_close(torch.cat([part[name] for part in parts]), whole[name], atol=1e-5, rtol=0)


def test_with_everything_off_it_scales_and_normalises() -> None:
    images, labels = photographs(), blobs(6, (20, 31))
    augment = BatchAugment(mean=(0.6, 0.5, 0.4), std=(0.2, 0.3, 0.25))
    result = augment({"image": images, "label": labels, "id": ["a"]})
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (augment.mean, augment.std))
    torch.testing.assert_close(result["image"], (images / 255 - mean) / std, atol=1e-5, rtol=0)
    assert torch.equal(result["label"], labels.float())
    assert result["id"] == ["a"]


@pytest.mark.parametrize(
    "parts", [[], [RandomGamma((0.5, 0.6)), RandomNoise(0.1)], MOVES], ids=["none", "gamma", "moves"]
)
@pytest.mark.parametrize("settings", [{}, {"mean": 0.5, "std": 0.2}])
def test_the_batch_given_is_not_changed(parts: list, settings: dict) -> None:
    images, labels = torch.rand(3, 3, 8, 8, generator=generator()), blobs(3, (8, 8)).float()
    batch = {"image": images.clone(), "label": labels.clone()}
    result = BatchAugment(parts, **settings)(batch, generator())
    assert torch.equal(batch["image"], images) and torch.equal(batch["label"], labels)
    assert result["image"].data_ptr() != batch["image"].data_ptr()


def test_soft_labels_stay_soft_and_classes_stay_whole() -> None:
    soft = torch.rand(4, 2, 20, 31, generator=generator())
    classes = torch.randint(0, 5, (4, 1, 20, 31), generator=generator())
    augment = BatchAugment(MOVES)
    parameters = augment.draw(4, generator())
    result = augment.apply({"image": (soft * 1.0).repeat(1, 2, 1, 1)[:, :3], "label": soft}, parameters)
    torch.testing.assert_close(result["label"], result["image"][:, :2])
    result = augment.apply({"image": photographs(4), "label": classes}, parameters)
    assert set(result["label"].unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}


def test_shrinking_is_antialiased_and_can_change_between_epochs() -> None:
    images = photographs(2, (32, 48))
    augment = BatchAugment(spatial_size=(16, 24))
    expected = F.interpolate(images.float(), (16, 24), mode="bilinear", antialias=True) / 255
    torch.testing.assert_close(augment({"image": images})["image"], expected, atol=1.0 / 255, rtol=0)
    augment.spatial_size = (64, 96)
    assert augment({"image": images, "label": blobs(2, (32, 48))})["label"].shape == (2, 1, 64, 96)
    stripes = torch.arange(64).remainder(2).float().expand(1, 1, 64, 64)
    warped = BatchAugment([RandomAffine(rotate=(0, 1e-3))], spatial_size=(16, 16))({"image": stripes}, generator())[
        "image"
    ]
    torch.testing.assert_close(warped[..., 2:-2], torch.full((1, 1, 16, 12), 0.5), atol=0.05, rtol=0)


def test_medical_types_need_and_use_an_intensity_range() -> None:
    images = torch.tensor([-1000, 0, 1000], dtype=torch.int16).view(1, 1, 1, 3)
    with pytest.raises(ValueError, match="set intensity_range"):
        BatchAugment()({"image": images})
    result = BatchAugment(intensity_range=(-1000, 1000))({"image": images})["image"]
    assert result.flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])
    augment = BatchAugment([RandomGamma((1.999, 2.001))], intensity_range=(-1000, 1000))
    result = augment({"image": images}, generator())["image"]
    assert result.flatten().tolist() == pytest.approx([0.0, 0.25, 1.0], abs=1e-3)


@pytest.mark.parametrize("kind", [torch.bool, torch.int16, torch.uint16, torch.int32, torch.float16, torch.float64])
@pytest.mark.parametrize("parts", [[], [RandomFlip(1.0)], [RandomAffine((180, 180))]], ids=["as it is", "flip", "warp"])
@pytest.mark.parametrize("size", [None, (8, 10)])
def test_every_type_is_taken(kind: torch.dtype, parts: list, size: tuple[int, int] | None) -> None:
    images = blobs(2, (8, 10)).to(kind)
    augment = BatchAugment(parts, intensity_range=(0, 1), spatial_size=size)
    result = augment({"image": images, "label": images}, generator())
    expected = images.float().flip((2, 3)) if parts else images.float()
    for value in result.values():
        torch.testing.assert_close(value, expected, atol=1e-4, rtol=0)


def test_output_in_channels_last() -> None:
    result = BatchAugment(MOVES, channels_last=True)({"image": photographs()}, generator())
    assert result["image"].is_contiguous(memory_format=torch.channels_last)


def test_autocast_does_not_make_the_augmentation_coarse() -> None:
    images, augment = photographs(), BatchAugment(EVERYTHING, **NORMALISATION)
    parameters = augment.draw(6, generator())
    expected = augment.apply({"image": images}, parameters)["image"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(augment.apply({"image": images}, parameters)["image"], expected)


class CountOperations(TorchDispatchMode):
    """Names of all operations that launch a kernel or wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def operations(augment: BatchAugment, batch_size: int) -> list[str]:
    images, labels = photographs(40, (32, 32)), blobs(40, (32, 32))
    both = augment.draw(2 * batch_size, generator()).split(batch_size)
    index = torch.arange(batch_size)
    for part in both:  # the first batch makes what is kept
        with CountOperations() as count:
            augment.apply({"image": images.index_select(0, index), "label": labels.index_select(0, index)}, part)
    return count.names


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], 6),
        ([RandomFlip(), RandomQuarterTurn()], 14),
        (MOVES, 13),
        ([*MOVES, COLOURS], 20),
        (EVERYTHING, 37),
    ],
    ids=["none", "flips", "moves", "colour", "everything"],
)
def test_operations_of_a_batch_are_few_and_independent_of_its_size_and_never_wait(parts: list, expected: int) -> None:
    names = operations(BatchAugment(parts, opencv=False, **NORMALISATION), 4)
    assert len(names) == expected, names
    assert operations(BatchAugment(parts, opencv=False, **NORMALISATION), 16) == names
    waiting = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal")
    assert not [name for name in names if name.split("::")[1].split(".")[0] in waiting]


def test_wrong_batches_are_named() -> None:
    with pytest.raises(ValueError, match="image has 1 channels: RandomColour needs 3"):
        BatchAugment([RandomColour(hue=0.1)])({"image": photographs(channels=1)}, generator())
    with pytest.raises(ValueError, match=r"image has shape \(3, 20, 31\): expected \(B, C, H, W\)"):
        BatchAugment()({"image": photographs()[0]})
    augment = BatchAugment([RandomAffine(rotate=10)])
    with pytest.raises(ValueError, match="B=4 as drawn"):
        augment.apply({"image": photographs()}, augment.draw(4, generator()))
    with pytest.raises(ValueError, match="do not fit images of 3 channels"):
        BatchAugment(mean=(0.5, 0.5), std=(0.2, 0.2))({"image": photographs()})
    with pytest.raises(ValueError, match="rotate are not for 3 images"):
        compile_parameters(3, {"rotate": torch.zeros(2, 1)})
    with pytest.raises(ValueError, match="blur reaches 12 pixels"):
        BatchAugment([RandomBlur(4.0)])({"image": photographs(size=(8, 8))}, generator())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"spatial_dims": 4}, "spatial_dims=4 must be 2 or 3"),
        ({"padding_mode": "mirror"}, "padding_mode='mirror' must be"),
        ({"mean": 0.5}, "must be given together"),
        ({"parts": [RandomFlip(), RandomFlip(0.2)]}, "RandomFlip is given 2 times"),
        ({"parts": [torch.nn.Identity()]}, "Identity is no part: choose among RandomFlip, RandomQuarterTurn"),
    ],
)
def test_wrong_settings_are_named(settings: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        BatchAugment(**settings)


def test_parts_in_any_order_give_the_same_augmentation() -> None:
    images = photographs()
    results = [BatchAugment(parts)({"image": images}, generator())["image"] for parts in (EVERYTHING, EVERYTHING[::-1])]
    assert torch.equal(*results)
