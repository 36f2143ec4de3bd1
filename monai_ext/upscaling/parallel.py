"""Many images upscaled at the same time, one thread for each upscaler; failures are collected."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from threading import Event

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from monai_ext.raster.remote import Source
from monai_ext.runtime.run_log import shows_progress
from monai_ext.upscaling.file import Choices, upscale_file
from monai_ext.upscaling.upscaler import Upscaler

__all__ = ["UpscaleError", "upscale_files"]

_logger = logging.getLogger(__name__)

SHOWN_FAILURES = 10


class UpscaleError(ValueError):
    """Some of several images could not be upscaled; the others are done."""


class _StoppedError(Exception):
    """An image was left unfinished because the run was broken off."""


def upscale_files(
    pairs: Sequence[tuple[Source, Path]], *, upscalers: Sequence[Upscaler], choices: Choices | None = None
) -> list[Path]:
    """Upscale each image of `pairs` (source, target); returns the targets that were written.

    Args:
        upscalers: one for each file that is worked on at a time, e.g. one per device.

    Raises:
        UpscaleError: some of several images failed; all others are done. A single one raises its own error.
    """
    if len(pairs) == 1:
        return _upscale_one(*pairs[0], upscaler=upscalers[0], choices=choices)
    free: SimpleQueue[Upscaler] = SimpleQueue()
    for each in upscalers:
        free.put(each)
    stop = Event()

    def stop_between_strips(done: int, count: int) -> None:
        if stop.is_set():
            raise _StoppedError(f"after {done} of {count} strips")

    def work(source: Source, target: Path) -> bool:
        upscaler = free.get()
        try:
            return upscale_file(source, target, upscaler=upscaler, choices=choices, progress=stop_between_strips)
        finally:
            free.put(upscaler)

    written, failures = [], []
    with (
        ThreadPoolExecutor(len(upscalers)) as pool,
        tqdm(total=len(pairs), desc="upscale", unit="image", disable=not shows_progress()) as bar,
        logging_redirect_tqdm(),
    ):
        waiting = iter(pairs)
        running: dict[Future, tuple[Source, Path]] = {}
        try:
            while True:
                for source, target in waiting:
                    running[pool.submit(work, source, target)] = (source, target)
                    if len(running) == len(upscalers):
                        break
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    source, target = running.pop(future)
                    try:
                        if future.result():
                            written.append(target)
                    except (ValueError, OSError) as error:
                        failures.append(str(error) if str(source) in str(error) else f"{source}: {error}")
                        _logger.error(failures[-1])
                    bar.update()
        except BaseException:
            stop.set()  # images that are worked on end after the strip at hand, for --resume
            raise
    if failures:
        shown = "\n  ".join(failures[:SHOWN_FAILURES])
        more = f"\n  and {len(failures) - SHOWN_FAILURES} more" if len(failures) > SHOWN_FAILURES else ""
        raise UpscaleError(f"{len(failures)} of {len(pairs)} images could not be upscaled:\n  {shown}{more}")
    return written


def _upscale_one(source: Source, target: Path, *, upscaler: Upscaler, choices: Choices | None) -> list[Path]:
    with tqdm(desc=source.name, unit="strip", disable=not shows_progress()) as bar, logging_redirect_tqdm():

        def progress(done: int, count: int) -> None:
            bar.total, bar.n = count, done
            bar.refresh()

        return [target] if upscale_file(source, target, upscaler=upscaler, choices=choices, progress=progress) else []
