"""A module's tests are found by its name: those of `room/module.py` stand in `tests/room/test_module.py`."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from types import ModuleType

from pages import REPOSITORY

PACKAGE = REPOSITORY / "monai_ext"
# Modules without a test file of their own name, and where they are tested instead.
ELSEWHERE = {
    "__main__.py": "commands/test_commands.py",
    "commands/bundles/binary_files.py": "commands/bundles/test_hostile_bundles.py",
    "commands/bundles/config_code.py": "commands/bundles/test_inspection.py",
    "commands/bundles/expressions.py": "commands/bundles/test_inspection.py",
    "commands/bundles/files.py": "commands/bundles/test_inspection.py",
    "commands/comparison/records.py": "commands/comparison/test_search.py",
    "commands/demo/aerial.py": "bundles/test_srgan_aerial.py",
    "commands/demo/bayesian.py": "bundles/test_bayesian_srgan_aerial.py",
    "commands/scoring/rater_row.py": "commands/scoring/test_rater_table.py",
    "handlers/super_resolution/adversarial_training.py": "bundles/test_srgan_aerial.py",
}


def has_code(module: Path) -> bool:
    """Whether there are functions in it, besides those of protocols."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    of_protocols = {id(part) for node in classes if "Protocol" in map(ast.unparse, node.bases) for part in node.body}
    return any(isinstance(node, ast.FunctionDef) and id(node) not in of_protocols for node in ast.walk(tree))


def test_every_module_has_a_test_file_of_its_name():
    modules = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert len(modules) > 200
    lonely = {
        name
        for name, path in modules.items()
        if has_code(path) and not (REPOSITORY / "tests" / name).with_name(f"test_{path.name}").is_file()
    }
    assert lonely - ELSEWHERE.keys() == set(), "write the test file, or split one, see CONTRIBUTING.md"
    assert ELSEWHERE.keys() - lonely == set(), "these have a test file of their own"
    assert [file for file in ELSEWHERE.values() if not (REPOSITORY / "tests" / file).is_file()] == []


def test_no_name_of_a_room_hides_a_module_of_it():
    found = []
    for room in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        names = vars(import_module(f"monai_ext.{room.name}"))
        modules = [path.stem for path in room.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
        found += [f"{room.name}.{name}" for name in modules if not isinstance(names.get(name, ast), ModuleType)]
    assert found == [], "a module of this name cannot be reached by its path, for example as `_target_` of a config"
