"""The SLURM scripts, run with stand-ins for the cluster's programs: what they start names what there is."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from monai_ext.commands.command_line import parse_options
from monai_ext.commands.comparison.command import CompareOptions

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted((REPOSITORY / "examples").glob("slurm*.sh"))
CLUSTER = {
    "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "4",
    "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8",
    "DATA": "/data set", "RUN": "/runs/one", "OUT": "/runs/comparison",
}  # fmt: skip

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def started(script: Path, folder: Path, **variables: str) -> tuple[int, list[str]]:
    """Exit status of a script, and the words after `srun`."""
    stand_ins = {
        "srun": 'for word; do printf "%s\\0" "$word"; done > "$RECORD"',
        "scontrol": 'if [ "$1" = show ]; then printf "node1\\nnode2\\n"; else printf "%s\\0" "$@" >> "$RECORD"; fi',
    }
    for name, body in stand_ins.items():
        (folder / name).write_text(f"#!/bin/bash\n{variables.get(name, body)}\n")
        (folder / name).chmod(0o755)
    record = folder / "record"
    environment = CLUSTER | {"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(record)}
    done = subprocess.run(["bash", str(script)], cwd=REPOSITORY, env=environment, check=False)
    return done.returncode, record.read_text().split("\0")[:-1] if record.exists() else []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash_that_goes_back_into_the_queue(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/bin/bash\n") and "#SBATCH --requeue" in text and "set -euo pipefail" in text
    last = max(text.rindex(line) for line in re.findall(r"^#SBATCH .*", text, re.MULTILINE))
    assert last < text.index("set -euo")  # SLURM reads none after the first command


def test_training_starts_one_launcher_on_each_machine_that_resumes(tmp_path):
    status, words = started(REPOSITORY / "examples" / "slurm_train.sh", tmp_path)
    assert status == 0 and words[1] == "torchrun"
    launcher, run = words[2 : words.index("-m")], words[words.index("-m") :]
    assert {"--nnodes=2", "--nproc_per_node=4", "--rdzv_endpoint=node1:29500", "--max-restarts=3"} <= set(launcher)
    assert run[:3] == ["-m", "monai.bundle", "run"]
    given = dict(zip((word.removeprefix("--") for word in run[3::2]), run[4::2], strict=True))
    paths = [REPOSITORY / name for name in ast.literal_eval(given.pop("config_file"))]
    assert [path.name for path in paths] == ["train.json", "multi_gpu.json"]
    known = {key for path in paths for key in json.loads(path.read_text(encoding="utf-8"))}
    assert set(given) <= known and (given["resume"], given["dataset_dir"]) == ("true", "/data set")


def test_a_list_of_many_machines_does_not_break_the_pipe(tmp_path):
    many = 'if [ "$1" = show ]; then for i in $(seq 20000); do echo "node$i"; done; fi'
    status, words = started(REPOSITORY / "examples" / "slurm_train.sh", tmp_path, scontrol=many)
    assert status == 0 and "--rdzv_endpoint=node1:29500" in words


def test_a_job_of_the_array_takes_its_part_of_the_comparison(tmp_path, monkeypatch):
    status, words = started(REPOSITORY / "examples" / "slurm_compare.sh", tmp_path)
    assert status == 0 and words[:3] == ["python", "-m", "monai_ext"]
    assert words[3] == "compare"
    monkeypatch.chdir(REPOSITORY)
    line = parse_options(CompareOptions, words[4:], passes_on=True)
    options = line.options
    assert options.part == (3, 8) and options.jobs == 2
    assert (options.dataset_dir, options.output_dir) == (Path("/data set"), Path("/runs/comparison"))
    known = json.loads((options.bundle / "configs" / "train.json").read_text(encoding="utf-8"))
    assert {word.removeprefix("--") for word in line.further[::2]} <= set(known)
    assert set(options.losses) <= set(known["losses"])


def test_a_job_whose_time_is_nearly_over_goes_back_into_the_queue(tmp_path):
    stand_in = {"srun": 'kill -USR1 "$PPID"; sleep 0.5'}
    _, words = started(REPOSITORY / "examples" / "slurm_compare.sh", tmp_path, **stand_in)
    assert words == ["requeue", "7_3"]


def test_without_its_folders_a_script_says_what_is_missing(tmp_path):
    for script in SCRIPTS:
        done = subprocess.run(["bash", str(script)], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=False,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode != 0 and "set DATA to the folder of the data set" in done.stderr
