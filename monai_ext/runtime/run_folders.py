"""Output folders that hold a run already."""

from __future__ import annotations

from pathlib import Path

__all__ = ["LAST_CHECKPOINT", "previous_checkpoint", "refuse_earlier_run"]

LAST_CHECKPOINT = "last.pt"


def previous_checkpoint(path: Path) -> Path:
    """Where the checkpoint before that of `path` is kept until the run is complete: <name>.previous<suffix>."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def refuse_earlier_run(path: Path) -> None:
    """Nothing, unless there is a checkpoint `path` or one before it.

    Raises:
        FileExistsError: there is.
    """
    if path.exists() or previous_checkpoint(path).exists():
        raise FileExistsError(
            f"'{path.parent}' already holds a run: continue it with --resume true, or choose another --output_dir."
        )
