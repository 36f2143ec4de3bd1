"""Python in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FAILING = """
from monai_ext.runtime.errors import report_errors_in_one_sentence
from monai_ext.storage.files import inside
report_errors_in_one_sentence(log_dir={log_dir!r})
inside("out", "../a")
"""


def run_python(code: str, folder, **variables: str) -> subprocess.CompletedProcess:
    """A process without torch, so that it starts at once."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | variables
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env=environment, cwd=folder
    )
