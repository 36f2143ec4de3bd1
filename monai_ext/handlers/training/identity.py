"""Identity of a run: which cases it is trained on by which settings; the same record for resuming and for evaluation.

`RunIdentity` describes the run that a config defines, `RunRecord` writes that into run.json, and everything that uses a
run compares itself with it: `ResumeHandler`, `take_settings_of_run` at the start of evaluation and inference, and the
commands that read runs.

A resumed run must agree with run.json in all settings at the top of its config but those of `MAY_CHANGE`, in the
components that are trained, and in its cases. Places (`dataset_dir`, `output_dir`, ...) do not count, contents do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import torch.distributed as dist
from monai.bundle import ConfigItem, ConfigParser, ConfigWorkflow

from monai_ext.data.run_cases import (
    RUN_FILE,
    CaseDigests,
    InitialWeights,
    TrainedRun,
    case_digests,
    read_trained_run,
)
from monai_ext.handlers.engine import Engine
from monai_ext.handlers.training.provenance import bundle_arguments
from monai_ext.handlers.training.run_settings import (
    NO_SETTINGS,
    RunSettings,
    config_around,
    is_plain,
    is_plain_mapping,
    trained_settings,
)
from monai_ext.runtime.settings import flattened, listed_paths
from monai_ext.storage.fingerprint import file_sha256
from monai_ext.storage.records import read_record

__all__ = [
    "MAY_CHANGE", "RunIdentity", "disagreement", "same_value", "settings_of_run", "shown", "take_settings_of_run"
]  # fmt: skip

# What a resumed run may change: how long it trains, how often it is looked at, and where and how fast it is computed.
MAY_CHANGE = frozenset(
    {"max_epochs", "adversarial_epochs", "val_interval", "log_interval", "device", "backend", "precision", "compile",
     "channels_last", "num_workers", "shown_bands"}
)  # fmt: skip
STAGE_ONE = "pretrain_epochs"  # may change until the run has this many
# What an evaluation may choose besides: batches and samples, and which part of which data set is scored.
OF_AN_EVALUATION = MAY_CHANGE | {
    "batch_size",
    "samples",
    "tta",
    "seed",
    "region",
    "slices",
    "group",
    "nodata",
    "no_alpha",
}
OF_SAMPLES = frozenset({"spread", "samples", "tta"})  # not in the weights: what is typed is used, and recorded
WEIGHT_FILES = "_weights"  # settings with this ending name files, whose content counts
NO_COMPONENTS = NO_SETTINGS | {"_meta_", "device", "validate", "summary_writer", "page"}
NEVER_TAKEN = NO_SETTINGS | MAY_CHANGE  # from a run.json, whoever wrote it
NOT_TRAINED = ("train::handlers", "train::trainer")

_logger = logging.getLogger(__name__)


class RunIdentity:
    """What identifies the run that is about to start, from the config in which this is constructed.

    Args:
        settings, counts: further settings, see `RunSettings`.
        evaluator: the validation engine, whose cases are the validation part.
        parts: name -> items of further parts that are held out, such as those of `split_by_place`.
    """

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        counts: Mapping[str, Sized] | None = None,
        evaluator: Engine | None = None,
        parts: Mapping[str, Sequence[Mapping]] | None = None,
    ):
        self.settings = RunSettings(settings, counts=counts)
        self.counts = frozenset(counts or ())
        self.evaluator = evaluator
        self.parts = dict(parts or {})
        self._parser = config_around(ConfigParser)
        self._known: TrainedRun | None = None

    def describe(self, engine: Engine) -> TrainedRun:
        """The record of the run; under torch.distributed a collective call, since each rank has some cases."""
        if self._known is None:
            settings = self.settings.read()
            cases = {"training": _cases_of(engine), "validation": _cases_of(self.evaluator)}
            cases |= {name: case_digests(items) for name, items in self.parts.items() if name not in cases}
            self._known = TrainedRun(
                settings=settings,
                bundle=self._bundle(),
                components=self._components(),
                weight_files=_weight_files(settings),
                cases={name: part for name, part in cases.items() if part is not None},
                init_weights=_initial_weights(settings),
            )
            _warn_of_seen_cases(self._known)
        return self._known

    def check(self, engine: Engine, folder: Path, *, epoch: int) -> None:
        """Compare with the run that was begun in `folder` and has so many epochs.

        Raises:
            ValueError: they are not one run: names what differs, both values and the way out; or run.json is damaged.
        """
        now, then = self.describe(engine), read_trained_run(folder)
        if then is None:
            _logger.warning(f"no {RUN_FILE} in '{folder}': so nothing is compared with it")
            return
        way_out = "set it as in the run, or begin another run in another --output_dir"
        ends = [run.settings.get(STAGE_ONE) for run in (then, now)]
        is_open = all(isinstance(end, int) and epoch <= end for end in ends)
        left_out = MAY_CHANGE | self.counts | ({STAGE_ONE} if is_open else set())
        if found := disagreement(then, now, apart_from=left_out):
            name, old, new = found
            raise ValueError(f"{name} is {shown(new)}, but the run in '{folder}' has {shown(old)}: {way_out}.")
        if then.cases is None:
            _logger.warning(f"{folder / RUN_FILE} does not record the cases of the run: they are not compared")
            return
        for part in then.cases.keys() & (now.cases or {}).keys():
            _check_part(part, then.cases[part], (now.cases or {})[part], folder)

    def _bundle(self) -> str | None:
        meta = self._parser.get("_meta_") if self._parser is not None else None
        return meta.get("name") if isinstance(meta, Mapping) else None

    def _components(self) -> dict[str, Any] | None:
        if self._parser is None:
            return None
        whole: Any = self._parser.get()
        left_out = NO_COMPONENTS | self.settings.read().keys()
        parts = {name: value for name, value in whole.items() if name not in left_out and not name.startswith("_")}
        leaves = flattened({name: value for name, value in parts.items() if isinstance(value, (dict, list))})
        return {name: value for name, value in leaves.items() if not name.startswith(NOT_TRAINED)}


def disagreement(
    then: TrainedRun, now: TrainedRun, *, apart_from: Iterable[str] = ()
) -> tuple[str, object, object] | None:
    """(name, recorded value, present value) of the first thing in which two runs differ; None where there is none.

    Cases are not compared here. What one of them does not record is not compared.
    """
    left_out = frozenset(apart_from)
    pairs: list[tuple[str, object, object]] = []
    if then.bundle and now.bundle:
        pairs.append(("the bundle", then.bundle, now.bundle))
    files = (then.weight_files or {}, now.weight_files or {})
    for name in sorted((then.settings.keys() & now.settings.keys()) - left_out):
        if name in files[0] and name in files[1]:
            pairs.append((f"--{name}", f"a file of SHA-256 {files[0][name]}", f"a file of SHA-256 {files[1][name]}"))
        else:
            pairs.append((f"--{name}", then.settings[name], now.settings[name]))
    if then.components is not None and now.components is not None:
        for name in sorted(then.components.keys() | now.components.keys()):
            if name.split("::")[0] not in left_out:
                pairs.append((name, *(side.components.get(name, "not set") for side in (then, now))))  # type: ignore[union-attr]
    return next(((name, old, new) for name, old, new in pairs if not same_value(old, new)), None)


def settings_of_run(checkpoint: str | Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the run of these weights that a config has otherwise at its top; none where there is no record.

    Raises:
        ValueError: run.json is damaged.
    """
    run = read_trained_run(checkpoint)
    then = {} if run is None else run.settings
    return {
        name: value
        for name, value in then.items()
        if name in config and _is_fixed(name) and is_plain(config[name]) and not same_value(config[name], value)
    }


