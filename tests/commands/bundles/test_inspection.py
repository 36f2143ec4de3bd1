"""`python -m monai_ext inspect`: everything that would be executed is shown, nothing is executed, nothing breaks it."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_ext.commands.bundles.config_code import LIMIT, code_of
from monai_ext.commands.bundles.inspection import inspect_bundle, inspection_text

BUNDLES = sorted(path for path in (Path(__file__).parents[3] / "bundles").iterdir() if (path / "configs").is_dir())


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def bundle(folder: Path, files: dict[str, str | bytes] | None = None, *, config: object = None) -> Path:
    """A bundle's folder with configs/train.json and other files."""
    texts = {"configs/train.json": json.dumps(config if config is not None else {"a": 1})} | (files or {})
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def zipped(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def warning_of(text: str, **more: object) -> str:
    """The warnings of one value of a config."""
    return "; ".join(code.warning for code in code_of({"x": text, **more}) if code.warning)


def test_everything_that_runs_is_listed_with_its_place_and_kind():
    config = {
        "imports": ["$import torch"],
        "lr": 0.1,
        "net": {"_target_": "monai.networks.nets.UNet", "_disabled_": "$@lr > 1", "spatial_dims": 2},
        "copy": "%net",
        "list": [[{"_target_": "Compose"}]],
        "run": ["$@net.train()"],
    }
    assert [(code.where, code.kind, code.text) for code in code_of(config)] == [
        ("imports#0", "import", "import torch"),
        ("net#_target_", "target", "monai.networks.nets.UNet"),
        ("net#_disabled_", "expression", "@lr > 1"),
        ("copy", "macro", "net"),
        ("list#0#0#_target_", "target", "Compose"),
        ("run#0", "expression", "@net.train()"),
    ]
    assert not any(code.warning for code in code_of(config))


@pytest.mark.parametrize(
    "text",
    [
        "$__import__('os').system('ls')",
        "$eval('1')",
        "$open('file', 'w')",
        "$monai.utils.module.importlib.import_module('os')",
        "$torch.hub.load('a', 'b')",
        "$torch.load('file')",
        "$torch.os.system('ls')",
        "$().__class__.__bases__",
        "$getattr(torch, 'lo' + 'ad')",
        "$[f for f in (1,)][0].unlink()",
        "$numpy.load('a', allow_pickle=True)",
        "$monai.bundle.download('x')",
        "$import subprocess",
        "$from os import system",
        "$import evil_package",
        "$from evil.package import Net as UNet",
        "$1 +",
        "$" + "(" * 3000 + ")" * 3000,
        "$'" + "a" * 20_000 + "'",
        "$tоrch.nn",  # a Cyrillic letter
        "%/etc/other.json#net",
        "$monai.utils.module.locate('os.mkdir')('x')",
        "$monai.utils.instantiate('os.mkdir', 'default', path='x')",
        "$monai.utils.run_cmd(['ls'])",
        "$np.testing.runstring('import os', {})",
        "$np.savetxt('file', ['text'], fmt='%s')",
        "$torch.serialization.load('file')",
        "$torch.utils.collect_env.run('ls')",
        "$pathlib.Path('file').open('w')",
        "$json.codecs.open('file', 'w')",
        "$random._os.kill(1, 9)",
        "$logging.FileHandler('file')",
        "$(t := torch).hub",
        "$(lambda m: m.hub)(torch)",
        "$[m.any for m in [numpy]]",
        "$monai",
    ],
)
def test_what_reaches_beyond_is_marked(text):
    assert warning_of(text)


@pytest.mark.parametrize(
    "target",
    ["os.system", "subprocess.Popen", "builtins.exec", "evil.Net", "torch.load", "a b", "@name", "%name", "$os.mkdir",
     "run_cmd", "optional_import", "load", "monai.utils.run_cmd", "monai.utils.module.locate"],
)  # fmt: skip
def test_targets_beyond_are_marked(target):
    for config in ({"_target_": target}, {"net": {}, "net#_target_": target}, {"net": {}, "net::_target_": target}):
        assert any(code.warning for code in code_of(config)), config


def test_a_name_is_followed_through_its_import():
    assert "reaches os.popen" in warning_of("$np.popen('ls')", imports=["$import os as np"])
    assert "reaches monai.utils.module.locate" in warning_of(
        "$m.locate('os.mkdir')('x')", imports=["$from monai.utils import module as m"]
    )
    assert "whole module o" in warning_of("$o", imports=["$import os as o"])  # which a reference could go on from
    assert warning_of("$np.mean([1])") == "" == warning_of("$os.environ['RANK'] + os.path.sep", imports=["$import os"])


def test_descriptions_are_evaluated_by_monai_and_therefore_shown():
    assert warning_of("$exec('1')") and code_of({"net": {"_desc_": "$exec('1')"}})[0].warning


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.name)
def test_nothing_in_our_own_bundles_reaches_beyond(path):
    found = inspect_bundle(path)
    assert found.warnings() == [] and found.configs["configs/train.json"] and found.about
    assert set(found.configs) >= {f"configs/{name}.json" for name in ("train", "inference", "evaluate", "multi_gpu")}


