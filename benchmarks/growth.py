"""How costs grow: with the size of a training step, of a data set, of an experiment.

    python benchmarks/growth.py step
    python benchmarks/growth.py processes
    python benchmarks/growth.py prepare
    python benchmarks/growth.py open
    python benchmarks/growth.py runs --flow
    python benchmarks/growth.py paper

Every table ends with the exponent of its cost, the slope of a line through all points on
logarithmic axes by least squares, and that between its last two points alone, where what is paid
once weighs least. ``paper`` measures nothing: it multiplies what was measured by the sizes of
larger data sets.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

from benchmarks import growth_paper, growth_runs  # noqa: E402

COUNTS = (10, 30, 100, 300, 1000)  # evaluations that are done already
SHARES = {"shapenet55": (0.01, 0.03, 0.1, 0.3), "modelnet40": (0.02, 0.06, 0.2)}
OPENED = (1000, 10_000, 100_000)  # clouds of a file that is opened
SHUFFLED = (52_470, 800_000, 10_000_000)


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of log cost over log size, by least squares."""
    if len(points) < 2 or any(value <= 0 for point in points for value in point):
        raise ValueError(f"no line through {points}")
    logs = [(math.log(size), math.log(cost)) for size, cost in points]
    middle = [sum(values) / len(logs) for values in zip(*logs, strict=True)]
    spread = sum((x - middle[0]) ** 2 for x, _ in logs)
    return sum((x - middle[0]) * (y - middle[1]) for x, y in logs) / spread


def grown(points: Sequence[tuple[float, float]]) -> str:
    """Both exponents, in words."""
    return f"exponent {exponent(points):.2f}, of the last two {exponent(points[-2:]):.2f}"


def show(title: str, points: Sequence[tuple[float, float]], unit: str) -> None:
    """A table of one cost."""
    print(f"\n{title}\n")
    print(f"| {unit} | s | ms for each |")
    print("|---|---|---|")
    for size, cost in points:
        print(f"| {size:g} | {cost:.4g} | {1e3 * cost / size:.4g} |")
    print(f"\n{grown(points)}", flush=True)


def step(given: argparse.Namespace) -> None:
    import torch

    from benchmarks import growth_step
    from sa3d.engine import tune

    torch.set_num_threads(1)
    print(f"{tune.configure_cpu().describe()}; one thread, torch {torch.__version__}")
    for method in given.methods or growth_step.METHODS:
        for varied in given.varied or growth_step.TAKES:
            points = growth_step.shapes(method, varied, given.precision, given.rounds)
            show(f"{method}, {given.precision}: a step against {varied}", points, varied)


def processes(given: argparse.Namespace) -> None:
    from benchmarks import growth_step

    for method in given.methods or growth_step.METHODS:
        found = growth_step.side_by_side(method, given.precision, given.rounds)
        print(f"\n{method}, {given.precision}, {growth_step.BASE['batch']} clouds a process\n")
        print("| | s/step | clouds/s | of twice the rate of one process |")
        print("|---|---|---|---|")
        batch = growth_step.BASE["batch"]
        alone = batch / found["1 process"]
        for way, (count, threads, _) in growth_step.WAYS.items():
            rate = batch * max(count, threads) / found[way]
            print(f"| {way} | {found[way]:.4g} | {rate:.4g} | {rate / alone / 2:.0%} |", flush=True)


def prepare(given: argparse.Namespace) -> None:
    said = re.compile(r": (\d+) clouds in ([\d.]+) s .* at most (\d+) MiB")
    for name in given.sets or SHARES:
        points, memory = [], []
        for share in SHARES[name]:
            words = [sys.executable, str(HERE / "prepare.py"), name, "--share", str(share)]
            out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            match = said.search(out)
            if match is None:
                raise SystemExit(f"prepare.py said something else: {out}")
            points.append((float(match[1]), float(match[2])))
            memory.append(f"{match[1]}: {match[3]} MiB")
        show(f"prepare {name}", points, "clouds")
        print(f"most memory: {', '.join(memory)}")


