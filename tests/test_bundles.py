"""Every bundle under bundles/, every check; a new bundle is covered without being named here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_net_in_out

REPOSITORY = Path(__file__).parents[1]
BUNDLES = sorted(path for path in (REPOSITORY / "bundles").iterdir() if (path / "configs").is_dir())
WORKFLOWS = {"train": "train", "inference": "infer"}
SCHEMA_REQUIRES = (
    "schema version monai_version pytorch_version numpy_version required_packages_version task description authors "
    "copyright network_data_format name changelog"
).split()
LARGEST_FILE = 25_000_000  # bytes, the model zoo's limit

bundles = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
workflows = pytest.mark.parametrize("kind", WORKFLOWS)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@bundles
def test_files_that_the_model_zoo_asks_for_are_there(bundle):
    configs = ("metadata.json", "train.json", "inference.json", "evaluate.json", "demo.json", "logging.conf")
    needed = ["LICENSE", "docs/README.md", *(f"configs/{name}" for name in configs)]
    assert not [name for name in needed if not (bundle / name).is_file()]
    assert re.fullmatch(r"[a-z0-9_]+", bundle.name)


@bundles
def test_no_file_exceeds_the_model_zoos_limit(bundle):
    assert not [path for path in bundle.rglob("*") if path.is_file() and path.stat().st_size > LARGEST_FILE]


@bundles
def test_metadata_has_what_schema_and_zoo_require(bundle):
    metadata = read(bundle / "configs" / "metadata.json")
    assert not [key for key in SCHEMA_REQUIRES if key not in metadata]
    assert metadata["version"] in metadata["changelog"]
    for direction, name in (("inputs", "image"), ("outputs", "pred")):
        tensor = metadata["network_data_format"][direction][name]
        assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= set(tensor)


@bundles
def test_metadata_satisfies_the_published_schema(bundle):
    schema = os.environ.get("MONAI_BUNDLE_SCHEMA")
    if not schema:
        pytest.skip("needs the model zoo's schema file: set MONAI_BUNDLE_SCHEMA to meta_schema_20240725.json")
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(read(bundle / "configs" / "metadata.json"), read(Path(schema)))


@bundles
def test_packages_named_in_the_metadata_are_the_constrained_ones(bundle):
    constrained = {}
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        if "==" in line and '< "3.11"' not in line:
            name, version = line.split(";")[0].strip().split("==")
            constrained[name.lower()] = version
    metadata = read(bundle / "configs" / "metadata.json")
    named = metadata["required_packages_version"] | {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
    }
    assert {k: v for k, v in named.items() if k.lower() in constrained and constrained[k.lower()] != v} == {}


@bundles
def test_no_config_holds_a_path_of_somebodys_machine(bundle):
    for path in bundle.glob("configs/*.json"):
        assert not re.search(r'"/(home|root|work|tmp|Users|workspace)', path.read_text()), path.name


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda path: path.name)
def bundle_and_data(request, tmp_path_factory) -> tuple[Path, str, str]:
    """A bundle, a few phantoms as its data set, and the folder among them that inference reads."""
    folder = tmp_path_factory.mktemp("data")
    parser = ConfigParser()
    parser.read_config([str(request.param / "configs" / name) for name in ("train.json", "demo.json")])
    parser.update({"dataset_dir": str(folder), "phantom_count": 24})
    parser.get_parsed_content("phantoms")
    return request.param, str(folder), parser.get_parsed_content("phantom_images")


@workflows
def test_properties_are_complete(bundle_and_data, kind, tmp_path):
    bundle, training_data, images = bundle_and_data
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / f"{kind}.json"),
        workflow_type=WORKFLOWS[kind],
        bundle_root=str(bundle),
        dataset_dir=training_data if kind == "train" else images,
        output_dir=str(tmp_path),
        batch_size=4,
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@bundles
def test_training_and_inference_build_the_same_network_from_the_same_numbers(bundle):
    train, inference = (read(bundle / "configs" / f"{kind}.json") for kind in WORKFLOWS)
    differing = {key for key in set(train["network_def"]) & set(inference["network_def"])} & {
        key for key in train["network_def"] if train["network_def"].get(key) != inference["network_def"].get(key)
    }
    assert not differing
    assert not [key for key in ("mean", "std", "spatial_size") if train.get(key) != inference.get(key)]


@bundles
def test_network_fits_its_metadata(bundle):
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
    )


@bundles
def test_network_exports_to_torchscript_with_equal_output(bundle, tmp_path):
    parser = ConfigParser(read(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
    )
    channels = read(bundle / "configs" / "metadata.json")["network_data_format"]["inputs"]["image"]["num_channels"]
    image = torch.rand(1, channels, 64, 96)
    exported = torch.jit.load(tmp_path / "model.ts").eval()
    answers = []
    for each in (exported, network):
        torch.manual_seed(0)  # some networks draw
        with torch.no_grad():
            answers.append(each(image))
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)


LOAD = """
import sys, torch
from monai.bundle import load
for kind in ("train", "inference"):
    network = load("{name}", bundle_dir="{folder}", workflow_type=kind, source="github", device="cpu")
    assert isinstance(network, torch.nn.Module), type(network)
    print(kind, sum(p.numel() for p in network.parameters()))
"""


@bundles
def test_another_project_in_another_folder_loads_the_network(bundle, tmp_path):
    root = tmp_path / "somewhere"
    root.mkdir()
    target = root / bundle.name
    target.symlink_to(bundle)
    if not (bundle / "models" / "model.pt").is_file():
        pytest.skip(f"{bundle.name} ships no weights, which monai.bundle.load asks for")
    code = LOAD.format(name=bundle.name, folder=root)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line.split()[:1] in (["train"], ["inference"])] == [
        "train",
        "inference",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["somewhere"]  # loading writes nothing


@bundles
def test_shipped_weights_fit_the_network_and_are_finite(bundle):
    path = bundle / "models" / "model.pt"
    if not path.is_file():
        pytest.skip(f"{bundle.name} ships no weights")
    parser = ConfigParser(read(bundle / "configs" / "inference.json"))
    network = parser.get_parsed_content("network_def")
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert all(value.isfinite().all() for value in state.values())
    network.load_state_dict(state)