def _is_fixed(name: str) -> bool:
    """Whether weights are only used with the value of this setting that they were trained with."""
    return name not in OF_AN_EVALUATION and not name.endswith(WEIGHT_FILES)


def same_value(one: object, other: object) -> bool:
    """Whether two settings are equal, however they were typed: `true` is True, a tuple a list, 1e-3 is 0.001."""
    try:
        return _plain_value(one) == _plain_value(other)
    except RecursionError:  # of a damaged record
        return False


def take_settings_of_run(checkpoints: str | Path | Sequence[str | Path], *, scored: bool = True) -> None:
    """Let the config around this use the settings with which the weights were trained, where the user typed none.

    What is computed from a setting later sees the new value; the weights and `output_dir` are resolved before.

    Args:
        checkpoints: the weights, in the folder of their run; settings are those of the first.
        scored: an evaluation, for which a missing record is worth a warning.

    Raises:
        ValueError: a setting that was typed is another one than that of the training (but for those that an evaluation
            may choose, and how samples are drawn); names both.
    """
    parser = config_around(ConfigParser)
    paths = listed_paths(checkpoints)
    run = read_trained_run(paths[0]) if paths else None
    if parser is None or not paths:
        return
    if run is None:
        if scored:
            _logger.warning(
                f"no {RUN_FILE} beside '{paths[0]}': whether its training had these settings is not checked"
            )
        return
    resolver, chosen = parser.ref_resolver, _Chosen()
    taken, typed = [], set()
    for name, then in run.settings.items():
        is_free = not _is_fixed(name)
        if name not in resolver.items or name in NEVER_TAKEN or name.endswith(WEIGHT_FILES) or (is_free and not scored):
            continue
        now = resolver.resolved_content.get(name, resolver.items[name].get_config())
        if same_value(now, then) or (isinstance(now, dict) and not is_plain_mapping(now)):
            continue
        if chosen(name, now):
            if name in OF_SAMPLES:
                typed.add(name)
            if is_free or name in OF_SAMPLES:
                continue
            raise ValueError(
                f"--{name} is {shown(now)}, but '{paths[0]}' was trained with {shown(then)} (see the {RUN_FILE} "
                f"beside it): leave --{name} out, or name the weights of another run."
            )
        for key in [key for key in resolver.items if key == name or key.startswith(f"{name}::")]:
            del resolver.items[key]
            resolver.resolved_content.pop(key, None)
        resolver.add_item(ConfigItem(config=then, id=name))
        taken.append(name)
    trained_settings(parser).update((name, then) for name, then in run.settings.items() if name not in typed)
    if taken:
        _logger.info(f"as in the training: {', '.join(f'{name} {shown(run.settings[name])}' for name in taken)}")


