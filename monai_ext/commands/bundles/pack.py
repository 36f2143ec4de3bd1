"""`pack`: bundles as zips that `monai.bundle` downloads and reads, the same bytes wherever they are packed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from monai_ext.commands.bundles.binary_files import ARRAYS, array_problem, disguise_of, is_torchscript
from monai_ext.commands.bundles.files import WEIGHTS as WEIGHT_FILES
from monai_ext.commands.bundles.hugging_face import repository_files
from monai_ext.commands.command_line import Computed, Paths
from monai_ext.runtime.errors import one_line
from monai_ext.runtime.run_log import progress, tell
from monai_ext.storage.files import atomic_path, write_text
from monai_ext.storage.fingerprint import file_sha256
from monai_ext.storage.folders import files_in
from monai_ext.storage.records import read_record

__all__ = ["LARGEST_FILE", "PackError", "PackOptions", "Packed", "pack_bundle", "run"]

LARGEST_FILE = 25_000_000  # bytes, the model zoo's limit
NEEDED = ("LICENSE", "docs/README.md", "configs/metadata.json", "configs/train.json", "configs/inference.json")
FOLDERS = ("configs", "docs", "models")
WEIGHTS = "models/model.pt"
LARGE_FILES = "large_files.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip
BLOCK = 1 << 20


@dataclass(frozen=True)
class PackOptions:
    """Pack bundles into zips with card, licence, configs and weights, the same bytes each time.

    Weights above 25 MB, more than the model zoo takes, stay outside: large_files.json then names their address and
    SHA-256, and `python -m monai.bundle download_large_files --bundle_path BUNDLE` fetches and checks them.
    """

    bundles: Paths
    """folders of bundles"""
    output_dir: Path = Path("dist")
    """folder of the zips"""
    weights: Computed[Path | None] = None
    """weights of one bundle, such as a run's final.pt (models/model.pt of each)"""
    url: Computed[str | None] = None
    """address of the folder that files above 25 MB will be downloaded from"""
    hugging_face: bool = False
    """pack NAME-huggingface.zip: a Hugging Face repository, whose README.md is the card with its metadata header, and
    which has the weights as safetensors beside each .pt"""

    def __post_init__(self) -> None:
        if self.weights is not None and len(self.bundles) > 1:
            raise ValueError(f"--weights belong to one bundle, but {len(self.bundles)} are named: pack them apart.")


class PackError(ValueError):
    """A bundle that cannot be packed as it is."""


@dataclass(frozen=True)
class Packed:
    """A packed bundle: its zip, the zip's SHA-256, whether weights belong to it, and the files left to upload."""

    path: Path
    sha256: str
    has_weights: bool
    large: tuple[Path, ...]


def pack_bundle(
    bundle: str | Path,
    output_dir: str | Path,
    *,
    weights: str | Path | None = None,
    url: str | None = None,
    hugging_face: bool = False,
) -> Packed:
    """Pack the folder `bundle` into `output_dir/NAME.zip`, all files under NAME/, stored without compression.

    Taken are LICENSE, large_files, and what lies in configs, docs and models; hidden files and caches are not.

    Args:
        weights: a file to take as models/model.pt, such as the final.pt of a run.
        url: address of a folder; files above 25 MB will be downloaded from `url/NAME/...`.
        hugging_face: pack `NAME-huggingface.zip`, with the `repository_files` as well.

    Raises:
        FileNotFoundError: the bundle lacks a file that the model zoo needs; or there is no such `weights`.
        PackError: a config is no JSON, weights or arrays hold more than numbers, a file is a symbolic link or a program
            under another name, or a large file has no address.
    """
    bundle = Path(bundle).resolve()
    if missing := [name for name in NEEDED if not (bundle / name).is_file()]:
        raise FileNotFoundError(f"no {missing[0]} in the bundle '{bundle}': the model zoo and MONAI need it.")
    files = {path.relative_to(bundle).as_posix(): path for path in _chosen(bundle)}
    if weights is not None:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"no weights at '{weights}': name the final.pt or model.pt of a run.")
        files[WEIGHTS] = Path(weights)
    _check(files)
    content, large, elsewhere = _with_large_files(bundle, files, url)
    if hugging_face:
        content |= repository_files(bundle.name, files)
    path = Path(output_dir) / f"{bundle.name}{'-huggingface' * hugging_face}.zip"
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(content):
            _store(archive, f"{bundle.name}/{name}", content[name])
    return Packed(path, file_sha256(path), WEIGHTS in content or WEIGHTS in elsewhere, tuple(large))


def _chosen(bundle: Path) -> Iterator[Path]:
    yield bundle / "LICENSE"
    yield from (path for path in bundle.glob("large_files.*") if path.suffix in (".json", ".yml", ".yaml"))
    for folder in FOLDERS:
        if (bundle / folder).is_symlink():
            yield bundle / folder
        for path in (bundle / folder).rglob("*"):
            hidden = any(part.startswith((".", "__")) for part in path.relative_to(bundle).parts)
            if (path.is_file() or path.is_symlink()) and not hidden:
                yield path


