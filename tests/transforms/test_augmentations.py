"""The parts of a batch augmentation: their distributions, probabilities and limits."""

from __future__ import annotations

import pytest
import torch
from random_images import generator
from scipy import stats

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
from monai_ext.transforms.augmentations import ORDER, Augmentation
from monai_ext.transforms.spatial import SamplingGrid


def test_zooms_of_axes_are_independent_and_within_their_ranges() -> None:
    part = RandomAffine(rotate=10, scale=((0.5, 1.0), (1.0, 2.0)), prob=0.9)
    zooms = part.draw(10_000, 2, generator())["scale"].double()
    chosen = zooms[(zooms != 1).any(1)]
    assert len(chosen) == pytest.approx(9000, abs=150)
    for axis, (low, high) in enumerate(((0.5, 1.0), (1.0, 2.0))):
        assert stats.kstest(chosen[:, axis].numpy(), stats.loguniform(low, high).cdf).pvalue > 1e-3
    assert abs(torch.corrcoef(chosen.log().T)[0, 1]) < 0.04


def test_elastic_warp_at_its_limit_never_folds() -> None:
    augment = BatchAugment([RandomElastic(0.0799, 6)])
    tensors = augment.draw(32, generator()).tensors
    grid = SamplingGrid((96, 96), (96, 96), 6, torch.device("cpu"))(tensors["matrix"], tensors["control"])
    across, down = grid[:, :-1].diff(dim=2), grid[:, :, :-1].diff(dim=1)
    assert (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).min() > 0


