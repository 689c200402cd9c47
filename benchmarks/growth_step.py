"""A training step of Point-MAE in many shapes, and in two processes: for ``benchmarks/growth.py``.

The model and its settings are as published unless a row changes them; half the published batch is
what the other sizes are varied with, so that a step takes a second or two on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import torch

from benchmarks.gpu_steps import Card, Case, Steps
from sa3d.engine import tune
from sa3d.engine.distributed import processes

EXPERIMENT: Final = "point-mae-sa3df"
BASE: Final = {"batch": 16, "points": 1024, "patches": 64, "width": 384}
TAKES: Final = {  # what is varied, one at a time
    "batch": (4, 8, 16, 32, 64),
    "points": (1024, 2048, 4096, 8192),
    "patches": (16, 32, 64, 128, 256),
    "width": (96, 192, 384, 768),
}
METHODS: Final = ("mae", "sa3df")


class Processor(Card):
    """The CPU by its own time: other processes do not count, and threads add up."""

    def mark(self) -> float:
        return time.process_time()


def case(method: str, shape: Mapping[str, int], card: Card) -> Case:
    """The method on a model of that shape, on the CPU."""
    values = {
        "pretrain.data.points": shape["points"],
        "model.groups": shape["patches"],
        "model.dim": shape["width"],
    }
    overrides = [f"{key}={value}" for key, value in values.items()]
    return Case(card, EXPERIMENT, method, overrides)


def times_of(made: Case, batch: int, precision: str, steps: int) -> list[float]:
    """Seconds of the steps after the first."""
    done = Steps(made.card, steps + 1)
    with processes(made.card.device) as group:
        made.fit(batch, precision, done, None, group)
    return [each / 1e3 for each in made.card.milliseconds(done.marks)[1:]]


def shapes(
    method: str, varied: str, precision: str, rounds: int, steps: int = 3
) -> list[tuple[int, float]]:
    """Median seconds of processor time of a step against one of the sizes, which take turns."""
    values = TAKES[varied]
    card = Processor(torch.device("cpu"))
    cases = {value: case(method, BASE | {varied: value}, card) for value in values}
    times: dict[int, list[float]] = {value: [] for value in values}
    for _ in range(rounds):
        for value, made in cases.items():
            batch = value if varied == "batch" else BASE["batch"]
            times[value] += times_of(made, batch, precision, steps)
    return [(value, statistics.median(times[value])) for value in values]


# --- two processes -----------------------------------------------------------------------

WAYS: Final = {  # processes, threads of each, whether they exchange gradients
    "1 process": (1, 1, False),
    "2 processes, each for itself": (2, 1, False),
    "2 processes, one model (gloo)": (2, 1, True),
    "1 process, 2 threads, twice the batch": (1, 2, False),
}


def side_by_side(method: str, precision: str, rounds: int) -> dict[str, float]:
    """Seconds of a step for each of :data:`WAYS`, in processes of their own that take turns."""
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            times[way].append(_once(way, method, precision))
            print(f"  {way}: {times[way][-1]:.4f} s", flush=True)
    return {way: statistics.median(found) for way, found in times.items()}


def _once(way: str, method: str, precision: str) -> float:
    count, threads, exchange = WAYS[way]
    batch = BASE["batch"] * (2 if threads == 2 else 1)
    words = [sys.executable, __file__, "--method", method, "--precision", precision]
    words += ["--batch", str(batch), "--threads", str(threads)]
    with tempfile.TemporaryDirectory() as meeting:
        children = []
        for rank in range(count):
            env = dict(os.environ)
            if exchange:
                env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
                env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _PORT}
            # torchrun would do the same for those that exchange; the others have no rank
            together = [*words, "--together", f"{meeting}/{rank}", "--count", str(count)]
            children.append(subprocess.Popen(together, env=env, stdout=subprocess.PIPE, text=True))
        said = [child.communicate(timeout=170)[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit(f"{way}: a process failed")
    return statistics.mean(json.loads(text.splitlines()[-1]) for text in said)


_PORT: Final = "29517"


def _wait_for_others(own: Path, count: int) -> None:
    """Say that this process is ready, and return once all are."""
    own.touch()
    end = time.monotonic() + 120
    while sum(1 for _ in own.parent.iterdir()) < count:
        if time.monotonic() > end:
            raise SystemExit("the other process did not come")
        time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser(description="one of several processes that train")
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--together", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tune.configure_cpu()
    made = case(given.method, BASE, Card(torch.device("cpu")))
    _wait_for_others(given.together, given.count)
    print(json.dumps(statistics.median(times_of(made, given.batch, given.precision, given.steps))))


if __name__ == "__main__":
    main()