def _check(files: dict[str, Path]) -> None:
    for name, path in files.items():
        if path.is_symlink() and name != WEIGHTS:
            raise PackError(f"{path} is a symbolic link, and what it leads to may be private: put a copy in its place.")
        if path.suffix == ".json" and name.startswith("configs/"):
            read_record(path, object, error=PackError, way_out="mend it, since every user of the bundle reads it")
        elif problem := _problem(path):
            raise PackError(f"{path} {problem}.")


def _problem(path: Path) -> str:
    """What would run when a file is read, in words that follow its name; "" where nothing would."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        if suffix in ARRAYS:
            return array_problem(file)
        if suffix not in WEIGHT_FILES:
            disguise = disguise_of(file)
            if disguise != "weights":
                return f"is a {disguise} under another name" if disguise == "program" else disguise
        elif suffix == ".ts" and is_torchscript(file):
            return ""
    from monai_ext.storage.tensor_files import unsafe_globals  # here, since it imports torch, which --help can spare

    try:
        names = unsafe_globals(path)
    except ValueError as error:
        return f"cannot be read as weights: {one_line(error)}"
    known = "save the state dict alone, so that it can be read with weights_only=True"
    return f"holds more than tensors ({', '.join(names)}): {known}" if names else ""


def _with_large_files(
    bundle: Path, files: dict[str, Path], url: str | None
) -> tuple[dict[str, Path | bytes], list[Path], Set[str]]:
    """The files that go into the zip, large_files.json among them, those that do not, and the names it gives.

    The content of a large_files.yml goes into large_files.json, since MONAI would read both.
    """
    large = {name: path for name, path in files.items() if path.stat().st_size > LARGEST_FILE}
    lists = [path for name, path in files.items() if name.startswith("large_files.")]
    content: dict[str, Path | bytes] = {
        name: path for name, path in files.items() if name not in large and path not in lists
    }
    known = {entry["path"]: entry for path in lists for entry in _entries(path)}
    for name, path in large.items():
        digest = file_sha256(path)
        if url is not None:
            address = f"{url.rstrip('/')}/{bundle.name}/{name}"
            known[name] = {"path": name, "url": address, "hash_val": digest, "hash_type": "sha256"}
        elif name not in known or known[name].get("hash_val") != digest:
            raise PackError(
                f"{path} has {path.stat().st_size:,} bytes, more than the {LARGEST_FILE:,} that the model zoo takes, "
                f"and {LARGE_FILES} does not name it with this content's SHA-256: give --url, where it will be "
                "downloaded from."
            )
    if known:
        content[LARGE_FILES] = json.dumps({"large_files": [known[name] for name in sorted(known)]}, indent=4).encode()
    return content, list(large.values()), known.keys()


def _entries(path: Path) -> list[dict[str, str]]:
    way_out = "it needs a list large_files of path, url, hash_val, without which no download is checked"
    content = _yaml(path) if path.suffix != ".json" else read_record(path, object, error=PackError, way_out=way_out)
    entries = content.get("large_files") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
        raise PackError(f"{path} is damaged: {way_out}.")
    return entries


def _yaml(path: Path) -> object:
    try:
        import yaml
    except ImportError:
        raise PackError(f"{path} is YAML: install PyYAML, or write it as {LARGE_FILES}.") from None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PackError(f"{path} is damaged ({one_line(error)}): mend it.") from None


def _is_entry(entry: object) -> bool:
    """Whether an entry can be downloaded and checked."""
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        return False
    return all(entry.get(key) for key in ("path", "url", "hash_val"))


def _store(archive: zipfile.ZipFile, name: str, source: Path | bytes) -> None:
    info = zipfile.ZipInfo(name, EPOCH)
    info.create_system, info.external_attr = 3, 0o100644 << 16
    if isinstance(source, bytes):
        archive.writestr(info, source)
        return
    info.file_size = source.stat().st_size
    with source.open("rb") as file, archive.open(info, "w") as member:
        for block in iter(lambda: file.read(BLOCK), b""):
            member.write(block)


def run(options: PackOptions) -> int:
    """`python -m monai_ext pack`."""
    folder = options.output_dir
    packed = [
        pack_bundle(bundle, folder, weights=options.weights, url=options.url, hugging_face=options.hugging_face)
        for bundle in progress(options.bundles, "pack", "bundle")
    ]
    for each in packed:
        without = "" if each.has_weights else ", without weights: monai.bundle.load needs them, see --weights"
        tell(f"{each.path}: {each.path.stat().st_size:,} bytes{without}")
        for path in each.large:
            tell(f"  to upload: {path}")
    write_text(folder / "SHA256SUMS", _sums(packed, folder))
    return 0


def _sums(packed: Sequence[Packed], folder: Path) -> str:
    """What `sha256sum --check SHA256SUMS` reads; zips of earlier calls keep their lines."""
    lines = {each.path.name: each.sha256 for each in packed}
    others = (path for path in files_in(folder) if path.suffix == ".zip" and path.name not in lines)
    lines |= {path.name: file_sha256(path) for path in others}
    return "".join(f"{lines[name]}  {name}\n" for name in sorted(lines))
