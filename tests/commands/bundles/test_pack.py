"""`python -m monai_ext pack`: the same bytes each time, what MONAI reads and nothing else, large weights by hash."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from killing import forked
from monai.apps.utils import HashCheckError
from monai.bundle import download, download_large_files, load_bundle_config
from tile_server import serving

from monai_ext.commands.bundles import pack
from monai_ext.commands.bundles.pack import PackError, PackOptions, pack_bundle
from monai_ext.storage.files import atomic_path

BUNDLE = Path(__file__).parents[3] / "bundles" / "lesion_unet"


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A copy of a bundle with tiny weights."""
    copy = tmp_path / "source" / "lesion_unet"
    shutil.copytree(BUNDLE, copy, ignore=shutil.ignore_patterns("*.pt", "*.png", "__pycache__"))
    (copy / "models").mkdir(exist_ok=True)
    torch.save({"weight": torch.arange(3.0)}, copy / "models" / "model.pt")
    return copy


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_the_same_files_give_the_same_bytes(bundle, tmp_path):
    first = pack_bundle(bundle, tmp_path / "a")
    again = tmp_path / "elsewhere" / "lesion_unet"
    shutil.copytree(bundle, again)
    for path in again.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o755)
    second = pack_bundle(again, tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == second.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()


def test_card_licence_configs_and_weights_are_packed_and_nothing_else(bundle, tmp_path):
    for name in ("runs/x/last.pt", "eval/mask.png", "configs/.hidden.json", "configs/__pycache__/a.json", "notes.txt"):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text("{}")
    packed = pack_bundle(bundle, tmp_path)
    given = names(packed.path)
    configs = sorted(f"lesion_unet/configs/{path.name}" for path in (BUNDLE / "configs").iterdir() if path.is_file())
    wanted = ["lesion_unet/LICENSE", *configs, "lesion_unet/docs/README.md", "lesion_unet/models/model.pt"]
    assert given == sorted(wanted) and packed.has_weights and packed.large == ()
    assert [path.name for path in tmp_path.glob("*.zip")] == ["lesion_unet.zip"]


def test_monai_reads_configs_and_metadata_from_the_zip(bundle, tmp_path):
    parser = load_bundle_config(str(pack_bundle(bundle, tmp_path).path), "inference.json")
    assert parser["_meta_#network_data_format#inputs#image#num_channels"] == 3
    assert parser["network_def#_target_"] == "monai_ext.networks.MobileNetV2UNet"


def test_weights_of_a_run_can_be_packed_and_missing_ones_are_told(bundle, tmp_path, capsys):
    (bundle / "models" / "model.pt").rename(tmp_path / "final.pt")
    assert not pack_bundle(bundle, tmp_path).has_weights
    assert pack.run(PackOptions((bundle,), tmp_path)) == 0
    assert "without weights" in capsys.readouterr().err
    packed = pack_bundle(bundle, tmp_path, weights=tmp_path / "final.pt")
    assert "lesion_unet/models/model.pt" in names(packed.path)


def test_large_weights_stay_outside_and_monai_fetches_them_by_their_hash(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LARGEST_FILE", 100_000)
    torch.save({"weight": torch.arange(50_000.0)}, bundle / "models" / "model.pt")
    with pytest.raises(PackError, match=r"model.pt has .* more than the 100,000 .* give --url"):
        pack_bundle(bundle, tmp_path)
    server = tmp_path / "server"
    packed = pack_bundle(bundle, tmp_path, url=server.as_uri())
    assert packed.large == ((bundle / "models" / "model.pt").resolve(),) and packed.has_weights
    assert "lesion_unet/models/model.pt" not in names(packed.path)
    (server / "lesion_unet" / "models").mkdir(parents=True)
    shutil.copy(packed.large[0], server / "lesion_unet" / "models")

    with zipfile.ZipFile(packed.path) as archive:
        archive.extractall(tmp_path / "unpacked")
        entry = json.loads(archive.read("lesion_unet/large_files.json"))["large_files"][0]
    assert entry["hash_type"] == "sha256" and entry["path"] == "models/model.pt"
    download_large_files(bundle_path=str(tmp_path / "unpacked" / "lesion_unet"))
    fetched = tmp_path / "unpacked" / "lesion_unet" / "models" / "model.pt"
    assert fetched.read_bytes() == packed.large[0].read_bytes()

    fetched.unlink()
    (server / "lesion_unet" / "models" / "model.pt").write_bytes(b"something else")
    with pytest.raises(HashCheckError, match="sha256"):
        download_large_files(bundle_path=str(tmp_path / "unpacked" / "lesion_unet"))

    (bundle / "large_files.json").write_text(json.dumps({"large_files": [entry]}))  # a second release needs no --url
    assert pack_bundle(bundle, tmp_path / "again").path.read_bytes() == packed.path.read_bytes()


def test_zip_and_weights_come_over_http_and_one_other_byte_in_either_is_found(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LARGEST_FILE", 100_000)
    torch.save({"weight": torch.arange(50_000.0)}, bundle / "models" / "model.pt")
    weights, asked = (bundle / "models" / "model.pt").read_bytes(), []

    def answer(path: str, times: int) -> tuple[int, dict, bytes]:
        asked.append(path)
        if path == "/lesion_unet.zip":
            return 200, {}, (tmp_path / "dist" / "lesion_unet.zip").read_bytes()
        return 200, {}, weights if times == 0 else weights[:-1] + bytes([weights[-1] ^ 1])

    with serving(answer) as server:
        pack.run(PackOptions((bundle,), tmp_path / "dist", url=server.url))
        download(
            name="lesion_unet", url=f"{server.url}/lesion_unet.zip", bundle_dir=str(tmp_path / "got"), progress=False
        )
        root = tmp_path / "got" / "lesion_unet"
        download_large_files(bundle_path=str(root))
        assert (root / "models" / "model.pt").read_bytes() == weights
        (root / "models" / "model.pt").unlink()
        with pytest.raises(HashCheckError, match="sha256"):
            download_large_files(bundle_path=str(root))
    assert asked == ["/lesion_unet.zip", *["/lesion_unet/models/model.pt"] * 2]

    check = "sha256sum --ignore-missing --check SHA256SUMS"
    assert check in (BUNDLE.parents[1] / "docs" / "bundles.md").read_text(encoding="utf-8")
    if shutil.which("sha256sum"):
        (fetched,) = (tmp_path / "got").glob("*.zip")
        shutil.copy(tmp_path / "dist" / "SHA256SUMS", fetched.parent)
        assert subprocess.run(check.split(), cwd=fetched.parent, capture_output=True).returncode == 0
        fetched.write_bytes(fetched.read_bytes()[:-1] + b"x")
        assert subprocess.run(check.split(), cwd=fetched.parent, capture_output=True).returncode == 1


@pytest.mark.parametrize("suffix", [".yml", ".yaml"])
def test_a_list_of_the_model_zoos_becomes_ours_and_entries_without_a_hash_are_refused(bundle, tmp_path, suffix):
    pytest.importorskip("yaml")
    (bundle / "models" / "model.pt").unlink()
    lines = ["path: models/model.pt", "url: https://example.org/m.pt", "hash_val: 0123", "hash_type: sha1"]
    listed = bundle / f"large_files{suffix}"
    listed.write_text("large_files:\n- " + "\n  ".join(lines).replace("0123", "'0123'") + "\n")
    packed = pack_bundle(bundle, tmp_path)
    assert packed.has_weights and f"lesion_unet/large_files{suffix}" not in names(packed.path)
    with zipfile.ZipFile(packed.path) as archive:
        (entry,) = json.loads(archive.read("lesion_unet/large_files.json"))["large_files"]
    assert entry == dict(line.split(": ") for line in lines)
    for text in ("large_files:\n- " + "\n  ".join(lines[:2]), "large_files: 1", "[", "a: &a [*a"):
        listed.write_text(text)
        with pytest.raises(PackError, match=f"large_files{suffix} is damaged"):
            pack_bundle(bundle, tmp_path)


def test_what_would_not_work_is_refused_in_a_sentence(bundle, tmp_path):
    (bundle / "configs" / "extra.json").write_text("{")
    with pytest.raises(PackError, match=r"extra.json is damaged"):
        pack_bundle(bundle, tmp_path)
    (bundle / "configs" / "extra.json").unlink()
    (bundle / "models" / "model.pt").write_bytes(pickle.dumps({"weight": 1.0}))
    with pytest.raises(PackError, match=r"model.pt cannot be read as weights: .*bare pickle"):
        pack_bundle(bundle, tmp_path)
    torch.save(torch.nn.Linear(1, 1), bundle / "models" / "model.pt")
    with pytest.raises(PackError, match=r"more than tensors \(.*torch.nn.modules.linear.Linear.*weights_only"):
        pack_bundle(bundle, tmp_path)
    (bundle / "models" / "model.pt").unlink()
    (bundle / "LICENSE").unlink()
    with pytest.raises(FileNotFoundError, match="no LICENSE in the bundle"):
        pack_bundle(bundle, tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        pack_bundle(BUNDLE, tmp_path, weights=tmp_path / "none.pt")
    with pytest.raises(ValueError, match="pack them apart"):
        pack.run(PackOptions((BUNDLE, BUNDLE), tmp_path, weights=tmp_path / "a.pt"))
    assert list(tmp_path.glob("*.zip")) == []


@pytest.mark.parametrize("name", ["docs/secret.txt", "configs/more.json", "models/more", "LICENSE", "docs/folder"])
def test_symbolic_links_are_refused(bundle, tmp_path, name):
    secret = tmp_path / "id_rsa"
    secret.mkdir() if name == "docs/folder" else secret.write_text("{}")
    (bundle / name).unlink(missing_ok=True)
    (bundle / name).symlink_to(secret)
    with pytest.raises(PackError, match=rf"{name} is a symbolic link, and what it leads to may be private"):
        pack_bundle(bundle, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_a_folder_that_is_a_symbolic_link_is_refused(bundle, tmp_path):
    (bundle / "models").rename(tmp_path / "elsewhere")
    (bundle / "models").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackError, match="models is a symbolic link"):
        pack_bundle(bundle, tmp_path / "dist")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("models/old.pth", "cannot be read as weights: .*bare pickle"),
        ("models/more.bin", "cannot be read as weights: .*bare pickle"),
        ("docs/notes.txt", "cannot be read as weights: .*bare pickle"),
        ("docs/scores.npy", "is no array .*: a pickle under this name would run"),
    ],
)
def test_pickles_are_refused_under_every_name(bundle, tmp_path, name, sentence):
    (bundle / name).write_bytes(pickle.dumps(torch.nn.Linear(1, 1)))
    with pytest.raises(PackError, match=f"{name} {sentence}"):
        pack_bundle(bundle, tmp_path / "dist")


def test_a_program_under_another_name_is_refused(bundle, tmp_path):
    (bundle / "docs" / "figure.png").write_bytes(b"\x7fELF\2\1\1")
    with pytest.raises(PackError, match="figure.png is a program under another name"):
        pack_bundle(bundle, tmp_path / "dist")


def test_what_a_killed_run_left_is_removed_and_not_in_the_sums(bundle, tmp_path, scratch):
    def die() -> None:
        with atomic_path(tmp_path / "dist" / "lesion_unet.zip") as temporary:
            temporary.write_bytes(b"PK half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(die, scratch) == -signal.SIGKILL
    assert len(list((tmp_path / "dist").iterdir())) == 1
    (tmp_path / "dist" / ".other.zip").write_bytes(b"of somebody else")
    assert pack.run(PackOptions((bundle,), tmp_path / "dist")) == 0
    assert {path.name for path in (tmp_path / "dist").iterdir()} == {"SHA256SUMS", "lesion_unet.zip", ".other.zip"}
    assert [line.split()[1] for line in (tmp_path / "dist" / "SHA256SUMS").read_text().splitlines()] == [
        "lesion_unet.zip"
    ]


def test_sums_name_every_zip_of_the_folder(bundle, tmp_path):
    other = bundle.with_name("other_bundle")
    shutil.copytree(bundle, other)
    for each in (bundle, other):
        pack.run(PackOptions((each,), tmp_path))
    lines = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["lesion_unet.zip", "other_bundle.zip"]
    assert lines[0].split()[0] == hashlib.sha256((tmp_path / "lesion_unet.zip").read_bytes()).hexdigest()
