"""Bundles that make a folder named MARK when they are run, each in a way of its own, and what runs a bundle."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

MARK = "MARK"  # stands for a path in the configs below
MKDIR = f"__import__('os').mkdir('{MARK}')"


class Makes:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (self.path,)


def pickled(mark: str, protocol: int = 2) -> bytes:
    return pickle.dumps(Makes(mark), protocol)


def tensors(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def array(save: Callable, mark: str) -> bytes:
    file = io.BytesIO()
    save(file, np.array([Makes(mark)], dtype=object))
    return file.getvalue()


def run(expression: str, **more: Any) -> dict[str, Any]:
    return {"run": ["$" + expression], **more}


def call(target: str, **arguments: Any) -> dict[str, Any]:
    return {"run": [{"_target_": target, **arguments}]}


SOURCE = f"import os; os.mkdir('{MARK}')"

# Configs that make the folder when MONAI parses them; {BUNDLE} stands for the bundle's folder.
RUNNING: dict[str, dict[str, Any]] = {
    # text that MONAI reads otherwise than Python's parser
    "a comment to Python, :: to MONAI": run(f"[0, 1][0 #1] and [{MKDIR}][0\n]"),
    "text of a key in an expression": {f"0] and torch.os.mkdir('{MARK}') and [0][0": {"b": "$[1][@#a]"}, "0": 0},
    "letters that Python takes for ASCII": run(f"ｔorch.os.mkdir('{MARK}')"),
    "many characters before it": run(f"({' ' * 3000}{MKDIR})"),
    "after an harmless list": run(f"['{'x' * 900}', {MKDIR}]"),
    # targets
    "a target": call("os.mkdir", path=MARK),
    "a computed target": call("$'os' + '.mkdir'", path=MARK),
    "a referred target": call("@name", path=MARK) | {"name": "os.mkdir"},
    "a copied target": call("%name", path=MARK) | {"name": "os.mkdir"},
    "a function as target": call("$torch.os.mkdir", path=MARK),
    "a target through MONAI": call("monai.utils.module.os.mkdir", path=MARK),
    "a target through this package": call("monai_ext.storage.files.os.mkdir", path=MARK),
    "this package's processes": call("monai_ext.handlers.training.provenance.subprocess.run", args=["mkdir", MARK]),
    "a target in an override": {"net": {"_target_": "torch.nn.Identity", "path": MARK}, "net#_target_": "os.mkdir"},
    "a target in another override": {"net": {"path": MARK}, "net::_target_": "os.mkdir"},
    "a target that is merged": {"net": {"path": MARK}, "+net": {"_target_": "os.mkdir"}},
    "a function to call later": {
        "make": {"_target_": "os.mkdir", "_mode_": "callable"},
        "run": [f"$@make('{MARK}')"],
    },
    "a short name of MONAI": call("run_cmd", cmd_list=["mkdir", MARK]),
    "MONAI's instantiate": call("instantiate") | run(f"monai.utils.instantiate('os.mkdir', 'default', path='{MARK}')"),
    "source to execute": call("torch.fx.graph_module._exec_with_source", src=SOURCE, globals={}),
    "a reader named by text": call("LoadImage", reader="os.mkdir", path=MARK),
    "a reader in a list": call("LoadImaged", keys="image", reader=["NumpyReader", "os.mkdir"], path=MARK),
    "a reader in an override": {"net": {"_target_": "LoadImage", "path": MARK}, "net#reader": "os.mkdir"},
    "a computed reader": call("LoadImage", reader="$'os' + '.mkdir'", path=MARK),
    "a reader of a data set": call("ImageDataset", image_files=[], reader="os.mkdir", path=MARK),
    "a reader in an expression": run(f"monai.transforms.LoadImage('os.mkdir', path='{MARK}')"),
    "a reader by position": run("monai.transforms.LoadImage(*@words)", words=["os.getcwd"])
    | {"more": f"$monai.transforms.LoadImage(reader='os.mkdir', path='{MARK}')"},
    # places of a config
    "imports": {"imports": [f"${MKDIR}"]},
    "initialize": {"initialize": [f"${MKDIR}"]},
    "finalize": {"finalize": [f"${MKDIR}"]},
    "a requirement": {"net": {"_target_": "torch.nn.Identity", "_requires_": [f"${MKDIR}"]}},
    "a switch": {"net": {"_target_": "torch.nn.Identity", "_disabled_": f"${MKDIR}"}},
    "a description": {"net": {"_target_": "torch.nn.Identity", "_desc_": f"${MKDIR}"}},
    "metadata in a config": {"_meta_": {"version": f"${MKDIR}"}},
    "deep in lists": {"a": [[[{"b": [f"${MKDIR}"]}]]]},
    "an argument": {"net": {"_target_": "torch.nn.Linear", "in_features": f"${MKDIR}", "out_features": 1}},
    # expressions
    "builtins": run(f"__builtins__['__import__']('os').mkdir('{MARK}')"),
    "exec": run(f'exec("{SOURCE}")'),
    "a module in torch": run(f"torch.os.mkdir('{MARK}')"),
    "a module in numpy": run(f"np.lib._utils_impl.os.mkdir('{MARK}')"),
    "a module in glob": run(f"glob.os.mkdir('{MARK}')", imports=["$import glob"]),
    "a module in collections": run(f"collections._sys.modules['os'].mkdir('{MARK}')", imports=["$import collections"]),
    "a module in random": run(f"random._os.mkdir('{MARK}')", imports=["$import random"]),
    "MONAI's import": run(f"monai.utils.module.import_module('os').mkdir('{MARK}')"),
    "MONAI's optional import": run(f"monai.utils.optional_import('os')[0].mkdir('{MARK}')"),
    "MONAI's locate": run(f"monai.utils.module.locate('os.mkdir')('{MARK}')"),
    "a config inside": run(f"monai.bundle.ConfigParser({{'x': '$' + \"{MKDIR}\"}}).get_parsed_content('x')"),
    "a timer": run(f'torch.utils.benchmark.Timer(stmt="{SOURCE}").timeit(1)')
    | {"imports": ["$import torch.utils.benchmark"]},
    "a cache of code": run(f'torch._inductor.codecache.PyCodeCache.load("{SOURCE}")')
    | {"imports": ["$import torch._inductor.codecache"]},
    "bytes of a storage": run(f"torch.storage._load_from_bytes(bytes({list(b'BYTES')}))"),
    "a tensor of bytes": run(
        "torch.distributed.distributed_c10d._tensor_to_object(torch.tensor(BYTES, dtype=torch.uint8), COUNT, None)"
    ),
    "pickle in torch": run("torch.serialization.pickle.loads(bytes(BYTES))"),
    "a formatter of texts": run(
        f"string.Formatter().get_field('0.os.mkdir', (torch,), {{}})[0]('{MARK}')", imports=["$import string"]
    ),
    "printing to a file": run(f"print('mkdir', file=pathlib.Path('{MARK}').open('w'))")
    | {"imports": ["$import pathlib"]},
    "attributes by name": run(f"getattr(torch, 'o' + 's').mkdir('{MARK}')"),
    "a module's dictionary": run(f"vars(torch)['os'].mkdir('{MARK}')"),
    "subclasses": run(
        "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == '_wrap_close'][0]"
        f".__init__.__globals__['mkdir']('{MARK}')"
    ),
    "globals of a function": run(f"monai.utils.set_determinism.__globals__['os'].mkdir('{MARK}')")
    | {"more": f"$monai.data.decollate_batch.__globals__['torch'].os.mkdir('{MARK}')"},
    "globals of a lambda": run(f"(lambda: 0).__globals__['torch'].os.mkdir('{MARK}')"),
    "an f-string": run(f"f\"{{torch.os.mkdir('{MARK}')}}\""),
    "a comprehension": run(f"[m.mkdir('{MARK}') for m in [torch.os]]"),
    "a comprehension over a module": run(f"[m.os.mkdir('{MARK}') for m in [torch]]"),
    "a lambda over a module": run(f"(lambda m: m.os.mkdir('{MARK}'))(torch)"),
    "a walrus": run(f"[(t := torch), t.os.mkdir('{MARK}')]"),
    "a default of a lambda": run(f"(lambda m=torch.os: m.mkdir('{MARK}'))()"),
    "a function handed on": run(f"list(map(torch.os.mkdir, ['{MARK}']))"),
    "a key of sorting": run(f"sorted(['{MARK}'], key=torch.os.mkdir)"),
    "a partial": run(f"functools.partial(torch.os.mkdir, '{MARK}')()", imports=["$import functools"]),
    "a method by name": run(f"operator.methodcaller('mkdir', '{MARK}')(torch.os)", imports=["$import operator"]),
    "an attribute by name": run(f"operator.attrgetter('os.mkdir')(torch)('{MARK}')", imports=["$import operator"]),
    "a conditional": run(f"0 if torch.os.mkdir('{MARK}') else 1"),
    "a slice": run(f"[0][torch.os.mkdir('{MARK}') or 0:]"),
    "a file moved": run("pathlib.Path('{BUNDLE}/docs').replace('" + MARK + "')", imports=["$import pathlib"]),
    # imports
    "an import": run(f"os.mkdir('{MARK}')", imports=["$import os"]),
    "an import of a function": run(f"mkdir('{MARK}')", imports=["$from os import mkdir"]),
    "an import under a known name": run(f"np.mkdir('{MARK}')", imports=["$import os as np"]),
    "an import under a module's name": run(f"math.mkdir('{MARK}')", imports=["$from torch import os as math"]),
    "an import as a builtin": run(f"len('{MARK}')", imports=["$from os import mkdir as len"]),
    "an import referred to": {"module": "$import os", "run": [f"$@module.mkdir('{MARK}')"]},
    "an import copied": {"module": "$import os", "other": "%module", "run": [f"$@other.mkdir('{MARK}')"]},
    "a reference in a name": {"module": "$torch", "run": [f"$@module.os.mkdir('{MARK}')"]},
    # pickles
    "weights of any kind": run("torch.load('{BUNDLE}/models/evil.pt', weights_only=False)"),
    "weights by a computed switch": run("torch.load('{BUNDLE}/models/evil.pt', weights_only=not 1)"),
    "weights by more words": run("torch.load('{BUNDLE}/models/evil.pt', **{'weights_' + 'only': False})"),
    "weights in a text": run("torch.load('{BUNDLE}/docs/notes.txt', weights_only=False)"),
    "an array of a reader": {
        "reader": {"_target_": "LoadImage", "reader": "NumpyReader", "allow_pickle": True},
        "run": ["$@reader('{BUNDLE}/docs/evil.npy')"],
    },
    "an array of all readers": {
        "reader": {"_target_": "LoadImage", "allow_pickle": True},
        "run": ["$@reader('{BUNDLE}/docs/evil.npy')"],
    },
    "an array by position": run(
        "(lambda reader: reader.read('{BUNDLE}/docs/evil.npy'))(monai.data.NumpyReader(None, None, True))"
    ),
    "an array of numpy": run("np.load('{BUNDLE}/docs/evil.npy', allow_pickle=True)"),
    "a text that numpy unpickles": run("np.load('{BUNDLE}/docs/notes.txt', allow_pickle=True)"),
    "a cache of a data set": {
        "data": {
            "_target_": "PersistentDataset",
            "data": ["x"],
            "transform": [],
            "cache_dir": "{BUNDLE}/models",
            "hash_func": "$lambda item: b'evil'",
            "weights_only": False,
        },
        "run": ["$@data[0]"],
    },
}

# What usual bundles do, and nothing that makes a file.
HARMLESS = {
    "imports": ["$import glob", "$import os", "$import torch.distributed as dist", "$from pathlib import Path"],
    "root": ".",
    "files": "$sorted(glob.glob(os.path.join(@root, 'images', '*.nii.gz')))",
    "items": "$[{'image': i, 'label': i.replace('image', 'label')} for i in @files if not os.path.basename(i) == 'x']",
    "parts": "$monai.data.partition_dataset(@items + [1, 2, 3], (2, 1), shuffle=True, seed=0)",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "when": "$f\"{len(@files):03d} files\"",
    "net": {"_target_": "UNet", "spatial_dims": 2, "in_channels": 1, "out_channels": "@classes", "channels": [4, 8],
            "strides": [2], "_desc_": "see os.path, a.py", "_mode_": "default", "_disabled_": "$@classes < 1"},
    "classes": 2,
    "network": "$@net.to(@device)",
    "optimizer": {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": 0.1, "_requires_": "@net"},
    "before": [{"_target_": "LoadImaged", "keys": ["image"], "reader": "NibabelReader", "image_only": True}],
    "after": {
        "_target_": "monai.transforms.Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Lambdad", "keys": "pred", "func": "$lambda x, c=@classes: x[1:] * c"},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "../out", "output_ext": ".nii.gz"},
        ],
    },
    "again": "%before",
    "saved": {"final_filename": "last.pth", "compile_kwargs": {"mode": "reduce-overhead", "fullgraph": True}},
    "near": {"one": 1, "two": "$@#one + @##classes"},
    "size": "$max(1, int(np.ceil(3 / 2)), *[2])",
    "metric": {"_target_": "MeanDice", "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"},
    "rank": "$dist.get_rank() if dist.is_initialized() else 0",
    "home": "$os.environ.get('HOME') or os.environ['HOME']",
    "loaded": "$torch.load(@weights, map_location=@device, weights_only=True) if os.path.exists(@weights) else None",
    "weights": "$str(Path(@root) / 'models' / 'model.pt')",
    "initialize": ["$monai.utils.set_determinism(seed=123)", "$setattr(torch.backends.cudnn, 'benchmark', True)"],
    "train": {"key": "$monai.utils.CommonKeys.IMAGE", "dtype": "$torch.float32", "kind": "$np.uint8"},
}  # fmt: skip

# A file in the bundle, beside a harmless config.
FILES: dict[str, Callable[[str], dict[str, bytes | str]]] = {
    "bare pickle as weights": lambda mark: {"models/model.pt": pickled(mark)},
    "object as weights": lambda mark: {"models/model.pt": tensors(Makes(mark))},
    "pickle of protocol 0 in a text": lambda mark: {"docs/notes.txt": pickled(mark, 0)},
    "pickle of protocol 4 in a picture": lambda mark: {"docs/a.png": pickled(mark, 4)},
    "pickled array": lambda mark: {"docs/a.npy": array(np.save, mark)},
    "pickled arrays": lambda mark: {"docs/a.npz": array(np.savez, mark)},
    "array that is a pickle": lambda mark: {"docs/a.npy": pickled(mark)},
    "script": lambda mark: {"scripts/__init__.py": f"import os; os.mkdir('{mark}')"},
    "module that hides torch": lambda mark: {"torch.py": f"import os; os.mkdir('{mark}')"},
    "program without suffix": lambda mark: {"docs/setup": f"#!/bin/sh\nmkdir {mark}\n"},
    "binary without suffix": lambda mark: {"docs/setup": b"\x7fELF\2\1\1"},
    "logging": lambda mark: {
        "configs/logging.conf": f"[handler_h]\nclass=StreamHandler\nargs=(__import__('os').mkdir('{mark}'),)\n"
    },
    "logging in another file": lambda mark: {"docs/x.ini": "[handler_h]\nclass=handlers.os.mkdir\nargs=('x',)\n"},
    "other config": lambda mark: {"docs/more.json": json.dumps(run(MKDIR.replace(MARK, mark)))},
    "config in YAML": lambda mark: {"configs/train.yaml": f"run:\n- $__import__('os').mkdir('{mark}')\n"},
    "config in YAML by merging": lambda mark: {
        "configs/inference.yml": f"a: &a\n  _target_: os.mkdir\n  path: {mark}\nrun:\n- <<: *a\n"
    },
    "config with a key twice": lambda mark: {"configs/evaluate.json": '{"run": "$1", "run": "$2"}'},
    "config in YAML with a key twice": lambda mark: {"configs/evaluate.yaml": "run: $1\nrun: $2\n"},
    "config with escapes": lambda mark: {"configs/e.json": '{"run": "\\u0024__imp\\u006frt__(\'os\')"}'},
    "config in UTF-16": lambda mark: {"configs/e.json": json.dumps(run(MKDIR)).encode("utf-16")},
    "metadata": lambda mark: {"configs/metadata.json": json.dumps({"version": "$" + MKDIR.replace(MARK, mark)})},
    "config of another file": lambda mark: {"configs/e.json": '{"net": "%/tmp/other.json#net"}'},
    "two meanings of a name": lambda mark: {
        "configs/a.json": '{"imports": ["$import math as m"]}',
        "configs/b.json": '{"imports": ["$import numpy as m"]}',
    },
    "download of a program": lambda mark: {
        "large_files.yml": "large_files:\n- path: scripts/run.py\n  url: http://x.org/a\n  hash_val: '0'\n"
    },
    "log into a hidden file": lambda mark: {
        "configs/e.json": json.dumps(
            call("LogfileHandler", output_dir="~", filename=".bashrc", formatter=f"mkdir {mark} #%(message)s")
        )
    },
    "log into a computed file": lambda mark: {
        "configs/e.json": json.dumps(call("LogfileHandler", output_dir=".", filename="$'a' + '.p' + 'y'"))
    },
    "a compiler's command": lambda mark: {
        "configs/e.json": json.dumps(
            call("SupervisedTrainer", compile=True, compile_kwargs={"options": {"cpp.cxx": [f"mkdir {mark}"]}})
        )
    },
    "target made by a component": lambda mark: {
        "configs/e.json": json.dumps({"run": {"_target_": {"_target_": "torch.nn.Identity"}, "input": 1}})
    },
    "debugger": lambda mark: {"configs/e.json": json.dumps(call("torch.nn.Identity", _mode_="debug"))},
    "debugger by another word": lambda mark: {"configs/e.json": json.dumps(call("torch.nn.Identity", _debug_=True))},
    "server of a process group": lambda mark: {
        "configs/e.json": json.dumps(run("torch.distributed.init_process_group(init_method='tcp://x.org:1')"))
    },
    "zip in the bundle": lambda mark: {"docs/more.zip": zip_of({"a.txt": "a"})},
    "zip behind a picture": lambda mark: {"docs/a.png": b"\x89PNG" + zip_of({"a.py": "a"})},
    "unknown kind": lambda mark: {"docs/a.xyz": b"\0\1\2"},
}

# Zips that mean harm by their names.
ZIPS: dict[str, list[tuple[str, int, str]]] = {
    "path that leads out": [("b/../../x.json", 0, "{}")],
    "path with backslashes": [("b\\..\\..\\x", 0, "")],
    "absolute path": [("/etc/x", 0, "")],
    "path of a drive": [("C:/x", 0, "")],
    "symbolic link": [("b/link", stat.S_IFLNK | 0o777, "/etc/passwd")],
    "device": [("b/device", stat.S_IFCHR | 0o666, "")],
    "name twice": [("b/configs/x.json", 0, "{}"), ("b/configs/x.json", 0, '{"a": 1}')],
    "name in capitals": [("b/configs/x.json", 0, "{}"), ("b/Configs/X.json", 0, '{"a": 1}')],
    "name with a dot": [("b/configs/x.json", 0, "{}"), ("b/configs/./x.json", 0, '{"a": 1}')],
    "name with a backslash": [("b/configs/x.json", 0, "{}"), ("b\\configs\\x.json", 0, '{"a": 1}')],
}


def zip_of(members: dict[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


def write_files(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def with_paths(config: Any, root: Path, mark: str) -> Any:
    """`config` with the path of the folder to make, of the bundle, and bytes that make it when unpickled."""
    if isinstance(config, dict):
        return {with_paths(key, root, mark): with_paths(value, root, mark) for key, value in config.items()}
    if isinstance(config, list):
        return [with_paths(value, root, mark) for value in config]
    if not isinstance(config, str):
        return config
    content = pickled(mark)
    config = config.replace(str(list(b"BYTES")), str(list(tensors(Makes(mark)))))
    config = config.replace("BYTES", str(list(content))).replace("COUNT", str(len(content)))
    return config.replace("{BUNDLE}", str(root)).replace(MARK, mark)


def hostile_bundle(root: Path, name: str, mark: str) -> Path:
    """The bundle of that name in `RUNNING`, and the files that it reads."""
    config = with_paths(RUNNING[name], root, mark)
    files = {
        "models/evil.pt": tensors(Makes(mark)),
        "docs/notes.txt": pickled(mark, 0),
        "docs/evil.npy": array(np.save, mark),
    }
    return write_files(root, {"configs/train.json": json.dumps(config), "docs/README.md": "x", **files})


def run_bundle(root: Path) -> None:
    """Whatever of a bundle's config MONAI would execute, in this process."""
    with suppress(Exception):
        run_config(ConfigParser.load_config_files(root / "configs" / "train.json"))


def run_config(config: dict[str, Any]) -> None:
    """Whatever of a config MONAI would execute, in this process."""
    parser = ConfigParser()
    with suppress(Exception):
        for key, value in config.items():  # as files are merged
            merge_kv(parser, key, value)
    for name in list(parser.config):
        for _ in range(2):  # once more where the first attempt made what it needed
            with suppress(Exception), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                parser.get_parsed_content(name)
