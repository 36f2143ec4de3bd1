"""Mutated hostile configs: whatever `inspect` passes is run, and must make nothing.

    python tests/fuzz/fuzz_inspect.py --count 5000

cuts, doubles, exchanges and joins the texts of the hostile and harmless configs of `tests/support/hostile_bundles.py`
and puts them in other places of a config. Those without a warning are run in a fork of this process; one that makes
the folder is a fault.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]
warnings.simplefilter("ignore")

from hostile_bundles import HARMLESS, MARK, RUNNING, run_config, with_paths  # noqa: E402
from killing import forked  # noqa: E402

from monai_ext.commands.bundles.config_code import code_of  # noqa: E402

WORDS = (
    "torch", "np", "monai", "os", ".os", ".mkdir", "(", ")", "[", "]", "@a", "@#a", "#", "::", "%a", "$", ",", "0",
    "lambda x:", " for x in ", " if ", " and ", "'", '"', "map", "getattr", ".data", ".run", ".get", "Path",
)  # fmt: skip
PAYLOADS = (
    f"os.mkdir('{MARK}')", f"torch.os.mkdir('{MARK}')", f".mkdir('{MARK}')", f"list(map(os.mkdir, ['{MARK}']))",
    "torch.os", "os", f"'{MARK}'",
)  # fmt: skip
PLACES = ("run", "imports", "initialize", "a", "_meta_", "net#_target_", "+net", "net#reader", "net#_disabled_")


def texts_of(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in texts_of(part)]
    if isinstance(value, list):
        return [text for part in value for text in texts_of(part)]
    return [value] if isinstance(value, str) else []


def mutated(text: str, others: list[str], rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        start, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        other = rng.choice(others)
        text = rng.choice(
            [
                text[:start] + text[end:],
                text[:start] + rng.choice(WORDS) + text[start:],
                text[:start] + rng.choice(PAYLOADS) + text[end:],
                text[:end] + text[start:],
                text[:start] + other[rng.randrange(len(other) + 1) :],
                f"${rng.choice(('(', '[', '[0, ', 'list(', 'str(', 'dict(a='))}{text.lstrip('$')})",
            ]
        )
    return text


def mutated_config(rng: random.Random) -> dict[str, Any]:
    texts = [text for config in [*RUNNING.values(), HARMLESS] for text in texts_of(config)]

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(part) for key, part in value.items()}
        if isinstance(value, list):
            return [changed(part) for part in value]
        return mutated(value, texts, rng) if isinstance(value, str) and rng.random() < 0.5 else value

    usual = [{"imports": HARMLESS["imports"], key: HARMLESS[key]} for key in HARMLESS if key != "imports"]
    config = changed(rng.choice([*RUNNING.values(), *usual]))
    if rng.random() < 0.3:
        config[rng.choice(PLACES)] = mutated(rng.choice(texts), texts, rng)
    return config


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="configs (2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (0)")
    options = parser.parse_args()
    rng, counts = random.Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        mark = place / "mark"
        for _ in range(options.count):
            config = with_paths(mutated_config(rng), place / "bundle", str(mark))
            if any(code.warning for code in code_of(config)):
                counts["marked"] += 1
                continue
            counts["run"] += 1
            status = forked(lambda config=config: run_config(config), place)
            counts["ended badly"] += status != 0
            if mark.exists():
                counts["FAULTS"] += 1
                sys.stdout.write(f"passed, and made the folder: {config}\n")
                mark.rmdir()
    sys.stdout.write(f"{dict(counts)}\n")
    return 1 if counts["FAULTS"] else 0


if __name__ == "__main__":
    sys.exit(main())
