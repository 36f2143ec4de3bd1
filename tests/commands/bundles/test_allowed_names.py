"""The list of names that a bundle may use."""

from __future__ import annotations

import importlib
import inspect
from contextlib import suppress
from functools import reduce

import pytest

from monai_ext.commands.bundles.allowed_names import ATTRIBUTES, is_allowed_name, is_allowed_target, listed_names


def found(name: str) -> object:
    """What the dotted `name` stands for."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        with suppress(ModuleNotFoundError):
            return reduce(getattr, parts[count:], importlib.import_module(".".join(parts[:count])))
    raise AssertionError(name)


def test_every_name_of_the_list_is_there_and_no_module():
    """A module could be gone on from; a name that does not exist would be a slip of the pen."""
    for name in sorted(listed_names()):
        assert not inspect.ismodule(found(name)), name


def test_no_allowed_attribute_leads_from_a_listed_name_to_a_module_or_the_system():
    system = {"os", "posix", "subprocess", "shutil", "importlib", "sys", "io", "pickle", "_pickle", "runpy", "pydoc"}
    for name in sorted(listed_names()):
        for attribute in ATTRIBUTES & set(dir(found(name))):
            value = getattr(found(name), attribute)
            assert not inspect.ismodule(value) and getattr(value, "__module__", "") not in system, (name, attribute)


@pytest.mark.parametrize(
    ("name", "target", "expression"),
    [
        ("UNet", True, False),
        ("monai.networks.nets.unet.UNet", True, True),
        ("monai.data.utils.list_data_collate", True, True),
        ("monai_ext.networks.SRResNet", True, True),
        ("LoadImaged", True, False),
        ("monai.transforms.LoadImaged", True, False),
        ("os.path.LoadImaged", False, False),
        ("monai_ext.data.TileClient", False, False),
        ("monai_ext.handlers.training.provenance.subprocess.Popen", False, False),
        ("monai_ext.data.fetch_tiles", False, False),
        ("monai.networks.nets.unet.torch", False, False),
        ("run_cmd", False, False),
        ("torch.load", False, True),
        ("torch", False, False),
    ],
)
def test_targets_and_names_of_expressions_have_lists_of_their_own(name, target, expression):
    assert (is_allowed_target(name), is_allowed_name(name)) == (target, expression)