class _Chosen:
    """Whether a user chose the value of a setting: typed it for `monai.bundle run`, or gave a workflow another one than
    the configs of its bundle have.
    """

    def __init__(self) -> None:
        self.typed = bundle_arguments(sys.argv)
        self.defaults: dict[str, list[object]] = {}
        if self.typed is not None:
            names = set(self.typed)
            if "args_file" in self.typed:
                names |= set(ConfigParser.load_config_file(str(self.typed["args_file"])))
            self.names = {name.partition("#")[0].partition("::")[0] for name in names}
        elif (workflow := config_around(ConfigWorkflow)) is not None:
            for path in Path(workflow.config_root_path).glob("*.json"):
                for name, value in read_record(path, dict[str, Any]).items():
                    self.defaults.setdefault(name, []).append(value)

    def __call__(self, name: str, value: object) -> bool:
        if self.typed is not None:
            return name in self.names
        return is_plain(value) and not any(same_value(value, default) for default in self.defaults.get(name, ()))


def _check_part(part: str, then: CaseDigests, now: CaseDigests, folder: Path) -> None:
    if then == now:
        return
    gone, new = sorted(then.keys() - now.keys()), sorted(now.keys() - then.keys())
    changed = sorted(name for name in then.keys() & now.keys() if then[name] != now[name])
    what = [f"{len(names)} {word} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for names, word in ((gone, "missing"), (new, "new"), (changed, "changed")) if names]  # fmt: skip
    raise ValueError(
        f"the {part} part of the run in '{folder}' has {len(then)} cases, it would now have {len(now)}: "
        f"{', '.join(what)}. Give --dataset_dir as it was; to go on with other data, begin a run in another "
        f"--output_dir with --init_weights {folder / 'final.pt'}."
    )


def _cases_of(engine: Engine | None) -> CaseDigests | None:
    """Cases that the loader of an engine draws from, those of all ranks; None where they are not known."""
    items = getattr(getattr(getattr(engine, "data_loader", None), "dataset", None), "data", None)
    named = isinstance(items, (list, tuple)) and all(isinstance(item, Mapping) and "id" in item for item in items)
    own = case_digests(items) if items is not None and named else None
    if not (dist.is_available() and dist.is_initialized()):
        return own
    shares: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shares, own)
    return None if None in shares else {name: digest for share in shares for name, digest in share.items()}


def _weight_files(settings: Mapping[str, Any]) -> dict[str, str]:
    files = {name: Path(value) for name, value in settings.items() if name.endswith(WEIGHT_FILES) and _is_text(value)}
    return {name: file_sha256(path)[:16] for name, path in files.items() if path.is_file()}


def _initial_weights(settings: Mapping[str, Any]) -> InitialWeights | None:
    file = settings.get("init_weights")
    if not _is_text(file) or not Path(str(file)).is_file():
        return None
    run = read_trained_run(str(file))
    training: CaseDigests | None = None
    if run is not None and run.cases is not None:
        earlier = {} if run.init_weights is None else run.init_weights.training or {}
        training = earlier | run.cases.get("training", {})
    return InitialWeights(file=str(file), sha256=file_sha256(str(file)), training=training)


def _warn_of_seen_cases(run: TrainedRun) -> None:
    """Validation cases that the initial weights have learnt from do not show how good the network is on others."""
    if run.init_weights is None or run.cases is None:
        return
    if run.init_weights.training is None:
        _logger.warning(f"which cases '{run.init_weights.file}' was trained on is not known: validation may be on some")
        return
    validation = run.cases.get("validation", {})
    learnt = set(run.init_weights.training.values()) - {""}
    if seen := sorted(name for name, digest in validation.items() if digest in learnt):
        _logger.warning(
            f"'{run.init_weights.file}' was trained on {len(seen)} of the {len(validation)} validation cases "
            f"({seen[0]}{', ...' if len(seen) > 1 else ''}): scores on them are too good, and an evaluation leaves "
            "them out."
        )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _plain_value(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return [_plain_value(part) for part in value]
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value


def shown(value: object) -> str:
    """A setting on one line of at most 80 characters, for messages.

    >>> shown([1, 2]), shown("dice\\nbce"), shown({"deep": {}})
    ('[1, 2]', 'dice bce', 'a dict')
    """
    if not (is_plain(value) or is_plain_mapping(value) or isinstance(value, str)):
        return f"a {type(value).__name__}"
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
