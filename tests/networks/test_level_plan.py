from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet

from monai_ext.networks.level_plan import plan_levels, shape_basic_unet


def test_cubes_are_convolved_and_halved_along_all_axes():
    plan = plan_levels(3)
    assert plan.kernels == [(3, 3, 3)] * 5 and plan.strides == [(2, 2, 2)] * 4
    assert plan.multiples == [16, 16, 16] and plan.is_isotropic


def test_thick_slices_wait_until_their_spacing_is_below_twice_the_others():
    # 5 mm against 1, 2 and 4 mm of the first levels: below twice the smallest from the third level on, as in nnU-Net
    plan = plan_levels(3, spacing=(1, 1, 5))
    assert plan.kernels == [(3, 3, 1)] * 2 + [(3, 3, 3)] * 3
    assert plan.strides == [(2, 2, 1)] * 2 + [(2, 2, 2)] * 2
    assert plan.multiples == [16, 16, 4] and not plan.is_isotropic


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, float("nan"))])
def test_spacings_are_one_positive_number_an_axis(spacing):
    with pytest.raises(ValueError, match="must be 3 numbers above 0"):
        plan_levels(3, spacing=spacing)
    with pytest.raises(ValueError, match="spatial_dims=4 must be 2 or 3"):
        plan_levels(4)


def test_a_basic_unet_gets_kernels_and_strides_of_its_plan():
    network = BasicUNet(3, 1, 1, features=(4, 4, 4, 4, 4, 4), norm=("group", {"num_groups": 2}))
    shape_basic_unet(network, plan_levels(3, spacing=(1, 1, 3)))
    kernels = {name: layer.kernel_size for name, layer in network.named_modules() if isinstance(layer, torch.nn.Conv3d)}
    flat = {name for name, kernel in kernels.items() if kernel == (3, 3, 1)}
    assert flat == {f"{block}.conv_{i}.conv" for block in ("conv_0", "upcat_1.convs") for i in (0, 1)}
    assert kernels.pop("final_conv") == (1, 1, 1) and {kernels[name] for name in kernels.keys() - flat} == {(3, 3, 3)}
    assert network(torch.rand(1, 1, 16, 16, 8)).shape == (1, 1, 16, 16, 8)
