"""What holds for every piece of the methods for several raters, in 2-D and in 3-D.

A volume whose slices are all alike is the image in three axes: scores and losses of it are those of the image, and so
are the samples of a network that treats slices apart. Axes of the same length (depth = raters = samples) must not be
taken for each other, and space may be turned without any effect.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from monai_ext.engines import RATER_METHODS, RaterEvaluator, RaterInferer, named_rater_loss, rater_network
from monai_ext.formulas import votes
from monai_ext.handlers.raters.scores import prediction_scores
from monai_ext.losses import ELBOLoss, samples_alike
from monai_ext.metrics import calibration_bins, head_sums
from monai_ext.networks import ProbabilisticUNet, draw_heads, level_sets
from monai_ext.networks.ensembles import MonteCarloDropout
from monai_ext.transforms.raters import pick_rater

RATERS = 3
SLICE_BY_SLICE = (1, 1, 1e6)  # a spacing at which slices are neither convolved with each other nor halved
DEPTHS = [1, RATERS, 5]
PRESENCE = torch.tensor([[True, False, True], [True, True, True]])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def networks_of(method: str, **settings) -> nn.Module:
    torch.manual_seed(0)
    if method == "prob_unet_faithful":
        return ProbabilisticUNet(features=(4, 4, 4, 4, 4), norm=("group", {"num_groups": 2}), **settings)
    return rater_network(method, raters=RATERS, features=2, members=2, **settings)


def as_slices(image: Tensor, depth: int) -> Tensor:
    return image[..., None].repeat(*[1] * image.ndim, depth)


def in_3d(network: nn.Module, flat: nn.Module) -> nn.Module:
    """`network`, of volumes, with the weights of `flat`, of images."""
    own = network.state_dict()
    network.load_state_dict(
        {name: value.reshape(own[name].shape) for name, value in flat.state_dict().items()}, strict=True
    )
    return network


@pytest.mark.parametrize("method", [*RATER_METHODS, "prob_unet_faithful"])
def test_a_network_of_thick_slices_answers_to_equal_slices_as_to_the_image(method):
    flat = networks_of(method).eval()
    deep = in_3d(networks_of(method, spatial_dims=3, spacing=SLICE_BY_SLICE), flat).eval()
    image = torch.rand(2, 1, 9, 14, generator=generator())
    for depth in (1, RATERS):
        expected, found = (
            network.predict(x, depth, generator=generator())
            for network, x in ((flat, image), (deep, as_slices(image, depth)))
        )
        assert found.samples.shape == (2, depth, 9, 14, depth)
        if isinstance(flat, MonteCarloDropout) and depth > 1:
            continue  # dropout is drawn for each voxel
        torch.testing.assert_close(found.share, as_slices(expected.share, depth))
        if method in ("hierarchical", "ssn") and depth > 1:
            continue  # so is their noise
        wrong = ((found.samples - as_slices(expected.samples, depth)).abs() > 1e-4).float().mean()
        assert wrong < 1e-3  # a level may lie on the last digit of a map


@pytest.mark.parametrize("method", [*RATER_METHODS, "prob_unet_faithful"])
def test_a_network_of_volumes_takes_any_size_and_learns(method):
    size = (9, 7, 1)
    network = networks_of(method, spatial_dims=3, spacing=(1, 1, 2.5))
    image = torch.rand(1, 1, *size, generator=generator())
    masks = (torch.rand(1, RATERS, *size, generator=generator(1)) > 0.5).byte()
    target = {"masks": masks, "presence": PRESENCE[:1]}
    if method == "prob_unet_faithful":
        loss = ELBOLoss()(network(image, masks[:, :1]), masks[:, :1])
    else:
        given = (image, target) if getattr(network, "learns_from_samples", False) else (image,)
        loss = named_rater_loss(method, "tversky_bce")(network(*given), target)
    loss.backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    assert sum(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients) > len(gradients) // 2
    assert network.sample(image, size[2]).shape == (1, size[2], *size)


def test_images_and_volumes_are_not_mixed_up():
    with pytest.raises(ValueError, match="spatial_dims=2"):
        networks_of("soft_label")(torch.zeros(1, 1, 8, 8, 8))
    with pytest.raises(ValueError, match="an image of 4 axes for a network of 3 spatial ones"):
        networks_of("prob_unet_faithful", spatial_dims=3)(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="encoder of photographs"):
        rater_network("ordered", raters=1, backbone="mobilenet_v2", spacing=(1, 2))


def elbo(logits: Tensor, masks: Tensor, presence: Tensor) -> Tensor:
    """Per voxel, since the bound is a sum."""
    gaussian = torch.zeros(len(logits), 2, 6)
    output = {"logits": logits[:, :1], "prior": gaussian, "posterior": gaussian}
    return ELBOLoss()(output, masks[:, :1].float()) / logits[0, 0].numel()


def of_target(loss: nn.Module, logits: Tensor, masks: Tensor, presence: Tensor) -> Tensor:
    return loss(logits, {"masks": masks, "presence": presence})


def of_scores(logits: Tensor, masks: Tensor, presence: Tensor) -> list[Tensor]:
    """Every score of a case, with as many heads as raters and as many samples."""
    heads = logits.sigmoid()
    scores = prediction_scores(
        torch.cat([heads.mean(1, keepdim=True), heads, heads], dim=1), masks, presence=presence, heads=RATERS
    )
    return list(scores.values())


def of_pixels(logits: Tensor, masks: Tensor, presence: Tensor) -> list[Tensor]:
    """Sums over pixels, per pixel."""
    probability = logits.sigmoid()
    bins = calibration_bins(probability, masks, presence=presence)
    count = logits[0, 0].numel()
    return [values / count for values in (*bins[:3], head_sums(probability, masks, presence=presence))]


PIECES = {
    **{
        method: partial(of_target, named_rater_loss(method, "tversky_bce"))
        for method in ("heads", "majority", "ordered")
    },
    "elbo": elbo,
    "scores": of_scores,
    "sums": of_pixels,
    "samples_alike": lambda logits, masks, presence: samples_alike(logits.sigmoid()),
}


def values_of(piece, logits: Tensor, masks: Tensor, presence: Tensor) -> list[Tensor]:
    found = piece(logits, masks, presence)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_losses_and_scores_of_equal_slices_are_those_of_the_image(piece):
    logits = torch.randn(2, RATERS, 6, 5, generator=generator())
    masks = (logits + torch.randn(logits.shape, generator=generator(1)) > 0.5).byte()
    expected = values_of(piece, logits, masks, PRESENCE)
    for depth in DEPTHS:
        found = values_of(piece, as_slices(logits, depth), as_slices(masks, depth), PRESENCE)
        torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES)
def test_losses_and_scores_do_not_depend_on_the_order_of_the_spatial_axes(piece):
    logits = torch.randn(2, RATERS, 3, 4, RATERS, generator=generator())
    masks = (logits + torch.randn(logits.shape, generator=generator(1)) > 0.5).byte()
    expected = values_of(piece, logits, masks, PRESENCE)
    for order in ((0, 1, 4, 2, 3), (0, 1, 3, 4, 2)):
        found = values_of(piece, logits.permute(order), masks.permute(order), PRESENCE)
        torch.testing.assert_close(found, expected, equal_nan=True)


def level(probability: Tensor) -> Tensor:
    return level_sets(probability[:, :1], RATERS)


OF_MAPS = {
    "level_sets": level,
    "draw_heads": lambda maps: draw_heads(maps, RATERS + 1, generator=generator()),
    "pick_rater": lambda maps: pick_rater(maps, PRESENCE, torch.tensor([0.9, 0.5])),
    "votes": lambda maps: votes.rater_votes(maps > 0.5, presence=PRESENCE)[0][:, None],
    "consensus_mask": lambda maps: votes.consensus_mask(maps > 0.5, presence=PRESENCE)[:, None],
}


@pytest.mark.parametrize("function", OF_MAPS.values(), ids=OF_MAPS)
def test_maps_of_a_volume_are_those_of_its_slices(function):
    maps = torch.rand(2, RATERS, 4, 5, RATERS, generator=generator())
    of_volume = function(maps)
    for z in range(RATERS):
        assert torch.equal(of_volume[..., z], function(maps[..., z]))


def test_predictions_of_a_volume_are_scored_on_the_grid_of_its_masks():
    """The network sees another spacing and the first axis in the other direction; the masks are those of the file."""
    image = torch.rand(1, 1, 4, 4, 2, generator=generator())
    original, affine = np.diag([-1.0, 1, 1, 1]), np.diag([1.0, 1, 0.5, 1])
    original[0, 3], affine[2, 3] = 3, -0.25
    batch = {"id": ["case"], "image": image.flip(2).repeat_interleave(2, dim=-1), "presence": torch.ones(1, 1) > 0}
    batch |= {"label": (image > 0.5).byte(), "label_is_whole": torch.tensor([True])}
    batch |= {"affine": torch.from_numpy(affine)[None], "original_affine": torch.from_numpy(original)[None]}
    network = rater_network("soft_label", raters=1, features=2, spatial_dims=3)
    network.network = Logit()
    evaluator = RaterEvaluator("cpu", [batch], network, inferer=RaterInferer(2, window=(2, 4, 4), overlap=0))
    found = {}
    evaluator.add_event_handler(
        "ITERATION_COMPLETED", lambda e: found.update(e.state.output["pred"], batch=e.state.batch)
    )
    evaluator.run()
    torch.testing.assert_close(found["probability"], image, atol=1e-3, rtol=0)
    assert torch.equal(found["samples"][:, 0], (found["probability"][:, 0] > 0.25).half())
    assert "affine" not in found["batch"]  # or the writer would move them again


class Logit(nn.Module):
    """Logits whose probabilities are the image."""

    def forward(self, image: Tensor) -> Tensor:
        return image.clamp(1e-6, 1 - 1e-6).logit()