DISTRIBUTIONS = {
    "rotate": stats.uniform(-30, 60),
    "shear": stats.uniform(-10, 20),
    "translate": stats.uniform(-0.1, 0.2),
    "elastic": stats.uniform(-0.05, 0.1),
    "brightness": stats.uniform(0.8, 0.4),
    "contrast": stats.uniform(0.5, 1.0),
    "saturation": stats.uniform(0.0, 2.0),
    "hue": stats.uniform(-0.1, 0.2),
    "blur": stats.uniform(0.0, 1.5),
    "noise": stats.uniform(0.02, 0.06),
    "scale": stats.loguniform(0.5, 2.0),
    "gamma": stats.loguniform(0.7, 1.5),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_parameter_has_the_distribution_of_its_docstring(name: str) -> None:
    parts = [
        RandomAffine(rotate=30, scale=(0.5, 2.0), shear=10, translate=0.1), RandomElastic(0.05, 1),
        RandomColour(brightness=0.2, contrast=0.5, saturation=1.0, hue=0.1), RandomGamma((0.7, 1.5)), RandomBlur(1.5),
        RandomNoise((0.02, 0.08)),
    ]  # fmt: skip
    values = BatchAugment(parts).draw(10_000, generator(5)).values[name].view(10_000, -1)[:, 0].double().numpy()
    low, high = DISTRIBUTIONS[name].support()
    assert low - 1e-6 <= values.min() and values.max() <= high + 1e-6
    assert stats.kstest(values, DISTRIBUTIONS[name].cdf).pvalue > 1e-3


def test_probabilities_choose_and_neutral_values_fill() -> None:
    parts = [
        RandomFlip((0.2, 0.7)), RandomQuarterTurn(0.6), RandomAffine(rotate=30, scale=(1.1, 1.2), prob=0.3),
        RandomElastic(0.05, 2, prob=0.4), RandomColour(hue=0.1, brightness=0.2, prob=0.5),
        RandomGamma((1.1, 1.2), prob=0.1), RandomBlur((0.5, 1), prob=0.25), RandomNoise((0.1, 0.2), prob=0.8),
    ]  # fmt: skip
    values = BatchAugment(parts).draw(10_000, generator()).values
    frequencies = {
        "rot90": 0.6, "scale": 0.3, "brightness": 0.5, "gamma": 0.1, "blur": 0.25, "noise": 0.8,
    }  # fmt: skip
    neutral = {"scale": 1.0, "brightness": 1.0, "gamma": 1.0}
    for name, probability in frequencies.items():
        chosen = (values[name] != neutral.get(name, 0.0)).float().mean()
        assert chosen == pytest.approx(probability, abs=0.02), name
    assert values["flip"].float().mean(0).tolist() == pytest.approx([0.2, 0.7], abs=0.02)
    assert torch.bincount(values["rot90"]).tolist() == pytest.approx([4000, 2000, 2000, 2000], abs=200)
    assert torch.equal(values["scale"] != 1, values["rotate"][:, 0] != 0)  # chosen together
    assert (values["elastic"].flatten(1) != 0).any(1).float().mean() == pytest.approx(0.4, abs=0.02)


OFF = [
    RandomFlip(0.0), RandomFlip((0.0, 0.0)), RandomQuarterTurn(0.0), RandomAffine(), RandomAffine(0, None, 0, 0.0),
    RandomElastic(None), RandomElastic(0), RandomColour(), RandomColour(0, 0, 0, 0), RandomGamma(None),
    RandomBlur(None), RandomBlur(0.0), RandomNoise(None),
]  # fmt: skip


@pytest.mark.parametrize("part", OFF, ids=lambda part: type(part).__name__)
def test_a_part_that_is_off_draws_nothing_and_takes_no_number_from_the_generator(part: Augmentation) -> None:
    source = generator()
    before = source.get_state()
    assert part.draw(5, 2, source) == {} and torch.equal(source.get_state(), before)
    assert {type(part) for part in OFF} == set(ORDER)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: RandomFlip(1.5), "prob=1.5 must be a probability"),
        (lambda: RandomFlip((0.5, -0.5)), "prob=-0.5 must be a probability"),
        (lambda: RandomFlip((0.5, 0.5, 0.5)), "prob=.* one for each spatial axis"),
        (lambda: RandomAffine(rotate=-5), "rotate=-5 is negative"),
        (lambda: RandomAffine(rotate=(30, -30)), "low <= high"),
        (lambda: RandomAffine(rotate=(0, 0, 30)), "rotate has 3 ranges: in 2-D give one"),
        (lambda: RandomAffine(scale=0.2), "must be a pair of factors"),
        (lambda: RandomAffine(scale=(0.0, 2.0)), "must be positive"),
        (lambda: RandomAffine(scale=((0.5, 2.0),)), r"one pair \(low, high\) or 2, one for each spatial axis"),
        (lambda: RandomAffine(scale=((0.5, 2.0), (0.0, 1.0))), "must be positive"),
        (lambda: RandomAffine(scale=(0.5, (1.0, 2.0))), "one pair"),
        (lambda: RandomAffine(shear=45), "stay below 45 degrees"),
        (lambda: RandomAffine(translate=(0.1, 0.1, 0.1)), "translate=.* one for each spatial axis"),
        (lambda: RandomElastic(0.12, 4), "can fold the image: .* displacement < 0.48 / cells = 0.120"),
        (lambda: RandomElastic(0.1, 0), "can fold the image"),
        (lambda: RandomElastic(-0.1), "can fold the image"),
        (lambda: RandomColour(brightness=(-0.5, 1.0)), "brightness=.* reaches below 0"),
        (lambda: RandomColour(hue=0.7), "stay within half a turn"),
        (lambda: RandomGamma(0.5), "gamma=0.5 must be a pair"),
        (lambda: RandomNoise((-0.1, 0.1)), "sigma=.* reaches below 0"),
        (lambda: RandomBlur(1.0, prob=2), "prob=2 must be a probability"),
    ],
)
def test_wrong_settings_are_named(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        BatchAugment([make()])


def test_colour_is_for_images_of_two_axes() -> None:
    with pytest.raises(ValueError, match="RandomColour needs spatial_dims=2"):
        BatchAugment([RandomColour(hue=0.1)], spatial_dims=3)


def test_angles_about_each_axis_have_ranges_of_their_own() -> None:
    angles = RandomAffine(rotate=(0, (-5, 20), 180)).draw(2000, 3, generator())["rotate"]
    assert not angles[:, 0].any() and angles[:, 1].min() > -5 and angles[:, 1].max() < 20
    assert angles[:, 1].std() == pytest.approx(25 / 12**0.5, rel=0.05) and angles[:, 2].std() > 90
    assert RandomAffine(rotate=(0, None, 0)).draw(2, 3, generator()) == {}
    one = RandomAffine(rotate=20).draw(5, 3, generator())["rotate"]
    assert one.shape == (5, 3) and one.unique().numel() == 15


def test_the_limit_of_elastic_warps_depends_on_the_number_of_axes() -> None:
    part = RandomElastic(0.11, 4)  # 0.44 cells
    assert part.draw(2, 2, generator())["elastic"].shape == (2, 2, 7, 7)
    with pytest.raises(ValueError, match="displacement < 0.4 / cells = 0.100"):
        part.draw(2, 3, generator())
