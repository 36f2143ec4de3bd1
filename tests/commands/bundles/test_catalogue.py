"""Bundles listed and got from the package, from a folder of zips, and from an address."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from bundle_runs import BUNDLES
from tile_server import serving

from monai_ext.__main__ import main
from monai_ext.commands.bundles import catalogue
from monai_ext.commands.bundles.catalogue import BundleSourceError, get_bundle

FILES = {"toy/LICENSE": "free", "toy/configs/metadata.json": '{"version": "1"}', "toy/docs/README.md": "# Toy"}


def zipped(folder: Path, files: dict[str, str] = FILES, *, sum_of: bytes | None = None) -> Path:
    """A source with one bundle, `toy`."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "toy.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    digest = hashlib.sha256(sum_of or (folder / "toy.zip").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  toy.zip\n{digest}  toy-huggingface.zip\nnonsense\n")
    return folder


def kept(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_package_s_bundles_are_listed_and_got_without_runs(tmp_path, capsys):
    assert main(["bundles", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted(
        path.parent.name for path in BUNDLES.glob("*/LICENSE")
    )
    out = tmp_path / "out"
    assert main(["bundles", "get", "qubiq_holistic", "--output_dir", str(out)]) == 0
    assert kept(out)[:3] == ["qubiq_holistic", "qubiq_holistic/LICENSE", "qubiq_holistic/configs"]
    weights = "qubiq_holistic/models/model.pt"
    assert (out / weights).read_bytes() == (BUNDLES / weights).read_bytes()
    assert main(["bundles", "get", "qubiq_holistic", "--output_dir", str(out)]) == 0
    assert "is there already, with the same files" in capsys.readouterr().err
    with pytest.raises(BundleSourceError, match="no bundle toy in the package: choose one of bayesian"):
        get_bundle("toy", out)


def test_a_bundle_of_other_content_stays_as_it_is(tmp_path):
    source, out = zipped(tmp_path / "dist"), tmp_path / "out"
    assert get_bundle("toy", out, source=source) == (out / "toy", True)
    assert get_bundle("toy", out, source=source) == (out / "toy", False)
    (out / "toy/docs/README.md").write_text("# Mine")
    with pytest.raises(ValueError, match=r"is there already, with other content \(docs/README.md\)"):
        get_bundle("toy", out, source=source)
    assert (out / "toy/docs/README.md").read_text() == "# Mine"


def test_a_source_is_listed_and_a_zip_of_another_sum_is_refused(tmp_path, capsys):
    source = zipped(tmp_path / "dist", sum_of=b"other")
    assert main(["bundles", "list", "--source", str(source)]) == 0
    assert capsys.readouterr().out.split()[0] == "toy" and "huggingface" not in capsys.readouterr().out
    with pytest.raises(BundleSourceError, match="toy.zip from .*dist' has the SHA-256 .* nothing is kept"):
        get_bundle("toy", tmp_path / "out", source=source)
    with pytest.raises(BundleSourceError, match="no bundle other in .*: it has toy"):
        get_bundle("other", tmp_path / "out", source=source)
    with pytest.raises(FileNotFoundError, match="no SHA256SUMS in"):
        get_bundle("toy", tmp_path / "out", source=tmp_path)
    assert kept(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (FILES | {"toy/../../evil": "x"}, "leads out of the bundle"),
        (FILES | {"/evil": "x"}, "is an absolute path"),
        (FILES | {"toy/DOCS/readme.md": "x"}, "is there more than once"),
        ({"toy/readme.md": "x"}, "has no configs/metadata.json: it is no bundle"),
    ],
)
def test_an_unsafe_zip_is_refused_whole(files, sentence, tmp_path):
    with pytest.raises(BundleSourceError, match=sentence):
        get_bundle("toy", tmp_path / "out", source=zipped(tmp_path / "dist", files))
    assert kept(tmp_path / "out") == []
    with pytest.raises(BundleSourceError, match="is no name of a bundle"):
        get_bundle("../toy", tmp_path / "out")


def test_an_interrupt_leaves_nothing_and_leftovers_of_a_kill_are_replaced(tmp_path, monkeypatch):
    source, out = zipped(tmp_path / "dist"), tmp_path / "out"
    copy = catalogue._copy

    def interrupted(incoming, outgoing, file):
        if file.name.endswith("README.md"):
            raise KeyboardInterrupt
        copy(incoming, outgoing, file)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(catalogue, "_copy", interrupted)
        get_bundle("toy", out, source=source)
    assert kept(out) == []
    (out / ".toy.part/toy/docs").mkdir(parents=True)
    (out / ".toy.part/toy/docs/stale").write_text("")
    assert get_bundle("toy", out, source=source)[1]
    assert kept(out) == ["toy", *(f"toy/{name}" for name in (
        "LICENSE", "configs", "configs/metadata.json", "docs", "docs/README.md"))]  # fmt: skip


def test_an_address_is_as_good_as_a_folder_and_what_it_lacks_is_named(tmp_path):
    source = zipped(tmp_path / "dist")

    def answer(path, before):
        file = source / Path(path.partition("?")[0]).name
        return (200, {}, file.read_bytes()) if file.is_file() else (404, {}, b"")

    with serving(answer) as server:
        assert get_bundle("toy", tmp_path / "out", source=f"{server.url}/weights/") == (tmp_path / "out/toy", True)
        (source / "toy.zip").write_bytes(b"cut off")
        with pytest.raises(BundleSourceError, match="has the SHA-256"):
            get_bundle("toy", tmp_path / "again", source=server.url)
        (source / "SHA256SUMS").unlink()
        with pytest.raises(OSError, match=r"SHA256SUMS\?key=\*+ cannot be had: 404"):
            get_bundle("toy", tmp_path / "again", source=f"{server.url}?key=secret")
    assert kept(tmp_path / "again") == []
