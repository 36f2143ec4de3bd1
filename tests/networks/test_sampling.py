from __future__ import annotations

import torch
from noisy_network import Noisy

from monai_ext.networks.sampling import evaluation_mode, normal_noise, pad_to_multiples


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_evaluation_mode_is_without_gradients():
    network = Noisy().train()
    with evaluation_mode(network):
        assert not network.layers[3].training and not network(torch.randn(1, 1, 4, 4)).requires_grad
    assert network.layers[3].training and torch.is_grad_enabled()


def test_padding_repeats_the_border_at_the_bottom_and_the_right():
    padded = pad_to_multiples(torch.tensor([[[[1.0, 2.0, 3.0]]]]), [2, 2])
    assert padded.tolist() == [[[[1, 2, 3, 3], [1, 2, 3, 3]]]]
    image = torch.randn(1, 1, 4, 6)
    assert torch.equal(pad_to_multiples(image, [2, 2]), image)


def test_noise_is_replayed_by_its_generator():
    first = normal_noise((3, 2), device="cpu", generator=generator(7))
    assert torch.equal(first, torch.randn(3, 2, generator=generator(7)))
