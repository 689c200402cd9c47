"""What ``make bench`` holds: the least ratios for each kind of CPU, all in this table.

Ratios only, never seconds. A kind of CPU on which nothing was measured has no floors: there the
losses of a step and its number of operations are checked, which no CPU decides. What is *wanted* of
a step is a target: it is printed beside what was reached, and nothing fails by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import torch

Ratios = tuple[float | None, float | None]  # over the plain form in fp32, and in bf16
NONE: Final[Ratios] = (None, None)


@dataclass(frozen=True)
class Floors:
    """Of one kind of CPU.

    Attributes:
        kind: in words.
        machine: where the floors were measured; empty: nowhere.
        steps: by method and form, how many times as fast as the plain step.
        wanted: likewise, what is aimed at.
        memory: by method, the most memory of a step as a share of the plain step's, both in bf16.
        loader: by form, how many times the plain pipeline's rate without and with two workers.
        operators: by case and peer, how many times as fast as the peer.
    """

    kind: str
    machine: str = ""
    steps: Mapping[tuple[str, str], Ratios] = field(default_factory=dict)
    wanted: Mapping[tuple[str, str], Ratios] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    loader: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    operators: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def describe(self) -> str:
        """One line for the head of a table."""
        if self.machine:
            return f"# floors of a CPU with {self.kind}, measured on {self.machine}"
        return f"# no floors: nothing was measured on a CPU with {self.kind}"


FLOORS: Final = {
    "avx512-bf16": Floors(
        kind="AVX-512 and bf16, without AMX",
        machine="two cores of an AMD EPYC of family 26",
        # a tenth below the least of the runs on an idle machine
        steps={
            ("mae", "ours fp32"): (1.95, None),
            ("mae", "ours bf16"): (3.4, 1.4),
            ("sa3df", "ours fp32"): (1.8, None),
            ("sa3df", "ours bf16"): (3.1, 1.25),
            ("m2ae", "ours fp32"): (1.85, None),
            ("m2ae", "ours bf16"): (2.75, None),
        },
        wanted={
            ("mae", "ours fp32"): (2.0, None),
            ("mae", "ours bf16"): (3.6, 1.4),
            ("sa3df", "ours fp32"): (2.0, None),
            ("sa3df", "ours bf16"): (3.6, 1.4),
            ("m2ae", "ours bf16"): (2.5, None),
        },
        memory={"mae": 0.8, "sa3df": 0.83, "m2ae": 0.85},
        # a quarter below the least of six runs, most on a busy machine
        loader={"loader, its thread": (2.2, 1.5)},
        # a quarter to three quarters of docs/point_ops.md: they take milliseconds, and others
        # disturb them more
        operators={
            "FPS 32 x 1024 -> 64": {"torch_quickfps": 5.0, "torch loop": 20.0},
            "FPS 32 x 2048 -> 512": {"torch_quickfps": 2.5, "torch loop": 20.0},
            "FPS 32 x 8192 -> 1024": {"torch_quickfps": 2.0},
            "FPS 1 x 10000 -> 8192": {"torch_quickfps": 2.8, "torch loop": 100.0},
            "kNN 32 x (64 of 1024), k=32": {"torch cdist + topk": 7.0, "faiss": 6.0},
            "kNN 32 x (512 of 2048), k=16": {"torch cdist + topk": 6.0, "faiss": 4.0},
            "ball query 32 x (512 of 2048), k=32, r=0.2": {
                "torch mask + sort": 100.0,
                "scipy cKDTree": 50.0,
            },
            "3-NN interpolation, fwd + bwd, 32 x 2048 from 512, C=384": {"torch cdist + topk": 4.5},
            "3-NN interpolation, fwd + bwd, 32 x 512 from 256, C=192": {"torch cdist + topk": 6.0},
            "Chamfer L2, fwd + bwd, 1216 x 32 x 32": {"torch baddbmm": 3.0},
            "Chamfer L2, fwd + bwd, 16 x 2048 x 2048": {"torch argmin": 30.0},
            "EMD 4 x 1024": {"scipy linear_sum_assignment": 10.0},
            "attention, fwd + bwd, 32 x 64, 6 heads of 64, bfloat16": {"torch products": 1.15},
            "attention, fwd + bwd, 32 x 64, 6 heads of 64, float32": {"torch products": 1.3},
        },
    ),
    "amx": Floors(
        kind="AMX",
        wanted={
            ("mae", "ours fp32"): (1.5, None),
            ("mae", "ours bf16"): (4.0, 1.9),
            ("sa3df", "ours fp32"): (1.5, None),
            ("sa3df", "ours bf16"): (4.0, 1.9),
            ("m2ae", "ours bf16"): (2.5, None),
        },
    ),
    "other": Floors(kind="neither AMX nor bf16 products"),
}
OPERATORS: Final = FLOORS["avx512-bf16"].operators  # the cases that are compared on every machine
PACKAGES: Final = ("torch_quickfps", "faiss")  # that those need
MOST_OPERATIONS: Final = {"mae": 880, "sa3df": 2060, "m2ae": 1280}  # of our step in bf16


def here() -> Floors:
    """Those of this machine."""
    if torch.cpu._is_amx_tile_supported():
        return FLOORS["amx"]
    return FLOORS["avx512-bf16" if torch.cpu._is_avx512_bf16_supported() else "other"]


class Check:
    """Collects what is below its floor or above its limit."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def least(self, what: str, ratio: float, floor: float | None) -> None:
        """A ratio and its floor, if it has one."""
        if floor is not None and ratio < floor:
            self.wrong.append(f"{what}: {ratio:.2f}, not at least {floor:g}")

    def most(self, what: str, found: float, limit: float | None) -> None:
        """A share or number and its limit, if it has one."""
        if limit is not None and found > limit:
            self.wrong.append(f"{what}: {found:.4g}, not at most {limit:g}")

    def end(self) -> None:
        """Raise SystemExit with all that is wrong."""
        if self.wrong:
            raise SystemExit("\n".join(self.wrong))