def test_nothing_is_executed(tmp_path):
    mark = tmp_path / "executed"
    code = f"$__import__('os').mkdir({str(mark)!r})"
    logging = f"[handler_h]\nclass=StreamHandler\nargs=(__import__('os').mkdir({str(mark)!r}),)\n"
    files = {
        "scripts/__init__.py": f"import os; os.mkdir({str(mark)!r})",
        "models/model.pt": pickle.dumps(Touches(mark)),
        "configs/logging.conf": logging,
    }
    config = {"imports": [code], "initialize": [code], "_meta_": {"x": code}}
    root = bundle(tmp_path / "evil", files, config=config)
    text = inspection_text(inspect_bundle(root), "evil")
    assert not mark.exists()
    assert "imports#0 reaches __import__" in text and "models/model.pt: cannot be read" in text
    assert "handler_h#args evaluates" in text and "is a program" in text and "initialize, when it is loaded" in text


@pytest.mark.parametrize(
    "lines",
    [
        "class=handlers.os.mkdir\nargs=('{mark}',)",
        "class=exec\nargs=('import os; os.mkdir(\"{mark}\")',)",
        "class=StreamHandler\ntext=\", __import__('os').mkdir('{mark}'), \"\nargs=(\"%(text)s\",)",
        "class=FileHandler\nargs=('{mark}',)",
        "class=StreamHandler\nargs=()\nkwargs=__import__('os').mkdir('{mark}') or {{}}",
    ],
)
@pytest.mark.parametrize("name", ["logging.conf", "other.ini"])
def test_what_a_logging_config_executes_is_marked(lines, name, tmp_path):
    text = (
        "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=h\n"
        f"[handler_h]\n{lines.format(mark=tmp_path / 'mark')}\n"
    )
    root = bundle(tmp_path / "evil", {f"configs/{name}": text})
    assert f"configs/{name}: handler_h#" in " ".join(inspect_bundle(root).warnings())
    assert not (tmp_path / "mark").exists()
    code = f"import logging.config; logging.config.fileConfig({str(root / 'configs' / name)!r})"
    subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=False)
    assert (tmp_path / "mark").exists()  # it would have


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("configs/more/train.json", {"run": ["$exec('1')"]}),
        ("docs/train.json", {"run": ["$exec('1')"]}),
        ("train.yaml", {"run": ["$exec('1')"]}),
        ("configs/large_files.json", {"large_files": [], "run": ["$exec('1')"]}),
        ("configs/other.json", {"origin": {"config": {}}, "run": ["$exec('1')"]}),
        ("configs/other.json", {"origin": {"config": {"run": ["$exec('1')"]}}}),
        ("configs/other.json", {"a": [[1, ["$exec('1')"]]]}),
    ],
)
def test_a_config_is_found_wherever_it_hides(name, content, tmp_path):
    assert "reaches exec" in " ".join(inspect_bundle(bundle(tmp_path, {name: json.dumps(content)})).warnings())


def test_files_that_are_no_configs_are_passed_over(tmp_path):
    files = {"docs/scores.json": "[1, 2]", "docs/table.json": '{"a": 1}', "notes.cfg": "x", "models/notes.txt": "x"}
    found = inspect_bundle(bundle(tmp_path, files))
    assert found.warnings() == [] and list(found.configs) == ["configs/train.json"]


