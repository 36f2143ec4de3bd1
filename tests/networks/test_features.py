from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from monai_ext.networks.backbones.mobilenet_v2 import MobileNetV2Encoder
from monai_ext.networks.features import IMAGENET_MEAN, IMAGENET_STD, MobileNetV2Features, VGG19Features


@pytest.fixture(scope="module")
def mobilenet() -> MobileNetV2Features:
    torch.manual_seed(0)
    return MobileNetV2Features()


def vgg19_state(last_stage: int = 2) -> dict[str, torch.Tensor]:
    """Random values under torchvision's names, up to `last_stage`, half precision, with a classifier."""
    torch.manual_seed(1)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128)}
    state: dict[str, torch.Tensor] = {"classifier.6.bias": torch.zeros(1000).half()}
    for number in list(shapes)[: 2 * last_stage]:
        state[f"features.{number}.weight"] = (0.05 * torch.randn(*shapes[number], 3, 3)).half()
        state[f"features.{number}.bias"] = (0.05 * torch.randn(shapes[number][0])).half()
    return state


def saved(state: dict, tmp_path) -> str:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return str(path)


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


def test_mobilenet_features_are_the_encoders_first_four(mobilenet):
    encoder = MobileNetV2Encoder().eval()
    encoder.features[:14].load_state_dict(mobilenet.features.state_dict())
    image = torch.rand(2, 3, 40, 48)
    given, expected = mobilenet(image), encoder(normalised(image))[:4]
    assert [tuple(maps.shape[1:]) for maps in given] == [(16, 20, 24), (24, 10, 12), (32, 5, 6), (96, 3, 3)]
    for a, b in zip(given, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_mobilenet_weights_come_from_the_file(tmp_path):
    state = {
        name: torch.rand_like(v) if v.is_floating_point() else v
        for name, v in MobileNetV2Encoder().state_dict().items()
    }
    features = MobileNetV2Features(saved(state, tmp_path))
    torch.testing.assert_close(features.features[13].conv[3].weight, state["features.13.conv.3.weight"])


def test_vgg19_features_are_those_of_torchvisions_layout(tmp_path):
    state = vgg19_state()
    image = torch.rand(2, 3, 12, 18)
    w = {name: value.float() for name, value in state.items()}
    x = F.relu(F.conv2d(normalised(image), w["features.0.weight"], w["features.0.bias"], padding=1))
    conv1_2 = F.conv2d(x, w["features.2.weight"], w["features.2.bias"], padding=1)
    x = F.max_pool2d(F.relu(conv1_2), 2)
    x = F.relu(F.conv2d(x, w["features.5.weight"], w["features.5.bias"], padding=1))
    relu2_2 = F.relu(F.conv2d(x, w["features.7.weight"], w["features.7.bias"], padding=1))
    given = VGG19Features(saved(state, tmp_path), layers=("relu2_2", "conv1_2"))(image)
    torch.testing.assert_close(given[0], conv1_2)  # before the activation, and not overwritten by it
    torch.testing.assert_close(given[1], relu2_2)
    assert given[0].min() < 0 == given[1].min()


def test_default_vgg19_features_have_torchvisions_parameters_and_stop_before_the_fifth_pooling():
    network = VGG19Features()
    assert sum(p.numel() for p in network.parameters()) == 20_024_384  # torchvision's vgg19().features
    assert [tuple(maps.shape) for maps in network(torch.rand(1, 3, 32, 48))] == [(1, 512, 2, 3)]
    names = [name for name in network.state_dict() if name.endswith("weight")]
    numbers = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    assert names == [f"features.{number}.weight" for number in numbers]


def test_grey_images_and_chosen_bands_are_shown_as_rgb(mobilenet):
    image = torch.rand(1, 5, 32, 32)
    for a, b in zip(mobilenet(image[:, :1]), mobilenet(image[:, [0, 0, 0]]), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(mobilenet(image), mobilenet(image[:, :3]), strict=True):
        torch.testing.assert_close(a, b)
    infrared = MobileNetV2Features(bands=(4, 2, 1))
    infrared.load_state_dict(mobilenet.state_dict())
    for a, b in zip(infrared(image), mobilenet(image[:, [4, 2, 1]]), strict=True):
        torch.testing.assert_close(a, b)


def test_missing_weights_name_the_address_to_fetch_them_from():
    with pytest.raises(FileNotFoundError, match="weights='no.pth' is no file: fetch the VGG19 .*vgg19-dcbb9e9d.pth"):
        VGG19Features("no.pth")
    with pytest.raises(FileNotFoundError, match="weights='no.pth' is no file: .*mobilenet_v2-b0353104.pth"):
        MobileNetV2Features("no.pth")


def test_weights_of_something_else_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="have no fitting 'features.10.weight': expected .* torchvision's VGG19"):
        VGG19Features(saved(vgg19_state(2), tmp_path), layers=("conv3_1",))


def test_bad_settings_and_images_are_refused(mobilenet):
    with pytest.raises(ValueError, match=r"layers=\('relu6_1',\) must be some of conv1_1"):
        VGG19Features(layers=("relu6_1",))
    with pytest.raises(ValueError, match=r"bands=\(0, 1\) must name three channels"):
        MobileNetV2Features(bands=(0, 1))
    with pytest.raises(ValueError, match=r"image \(1, 2, 32, 32\) must be .* bands=\(0, 1, 2\)"):
        mobilenet(torch.rand(1, 2, 32, 32))
    with pytest.raises(ValueError, match="image of 3 x 9 pixels is too small for these layers: they need 4 x 4"):
        VGG19Features(layers=("relu3_1",))(torch.rand(1, 3, 3, 9))
