from __future__ import annotations

import torch
from torch import nn

from monai_ext.networks import MobileNetV2UNet, folded_batch_norms, merge_batch_norms, unfold_batch_norm


def folded(module: nn.Module) -> nn.Module:
    """Fold every BatchNorm of a sequence of conv, norm pairs into its convolution, as deployment tools do."""
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        for conv, norm in zip(convolutions, norms, strict=True):
            gain = norm.weight / (norm.running_var + norm.eps).sqrt()
            norm.bias.sub_(norm.running_mean * gain)
            # evaluation divides by sqrt(1 + eps): part of the folding
            conv.weight.mul_(gain[:, None, None, None] * (1 + norm.eps) ** 0.5)
            norm.weight.fill_(1), norm.running_mean.zero_(), norm.running_var.fill_(1)
    return module


def trained_like(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 4, 3, bias=False), nn.BatchNorm2d(4)
    )
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.2, 3.0)
            nn.init.normal_(layer.bias)
    module.train()
    for _ in range(200):
        module(torch.randn(16, 3, 12, 12) * 2 + 1)
    return module.eval()


def test_unfolding_keeps_the_evaluation_output():
    module = folded(trained_like())
    images = torch.randn(64, 3, 12, 12) * 2 + 1
    before = module(images)
    assert unfold_batch_norm(module, images) == 2
    torch.testing.assert_close(module(images), before, rtol=1e-4, atol=1e-4)
    assert not folded_batch_norms(module)


def test_unfolding_gives_training_mode_the_function_of_evaluation_mode():
    module = folded(trained_like())
    images = torch.randn(64, 3, 12, 12) * 2 + 1
    expected = module(images)
    wiped = (module.train()(images) - expected).abs().mean()
    module = folded(trained_like())
    unfold_batch_norm(module, images)
    restored = (module.train()(images) - expected).abs().mean()
    assert restored < 0.02 * wiped


def test_unfolding_recovers_gain_and_statistics_of_the_original():
    original, module = trained_like(), folded(trained_like())
    unfold_batch_norm(module, torch.randn(512, 3, 12, 12) * 2 + 1)
    torch.testing.assert_close(module[1].weight, original[1].weight, rtol=0.05, atol=0.02)
    torch.testing.assert_close(module[1].bias, original[1].bias, rtol=0.05, atol=0.05)


def test_fresh_and_ordinary_batch_norms_are_left_alone():
    fresh = nn.BatchNorm2d(3)
    assert not folded_batch_norms(nn.Sequential(fresh))
    assert unfold_batch_norm(trained_like(), torch.rand(2, 3, 12, 12)) == 0


@torch.no_grad()
def test_merged_networks_compute_what_they_did():
    network = MobileNetV2UNet(width=0.25, decoder_channels=(16, 16, 8, 8, 8)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2), nn.init.uniform_(layer.running_var, 0.5, 2)
    images = torch.randn(2, 3, 40, 33)
    before = network(images)
    count = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    assert merge_batch_norms(network) == count > 50
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    torch.testing.assert_close(network(images), before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    assert merge_batch_norms(network) == 0


def test_norms_that_follow_something_else_are_not_merged():
    class Backwards(nn.Sequential):
        def forward(self, x):
            return self[0](self[1](x))

    alone = nn.BatchNorm2d(2)
    for module in (
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), alone),
        Backwards(nn.Conv2d(2, 2, 1), alone),
        nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
        nn.ModuleList([nn.Conv2d(2, 2, 1), alone]),
    ):
        assert merge_batch_norms(module.eval()) == 0
