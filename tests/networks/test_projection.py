"""The consistency layer against the operator that it wraps, in Python, in TorchScript and in ONNX."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from monai_ext.networks.projection import ConsistencyProjection
from monai_ext.transforms.degradation import Degradation


def images(scale: int, height: int = 9, width: int = 13) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2, 3, height, width, generator=generator)
    return torch.rand(2, 3, scale * height, scale * width, generator=generator), low


@pytest.mark.parametrize(("scale", "blur"), [(2, 0.0), (3, 0.0), (4, 0.0), (4, 1.5)])
def test_the_result_reduces_to_the_input_by_operator_and_by_matrices_alike(scale, blur):
    operator = Degradation(scale, blur=blur)
    layer = ConsistencyProjection(operator)
    high, low = images(scale)
    projected = layer(high, low)
    assert projected.dtype == torch.float32
    torch.testing.assert_close(operator.reduce(projected), low, rtol=0, atol=2e-6 if not blur else 1e-4)
    torch.testing.assert_close(layer.by_matrices(high, low, False), projected, rtol=0, atol=1e-5)


def test_within_keeps_the_range_and_narrows_the_gap_turn_by_turn():
    operator = Degradation(4)
    scene = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(1))
    low = operator.reduce(scene.round())  # black and white: clipping is felt everywhere
    gaps = []
    for iterations in (1, 4, 16):
        layer = ConsistencyProjection(operator, iterations)
        image = layer(torch.zeros_like(scene), low, True)
        assert image.min() >= 0 and image.max() <= 1
        torch.testing.assert_close(layer.by_matrices(torch.zeros_like(scene), low, True), image, rtol=0, atol=1e-5)
        gaps.append((operator.reduce(image) - low).square().mean().item())
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]


def test_no_turns_is_the_plain_projection():
    high, low = images(4)
    layer = ConsistencyProjection(Degradation(4), 0)
    assert torch.equal(layer(high, low, True), layer(high, low))


def test_gradients_are_those_of_a_projection_onto_what_the_reduction_hides():
    operator = Degradation(4)
    high, low = images(4, 5, 6)
    high.requires_grad_()
    slope = torch.rand_like(high)
    (ConsistencyProjection(operator)(high, low) * slope).sum().backward()
    torch.testing.assert_close(high.grad, operator.null_space(slope), rtol=0, atol=1e-5)


def test_it_stays_exact_under_autocast():
    operator = Degradation(4)
    high, low = images(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = ConsistencyProjection(operator)(high, low)
    torch.testing.assert_close(operator.reduce(projected), low, rtol=0, atol=2e-6)


def test_scripted_copy_gives_equal_images_at_any_size():
    layer = ConsistencyProjection(Degradation(4))
    scripted = torch.jit.script(layer)
    for size in ((9, 13), (1, 1), (40, 3)):
        high, low = images(4, *size)
        for within in (False, True):
            torch.testing.assert_close(scripted(high, low, within), layer(high, low, within), rtol=0, atol=1e-5)


def test_onnx_gives_equal_images_at_any_size():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    layer, file = ConsistencyProjection(Degradation(4)), io.BytesIO()

    class Plain(nn.Module):
        def forward(self, high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
            return layer(high, low)

    axes = {"high": {2: "H", 3: "W"}, "low": {2: "h", 3: "w"}, "image": {2: "H", 3: "W"}}
    names = {"input_names": ["high", "low"], "output_names": ["image"], "dynamic_axes": axes}
    torch.onnx.export(Plain(), images(4), file, dynamo=False, **names)
    session = onnxruntime.InferenceSession(file.getvalue())
    high, low = images(4, 12, 7)
    (image,) = session.run(None, {"high": high.numpy(), "low": low.numpy()})
    torch.testing.assert_close(torch.from_numpy(image), layer(high, low), rtol=0, atol=1e-5)


def test_the_kernel_is_not_among_the_weights():
    assert not ConsistencyProjection(Degradation(4)).state_dict()


@pytest.mark.parametrize(
    ("options", "message"), [({"blur": 30.0}, "use a blur of at most 4 pixels"), ({"iterations": -1}, "iterations=-1")]
)
def test_what_cannot_be_done_is_refused(options, message):
    iterations = options.pop("iterations", 4)
    with pytest.raises(ValueError, match=message):
        ConsistencyProjection(Degradation(4, **options), iterations)