def saved(value: object) -> bytes:
    """What torch.save writes for a value."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.mark.parametrize("name", ["models/model.pt", "models/model.dat", "docs/notes.txt", "configs/none.json"])
def test_pickles_are_found_in_every_protocol_and_under_every_name(name, tmp_path):
    for protocol in range(6):
        evil = pickle.dumps([1.5, Touches(tmp_path / "x")], protocol)
        found = inspect_bundle(bundle(tmp_path / "b", {name: evil}))
        assert f"{name}: cannot be read: it cannot be looked into" in " ".join(found.warnings())


def test_weights_that_torch_reads_as_weights_alone_pass_and_others_name_what_they_import(tmp_path):
    good, evil = saved({"a": torch.zeros(2)}), saved({"a": Touches(tmp_path / "x")})
    root = bundle(tmp_path / "b", {"models/model.pt": good, "models/weights": evil, "models/b.bin2": evil})
    assert inspect_bundle(root).weights == {
        "models/model.pt": [],
        "models/weights": [f"{os.name}.mkdir"],
        "models/b.bin2": [f"{os.name}.mkdir"],
    }


def test_a_pickle_before_weights_or_beside_them_is_found(tmp_path):
    evil, good = pickle.dumps(Touches(tmp_path / "x"), 2), saved({})
    twice = io.BytesIO(good)
    with zipfile.ZipFile(twice, "a") as archive:
        archive.writestr("archive/DATA.PKL", evil)  # which torch takes for data.pkl
    for content in (evil + good, evil * 5 + good, twice.getvalue()):
        found = inspect_bundle(bundle(tmp_path / "b", {"models/model.pt": content}))
        assert "models/model.pt: cannot be read" in " ".join(found.warnings())


def test_torchscript_is_a_program(tmp_path):
    network = torch.jit.script(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.ReLU()))
    torch.jit.save(network, tmp_path / "model.ts")
    found = inspect_bundle(tmp_path / "model.ts")
    assert found.kind == "file" and found.programs == ["model.ts"] and found.weights == {}


@pytest.mark.parametrize(
    "start", ["import x", "class A\nfoo\nbar", "(c\n", "I am\nR", "], [", "ioa\nb\n", "# a\n", "0x"]
)
def test_texts_that_begin_like_pickles_are_texts(start, tmp_path):
    assert inspect_bundle(bundle(tmp_path, {"docs/README.md": start, "LICENSE": start})).warnings() == []


def test_arrays_are_looked_into_by_their_headers(tmp_path):
    def written(save, *arrays):
        file = io.BytesIO()
        save(file, *arrays)
        return file.getvalue()

    objects = np.array([Touches(tmp_path / "x")], dtype=object)
    files = {
        "good.npy": written(np.save, np.eye(2)),
        "good.npz": written(np.savez, np.eye(2), np.zeros(3, "U4")),
        "evil.npy": written(np.save, objects),
        "evil.npz": written(np.savez, np.eye(2), objects),
        "bare.npy": pickle.dumps(Touches(tmp_path / "x")),
        "other.dat": written(np.save, objects),
        "cut.npy": written(np.save, np.eye(2))[:20],
    }
    found = inspect_bundle(bundle(tmp_path / "b", {f"docs/{name}": content for name, content in files.items()}))
    told = " ".join(found.warnings())
    assert "good" not in told and not (tmp_path / "x").exists()
    assert told.count("holds pickled objects") == 3 and "arr_1.npy in it holds" in told
    assert told.count("is no array") == 2


def test_a_zip_is_read_like_the_folder_it_holds(tmp_path):
    path = zipped(tmp_path / "b.zip", {"b/configs/train.json": '{"run": ["$1"]}', "b/docs/README.md": "x"})
    found = inspect_bundle(path)
    assert list(found.configs) == ["configs/train.json"] and found.warnings() == []
    assert sorted(item.name for item in tmp_path.iterdir()) == ["b.zip"]


def test_names_links_and_sizes_in_a_zip_that_mean_harm_are_told(tmp_path):
    link = zipfile.ZipInfo("b/link")
    link.external_attr = 0o120777 << 16
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/../../outside.json", "{}")
        archive.writestr("/etc/absolute", "")
        archive.writestr("b\\..\\..\\windows", "")
        archive.writestr(link, "/etc/passwd")
        archive.writestr("b/bomb", bytes(101 << 20))
    text = " ".join(inspect_bundle(path).problems)
    assert "outside.json leads out" in text and "/etc/absolute is an absolute path" in text and "windows leads" in text
    assert "link is a link" in text and "bomb?" in text


def test_a_member_that_is_there_twice_is_told(tmp_path):
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("b/configs/train.json", "{}")
        archive.writestr("b/configs/train.json", '{"run": "$exit()"}')
    assert "more than once" in " ".join(inspect_bundle(path).problems)


def test_links_in_a_folder_are_told_and_not_followed(tmp_path):
    root = bundle(tmp_path / "b")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.py").write_text("")
    (root / "models").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "configs" / "pipe.json")
    found = inspect_bundle(root)
    assert found.programs == [] and len(found.problems) == 3
    assert "configs/pipe.json is no regular file" in found.problems


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"a": ', "it is no JSON"),
        (b"", "it is no JSON"),
        (b"[1]", "no mapping"),
        (b"\xff\xfe{}", "can't decode"),
        (b'{"run": "$a", "run": "$b"}', "twice"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": [' + b"1," * LIMIT + b"1]}", "more than 100,000 values"),
        (b" " * (11 << 20), "larger than"),
    ],
)
def test_broken_and_excessive_configs_are_told_and_the_others_shown(content, sentence, tmp_path):
    root = bundle(tmp_path, {"configs/other.json": content}, config={"run": ["$1"]})
    found = inspect_bundle(root)
    assert sentence in " ".join(found.problems) and found.problems[0].startswith("configs/other.json")
    assert found.configs["configs/train.json"]


def test_yaml_needs_pyyaml_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    root = bundle(tmp_path, {"configs/inference.yaml": "run: $exec('1')\n"})
    assert "install PyYAML" in " ".join(inspect_bundle(root).problems)


def test_downloads_and_the_config_of_a_run_are_shown(tmp_path):
    entry = {"path": "models/model.pt", "url": "https://example.org/m.pt", "hash_val": "1" * 64, "hash_type": "sha256"}
    root = bundle(tmp_path, {"large_files.yml": json.dumps({"large_files": [entry]})})
    found = inspect_bundle(root)
    assert found.downloads == ["https://example.org/m.pt"] and found.warnings() == []
    careless = entry | {"hash_val": "", "path": "../model.pt"}
    (root / "large_files.yml").write_text(f"large_files:\n  - {json.dumps(careless)}\n")
    text = " ".join(inspect_bundle(root).warnings())
    assert "https://example.org/m.pt has no hash_val" in text and "../model.pt leads out of the bundle" in text
    record = tmp_path / "run.json"
    record.write_text(json.dumps({"origin": {"config": {"run": ["$exec('1')"]}}}))
    assert "run#0 reaches exec" in " ".join(inspect_bundle(record).warnings())
    command = ["/home/me/.venv/bin/python", "-m", "monai.bundle", "run"]
    record.write_text(json.dumps({"origin": {"config": {}, "command": command}, "settings": {"lr": 0.1}}))
    assert inspect_bundle(record).warnings() == []
    record.write_text(json.dumps({"settings": {"net::reader": "os.mkdir"}}))  # which an evaluation would take over
    assert "gives reader os.mkdir" in " ".join(inspect_bundle(record).warnings())


def test_what_a_terminal_would_obey_is_spelled_out(tmp_path):
    root = bundle(tmp_path, config={"run": ["$1 + 1\x1b[2K\u202e", "$'" + "x" * 5000 + "'"]})
    text = inspection_text(inspect_bundle(root), "na\x07me")
    assert text.replace("\n", "").isprintable() and "\\x1b[2K\\u202e" in text and "x" * 5000 in text


def test_other_paths_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="give a bundle's folder"):
        inspect_bundle(tmp_path / "nothing")
    (tmp_path / "b.zip").write_bytes(zipped(tmp_path / "whole.zip", {"b/configs/train.json": "{}"}).read_bytes()[60:])
    with pytest.raises(ValueError, match="damaged zip"):
        inspect_bundle(tmp_path / "b.zip")
    (tmp_path / "empty").mkdir()
    assert inspect_bundle(tmp_path / "empty").problems == ["no config: nothing that monai.bundle could run"]


def test_mutated_zips_are_answered_or_refused_in_a_sentence(tmp_path):
    whole = zipped(
        tmp_path / "b.zip",
        {
            "b/configs/train.json": json.dumps({"run": ["$1"], "net": {"_target_": "torch.nn.Identity"}}),
            "b/configs/logging.conf": "[handler_h]\nclass=StreamHandler\nargs=(sys.stdout,)\n",
            "b/models/model.pt": pickle.dumps({"a": [1.0] * 50}),
            "b/large_files.json": '{"large_files": []}',
        },
    ).read_bytes()
    numbers, refused, path = random.Random(0), 0, tmp_path / "mutated.zip"
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(numbers.randint(1, 8)):
            content[numbers.randrange(len(content))] = numbers.randrange(256)
        path.write_bytes(
            content[: numbers.randint(len(content) // 2, len(content))] if numbers.random() < 0.3 else content
        )
        try:
            inspection_text(inspect_bundle(path), "mutated")
        except ValueError as error:
            assert "damaged zip" in str(error)
            refused += 1
    assert refused < 300


def test_the_command_needs_no_torch_and_tells_by_its_exit_status(tmp_path):
    root = bundle(tmp_path / "b", config={"run": ["$exec('1')"]})
    code = (
        "import sys; from monai_ext.__main__ import main\n"
        f"assert main(['inspect', {str(root)!r}, '--json']) == 0\n"
        f"assert main(['inspect', {str(root)!r}, '--strict']) == 1\n"
        "assert 'torch' not in sys.modules and 'monai' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content, _ = json.JSONDecoder().raw_decode(done.stdout)
    assert content["warnings"] == ["configs/train.json: run#0 reaches exec"]
