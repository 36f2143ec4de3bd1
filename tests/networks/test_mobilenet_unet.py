from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from monai.networks.nets import FlexibleUNet
from torch import nn

from monai_ext.networks import MobileNetV2Encoder, MobileNetV2UNet, folded_batch_norms, unfold_batch_norm
from monai_ext.networks.backbones.mobilenet_v2 import WIDTHS
from monai_ext.networks.backbones.weights import read_weights


def torchvision_state_dict(in_channels: int = 3, classes: int = 10) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of torchvision's `mobilenet_v2`, random values."""
    own = MobileNetV2Encoder(in_channels).state_dict()
    state = {k: torch.rand_like(v) + 0.1 if v.is_floating_point() else v + 7 for k, v in own.items()}
    state |= {"features.18.0.weight": torch.rand(1280, 320, 1, 1), "classifier.1.weight": torch.rand(classes, 1280)}
    return state


def saved(state: dict, tmp_path) -> str:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return str(path)


def test_encoder_has_the_parameter_names_and_count_of_torchvision():
    encoder = MobileNetV2Encoder()
    names = list(encoder.state_dict())
    assert names[0] == "features.0.0.weight"
    assert "features.1.conv.0.0.weight" in names and "features.1.conv.2.running_var" in names
    assert "features.17.conv.3.bias" in names and "features.2.conv.1.0.weight" in names
    # torchvision's mobilenet_v2 has 3,504,872 parameters: less features.18 (412,160) and the classifier (1,281,000)
    assert sum(p.numel() for p in encoder.parameters()) == 3_504_872 - (320 * 1280 + 2 * 1280) - (1280 * 1000 + 1000)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_published_width_gives_five_features_each_half_as_large(width):
    features = MobileNetV2Encoder(width=width)(torch.rand(1, 3, 64, 96))
    assert [tuple(f.shape[2:]) for f in features] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
    announced = MobileNetV2Encoder.num_channels_per_output()[WIDTHS.index(width)]
    assert tuple(f.shape[1] for f in features) == announced


def test_encoder_is_registered_as_a_backbone_of_monais_flexible_unet():
    assert FlexibleUNet(3, 2, "mobilenet_v2_0.25")(torch.rand(1, 3, 32, 64)).shape == (1, 2, 32, 64)


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 64), (50, 97)])
def test_output_has_the_size_of_the_input(size):
    network = MobileNetV2UNet(out_channels=2, width=0.25).eval()
    assert network(torch.rand(2, 3, *size)).shape == (2, 2, *size)


def test_padding_is_cropped_back_exactly():
    network = MobileNetV2UNet(width=0.25).eval()
    image = torch.rand(1, 3, 40, 70)
    padded = torch.nn.functional.pad(image, (0, 26, 0, 24), mode="replicate")
    torch.testing.assert_close(network(image), network(padded)[..., :40, :70])


def test_official_weights_load_and_the_classifier_is_dropped(tmp_path):
    state = torchvision_state_dict()
    network = MobileNetV2UNet(encoder_weights=saved(state, tmp_path))
    for name, value in network.encoder.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_half_precision_weights_are_widened(tmp_path):
    state = {name: value.half() for name, value in torchvision_state_dict().items()}
    network = MobileNetV2UNet(encoder_weights=saved(state, tmp_path))
    assert next(network.encoder.parameters()).dtype == torch.float32


@pytest.mark.parametrize("channels", [1, 5])
def test_other_channel_counts_repeat_the_rgb_kernels_and_keep_the_response_to_equal_channels(channels, tmp_path):
    state = torchvision_state_dict()
    network = MobileNetV2UNet(in_channels=channels, encoder_weights=saved(state, tmp_path))
    kernel = network.encoder.features[0][0].weight
    assert kernel.shape[1] == channels
    torch.testing.assert_close(kernel[:, 0], state["features.0.0.weight"][:, 0] * 3 / channels)


def test_weights_of_another_width_are_refused_by_name(tmp_path):
    path = saved(torchvision_state_dict(), tmp_path)
    with pytest.raises(ValueError, match=r"'features.*' has shape .* choose the `width`"):
        MobileNetV2UNet(width=0.5, encoder_weights=path)


def test_a_state_dict_of_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lack 'features.0.0.weight'"):
        MobileNetV2UNet(encoder_weights=saved({"conv.weight": torch.rand(3)}, tmp_path))


def test_a_damaged_weight_file_is_refused(tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="is damaged and cannot be read"):
        MobileNetV2UNet(encoder_weights=tmp_path / "weights.pth")


def test_a_missing_weight_file_names_the_file_to_fetch():
    with pytest.raises(FileNotFoundError, match="nowhere.pth.*mobilenet_v2-b0353104.pth"):
        MobileNetV2UNet(encoder_weights="nowhere.pth")


def test_imagenet_without_network_names_the_file_to_fetch(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(FileNotFoundError, match="mobilenet_v2-b0353104.pth.*encoder_weights"):
        read_weights("imagenet")


def test_a_damaged_download_is_told_from_a_missing_network(monkeypatch, tmp_path):
    def other_bytes(*args, **kwargs):
        raise RuntimeError('invalid hash value (expected "b0353104", got "00")')

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", other_bytes)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="downloaded from https://.* is not that file .invalid hash value"):
        read_weights("imagenet")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="b0353104.pth', in torch hub's cache, is damaged: remove it"):
        read_weights("imagenet")


def test_unknown_width_is_refused():
    with pytest.raises(ValueError, match=r"width=0.9 .* choose one of"):
        MobileNetV2UNet(width=0.9)


def test_scripted_and_traced_networks_agree_with_eager_at_another_size():
    network = MobileNetV2UNet(width=0.25).eval()
    image = torch.rand(1, 3, 45, 70)
    expected = network(image)
    torch.testing.assert_close(torch.jit.script(network)(image), expected)
    traced = torch.jit.trace(network, torch.rand(1, 3, 64, 64))
    torch.testing.assert_close(traced(image), expected)


def test_onnx_export_with_dynamic_sizes_agrees_with_eager():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network = MobileNetV2UNet(width=0.25).eval()
    buffer = io.BytesIO()
    axes = {0: "N", 2: "H", 3: "W"}
    torch.onnx.export(
        network,
        (torch.rand(1, 3, 64, 64),),
        buffer,
        dynamo=False,
        input_names=["image"],
        output_names=["pred"],
        dynamic_axes={"image": axes, "pred": axes},
    )
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    image = torch.rand(2, 3, 45, 70)
    given = session.run(None, {"image": image.numpy()})[0]
    np.testing.assert_allclose(given, network(image).detach().numpy(), atol=1e-4)


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


def test_frozen_norms_stay_as_they_were_loaded_while_all_else_learns(tmp_path):
    source = MobileNetV2UNet(width=0.25)
    torch.manual_seed(0)
    for layer in source.encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.bias.data.normal_()
    path = saved(source.encoder.state_dict(), tmp_path)
    network = MobileNetV2UNet(width=0.25, encoder_weights=path, frozen_norm=True).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    kept = {name for name, value in network.state_dict().items() if torch.equal(value, before[name])}
    norms = {name for name, layer in network.encoder.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert {f"encoder.{name}.{part}" for name in norms for part in ("running_mean", "weight", "bias")} <= kept
    assert "encoder.features.0.0.weight" not in kept and not network.eval().encoder.training
    assert network.train().decoder.blocks[0].training and network.encoder.training