def open_sets(given: argparse.Namespace) -> None:
    """Opening a file of small clouds, what an index holds in memory, and the order of an epoch."""
    import numpy as np
    import psutil

    from sa3d.data.cloud_table import Cloud, CloudTable
    from sa3d.data.store import open_clouds
    from sa3d.data.writing import write_clouds

    def resident() -> int:
        return int(psutil.Process().memory_info().rss)

    points, memory = [], []
    with tempfile.TemporaryDirectory() as folder:
        cloud = np.eye(4, 3, dtype=np.float32)
        for count in OPENED:
            table = CloudTable(
                ids=[f"02691156-{number:032x}" for number in range(count)],
                labels=np.zeros(count, np.int64),
                split=np.zeros(count, np.uint8),
                family=np.arange(count),
                class_names=("only",),
                source_hash="benchmark",
                normalisation="none",
            )
            path = Path(folder) / f"{count}.h5"
            write_clouds(path, (Cloud(cloud) for _ in range(count)), table)
            del table
            before, began = resident(), time.perf_counter()
            opened = open_clouds(path)
            points.append((count, time.perf_counter() - began))
            memory.append(f"{count}: {(resident() - before) / count:.0f} bytes a cloud")
            del opened
    show("open a processed file", points, "clouds")
    print(f"held in memory: {', '.join(memory)}")
    orders = []
    for count in SHUFFLED:
        began = time.perf_counter()
        np.random.default_rng(0).permutation(np.arange(count))
        orders.append((count, time.perf_counter() - began))
    show("the order of an epoch", orders, "clouds")


def runs(given: argparse.Namespace) -> None:
    """A flow's own parts, each process for itself; with ``--flow`` the whole command too."""
    with tempfile.TemporaryDirectory() as own:
        folder = given.folder or Path(own)
        found = {}
        for count in COUNTS:
            words = [sys.executable, str(HERE / "growth_runs.py"), str(folder), str(count)]
            out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            found[count] = json.loads(out.splitlines()[-1])
        for part in found[COUNTS[0]]:
            points = [(count, found[count][part]["seconds"]) for count in COUNTS]
            show(part, points, "runs")
            counts = [found[count][part]["opened"] for count in COUNTS]
            print(f"opened files: {', '.join(map(str, counts))}")
        if given.flow:
            show("python -m flows.experiment", whole_flows(folder), "runs")


def whole_flows(folder: Path) -> list[tuple[float, float]]:
    """Seconds of the command, with Prefect and MLflow, where every run is finished."""
    words = [sys.executable, "-m", "flows.experiment", growth_runs.NAME, "--device", "cpu"]
    env, points = growth_runs.environment(folder), []
    for count in COUNTS:
        growth_runs.write_settings(folder, count)
        began = time.perf_counter()
        subprocess.run([*words, "--quiet"], cwd=folder, env=env, check=True)
        points.append((float(count), time.perf_counter() - began))
    return points


def paper(given: argparse.Namespace) -> None:
    print(growth_paper.tables(given.price))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = parser.add_subparsers(required=True)
    for name, make in (
        ("step", step),
        ("processes", processes),
        ("prepare", prepare),
        ("open", open_sets),
        ("runs", runs),
        ("paper", paper),
    ):
        part = parts.add_parser(name)
        part.set_defaults(make=make)
        if name in ("step", "processes"):
            part.add_argument("--methods", nargs="+", choices=("mae", "sa3df"))
            part.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
            part.add_argument("--rounds", type=int, default=3)
        if name == "step":
            part.add_argument("--varied", nargs="+", help="batch, points, patches, width; all else")
        if name == "prepare":
            part.add_argument("sets", nargs="*", choices=[[], *SHARES], default=[])
        if name == "runs":
            part.add_argument("--flow", action="store_true", help="the whole command too")
            part.add_argument("--folder", type=Path, help="keep the project there")
        if name == "paper":
            part.add_argument(
                "--price", type=float, default=growth_paper.PRICE, help="of a GPU hour"
            )
    given = parser.parse_args()
    given.make(given)


if __name__ == "__main__":
    main()
