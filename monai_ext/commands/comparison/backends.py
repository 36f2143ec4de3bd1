"""Where the runs of a comparison execute, as options of a command."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from tyro.constructors import PrimitiveConstructorSpec

from monai_ext.commands.command_line import Computed
from monai_ext.commands.comparison.ray_backend import RayOptions

__all__ = ["BackendOptions", "part_of_all"]


def part_of_all(text: str) -> tuple[int, int]:
    """ "I/N", such as an array job's number and count, as (I, N).

    >>> part_of_all("2/5")
    (2, 5)

    Raises:
        ValueError: it is something else, or I is not in 1 ... N.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ValueError(f"{text!r} is no part: write I/N with I from 1 to N, such as 2/5")
    return int(number), int(count)


PART = PrimitiveConstructorSpec(
    nargs=1,
    metavar="I/N",
    instance_from_str=lambda words: part_of_all(words[0]),
    is_instance=lambda value: value is None or isinstance(value, tuple),
    str_from_instance=lambda part: [f"{part[0]}/{part[1]}" if part else ""],
)


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Where runs execute, and which of them."""

    jobs: Computed[int | None] = None
    """runs at a time (local: 1; ray: as many as the cluster has room for)"""
    part: Computed[Annotated[tuple[int, int] | None, PART]] = None
    """only every N-th run, from the I-th; no report"""
    backend: Literal["local", "ray"] = "local"
    """where runs execute"""
    ray: RayOptions = field(default_factory=RayOptions)

    def __post_init__(self) -> None:
        usual = asdict(RayOptions())
        for name, value in asdict(self.ray).items():
            if self.backend != "ray" and value != usual[name]:
                raise ValueError(f"--{name} {value} is an option of --backend ray: add that, or leave it out.")
