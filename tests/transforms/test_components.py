"""One component kept: which one, what happens to the rest, and what stays as it was."""

from __future__ import annotations

import pytest
import torch

from monai_ext.transforms import KeepCentralComponentd


def blobs(size: tuple[int, int], *boxes: tuple[int, int, int, int, float]) -> torch.Tensor:
    """Map (1, H, W) of 0.1 with boxes (top, bottom, left, right, probability)."""
    probability = torch.full((1, *size), 0.1)
    for top, bottom, left, right, value in boxes:
        probability[0, top:bottom, left:right] = value
    return probability


def kept(probability: torch.Tensor, **options: object) -> torch.Tensor:
    return KeepCentralComponentd("pred", **options)({"pred": probability})["pred"]


def test_the_component_in_the_middle_wins_over_a_larger_one_in_the_corner() -> None:
    probability = blobs((40, 60), (16, 24, 26, 34, 0.9), (0, 10, 0, 10, 0.9))
    mask = kept(probability)[0] > 0.5
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[16:24, 26:34] = True
    assert torch.equal(mask, expected)


def test_without_a_preference_the_larger_sum_above_the_threshold_wins() -> None:
    probability = blobs((40, 60), (16, 24, 26, 34, 0.9), (0, 10, 0, 10, 0.9))
    assert (kept(probability, centre_sigma=None)[0, :10, :10] > 0.5).all()
    unsure = blobs((40, 60), (16, 24, 26, 34, 0.9), (0, 10, 0, 10, 0.7))  # 64 x 0.4 against 100 x 0.2
    assert (kept(unsure, centre_sigma=None)[0, 16:24, 26:34] > 0.5).all()


def test_values_change_only_where_they_must() -> None:
    probability = blobs((40, 40), (14, 26, 14, 26, 0.8), (18, 20, 18, 20, 0.3), (0, 4, 0, 4, 0.95), (30, 32, 5, 9, 0.4))
    result = kept(probability)
    inside = probability.clone()
    inside[0, 18:20, 18:20] = 0.5
    inside[0, 0:4, 0:4] = 0.5
    assert torch.allclose(result, inside, rtol=0, atol=1e-6)
    assert (result[0, 18:20, 18:20] > 0.5).all()
    assert (result[0, 0:4, 0:4] < 0.5).all()
    assert torch.equal(result[inside != 0.5], probability[inside != 0.5])
    assert probability[0, 0, 0] == pytest.approx(0.95)  # the input is not written to


def test_diagonal_neighbours_are_one_component() -> None:
    probability = blobs((8, 8), (3, 4, 3, 4, 0.9), (4, 5, 4, 5, 0.9))
    assert int((kept(probability) > 0.5).sum()) == 2


def test_mirrored_pictures_give_mirrored_results() -> None:
    probability = torch.rand((1, 31, 47), generator=torch.Generator().manual_seed(3))
    for dims in ((1,), (2,), (1, 2)):
        assert torch.equal(kept(probability.flip(dims)), kept(probability).flip(dims))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_keeps_its_type_and_its_side_of_the_threshold(dtype: torch.dtype) -> None:
    probability = blobs((20, 20), (8, 12, 8, 12, 0.9), (0, 3, 0, 3, 0.9)).to(dtype)
    result = kept(probability, threshold=0.4)
    assert result.dtype == dtype
    assert int((result > 0.4).sum()) == 16


def test_empty_maps_and_every_channel_alone() -> None:
    assert torch.equal(kept(blobs((9, 9))), blobs((9, 9)))
    two = torch.cat([blobs((9, 9), (0, 2, 0, 2, 0.9)), blobs((9, 9), (4, 5, 4, 5, 0.9))])
    assert torch.equal(kept(two) > 0.5, two > 0.5)


def test_switched_off_it_passes_everything_through() -> None:
    probability = blobs((20, 20), (8, 12, 8, 12, 0.9), (0, 3, 0, 3, 0.9))
    assert torch.equal(kept(probability, enabled="false"), probability)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"threshold": 1.0}, "threshold=1.0 must lie"), ({"centre_sigma": 0.0}, "centre_sigma=0.0 must be above 0")],
)
def test_bad_settings_are_named(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        KeepCentralComponentd("pred", **options)


def test_a_map_of_another_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"'pred' must be a map \(C, H, W\), not of shape \(4, 4\)"):
        kept(torch.rand(4, 4))
