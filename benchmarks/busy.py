"""What other processes on the same cores cost: point operators and small trainings, on the CPU.

    python benchmarks/busy.py                    # all tables
    python benchmarks/busy.py --parts trainings --waits default 10000 passive

**Operators**: alone; beside a process that spins on every core; beside one that multiplies
matrices with as many threads as there are cores. Means, as a median hides what waits.

**Trainings**: the pre-training step of the experiment ``demo`` by one, two and four processes at
once, each with one thread or as many as there are cores, and by one beside spinning processes.
Steps a second of all of them together.

**Fan-out**: a step of each of the four downstream tasks of ``demo``, one, two and four at a time.

``--waits`` says how OpenMP's threads wait for work: GOMP_SPINCOUNT, or ``default`` or ``passive``.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import torch  # noqa: E402

if TYPE_CHECKING:
    from sa3d.config.experiment import ExperimentConfig

PRETRAIN = "pretrain"
TASKS = ("svm", "classify", "fewshot", "segment")
CORES = len(os.sched_getaffinity(0))
SPIN = "import os\nos.sched_setaffinity(0, [{}])\nwhile True: pass"
MULTIPLY = "import torch\nx = torch.randn(512, 512)\nwhile True: x @ x"
OTHERS = {
    "alone": [],
    "beside spinning": [SPIN.format(core) for core in sorted(os.sched_getaffinity(0))],
    "beside products": [MULTIPLY],
}


@contextlib.contextmanager
def beside(commands: list[str]) -> Iterator[None]:
    """Processes that run these meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", command]) for command in commands]
    time.sleep(2 if MULTIPLY in commands else 0.3 if others else 0)  # to import torch, or nothing
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def operators(seconds: float) -> dict[str, float]:
    """Mean ms of every operator, by name."""
    from point_ops import chamfer, farthest_point_sample, group_max, knn

    torch.manual_seed(0)
    points = torch.randn(32, 1024, 3)
    points /= points.norm(dim=-1, keepdim=True)
    centers, patches = points[:, :64].contiguous(), torch.randn(1216, 32, 3)
    rows = torch.randn(2048, 32, 256, dtype=torch.bfloat16)
    found = {}
    for name, run in {
        "farthest points, 32 x 1024 -> 64": lambda: farthest_point_sample(points, 64),
        "neighbours, 32 x 64 of 1024, k = 32": lambda: knn(centers, points, 32),
        "Chamfer, 1216 x 32 x 32": lambda: chamfer(patches, patches),
        "maxima, 2048 x 32 x 256 in bf16": lambda: group_max(rows),
    }.items():
        run()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            run()
            count += 1
        found[name] = (time.perf_counter() - began) / count * 1e3
    return found


def steps_of(kind: str) -> Callable[[], None]:
    """A step of the experiment ``demo``: of its pre-training, or of one of its tasks."""
    from benchmarks import downstream
    from sa3d.config.loading import load_experiment
    from sa3d.engine import tune
    from sa3d.engine.precision import quickest

    torch.manual_seed(0)
    config = load_experiment("demo", HERE.parent / "params.yaml")
    tune.configure_cpu()
    if kind == PRETRAIN:
        return pretraining(config)
    take, _ = downstream.step_of(kind, "demo")
    settings: Any = downstream.evaluation(config, kind).settings
    precision = quickest(torch.device("cpu"), settings.precision)
    return lambda: take(precision)


def pretraining(config: ExperimentConfig) -> Callable[[], None]:
    """A step of pre-training."""
    from sa3d import models
    from sa3d.engine.precision import autocast
    from sa3d.engine.types import Progress
    from sa3d.methods.build import build_method

    settings = next(s for s in config.methods.values() if s.method == "sa3df")
    teacher = models.build_backbone(config.model)
    method = build_method(settings, config.model, teacher).train()
    trained = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6, fused=True)
    assert config.pretrain is not None
    points = torch.randn(settings.batch_size, config.pretrain.data.points, 3)
    batch = SimpleNamespace(points=points / points.norm(dim=-1).amax(1)[:, None, None])
    progress = Progress(399, 400, 0, 1, torch.Generator().manual_seed(0))

    def step() -> None:
        with autocast(torch.device("cpu"), settings.precision):
            loss = method.training_step(batch, progress)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 5.0, foreach=True)
        optimiser.step()
        optimiser.zero_grad()
        method.after_step(progress)

    return step


def obey(kind: str) -> None:
    """Take steps for as long as each line of the parent says, and tell it how many a second."""
    step = steps_of(kind)
    step()
    print("ready", flush=True)
    for line in sys.stdin:
        threads, seconds = line.split()
        torch.set_num_threads(int(threads))
        step()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < float(seconds):
            step()
            count += 1
        print(count / (time.perf_counter() - began), flush=True)


def environment(wait: str) -> dict[str, str]:
    """This process's own, in which OpenMP's threads wait as told."""
    own = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    if wait == "default":
        return own
    return own | ({"OMP_WAIT_POLICY": wait} if wait == "passive" else {"GOMP_SPINCOUNT": wait})


class Worker:
    """A process that takes steps when told; its threads wait for work as ``wait`` says."""

    def __init__(self, kind: str, wait: str) -> None:
        command, pipe = [sys.executable, __file__, "--obey", kind], subprocess.PIPE
        self._process = subprocess.Popen(
            command, env=environment(wait), stdin=pipe, stdout=pipe, text=True
        )

    def heard(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a process that takes steps has failed")
        return line

    def tell(self, threads: int, seconds: float) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{threads} {seconds}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Without it, nothing is left of this."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def workers(kinds: Sequence[str], waits: Sequence[str]) -> Iterator[dict[str, list[Worker]]]:
    """For every way to wait, a process of each kind, which has taken its first step."""
    found: dict[str, list[Worker]] = {}
    try:
        for wait in waits:
            found[wait] = [Worker(kind, wait) for kind in kinds]
            for each in found[wait]:
                each.heard()
        yield found
    finally:
        for each in itertools.chain(*found.values()):
            each.end()


def together(chosen: Sequence[Worker], threads: int, seconds: float) -> list[float]:
    """Steps a second of each of these, which run at once."""
    for each in chosen:
        each.tell(threads, seconds)
    return [float(each.heard()) for each in chosen]


def operator_table(args: argparse.Namespace) -> None:
    """Print what operators take beside others."""
    found: dict[str, dict[str, float]] = {}
    for name, commands in OTHERS.items():
        command = [sys.executable, __file__, "--operators", "--seconds", str(args.seconds / 4)]
        with beside(commands):
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout)
    print(f"\n| mean ms | {' | '.join(OTHERS)} |\n|---|{'---|' * len(OTHERS)}")
    for case in found["alone"]:
        print(f"| {case} | {' | '.join(f'{found[name][case]:.3f}' for name in OTHERS)} |")


def training_table(args: argparse.Namespace) -> None:
    """Print steps a second of pre-trainings at once, all together; ways to wait take turns."""
    cases = [
        (count, threads, name)
        for count, name in ((1, "alone"), (1, "beside spinning"), (2, "alone"), (4, "alone"))
        for threads in args.threads
        if count in args.counts
    ]
    print(f"\n| steps a second | {' | '.join(args.waits)} |\n|---|{'---|' * len(args.waits)}")
    with workers([PRETRAIN] * max(args.counts), args.waits) as found:
        rates: dict[tuple[Any, str], list[float]] = {}
        for _, (case, wait) in itertools.product(
            range(args.rounds), itertools.product(cases, args.waits)
        ):
            count, threads, name = case
            with beside(OTHERS[name]):
                each = together(found[wait][:count], threads, args.seconds)
            rates.setdefault((case, wait), []).append(sum(each))
    for case in cases:
        count, threads, name = case
        label = f"{count} x {threads} threads" + (f", {name}" if count == 1 else "")
        print(f"| {label} | {' | '.join(told(rates[case, wait]) for wait in args.waits)} |")


def told(values: Sequence[float]) -> str:
    """Their median, and from where to where they go."""
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) < 2 else f"{middle} ({min(values):.2f} to {max(values):.2f})"


def fan_out_table(args: argparse.Namespace) -> None:
    """Print how fast four downstream jobs are, by how many run at once, and of how many threads.

    As a share of what each does alone with one thread. In the rounds of two at a time every job
    meets every other.
    """
    with workers(TASKS, args.waits) as found:
        rates: dict[tuple[Any, str], list[list[float]]] = {}
        arrangements = list(itertools.product((1, 2, 4), (1, CORES)))
        for turn, arranged, wait in itertools.product(range(args.rounds), arrangements, args.waits):
            at_once, threads = arranged
            seen = [0.0] * len(TASKS)
            for group in groups(at_once, turn):
                chosen = [found[wait][place] for place in group]
                for place, rate in zip(group, together(chosen, threads, args.seconds), strict=True):
                    seen[place] = rate
            rates.setdefault((arranged, wait), []).append(seen)
    for wait in args.waits:
        print(f"\n| at a time x threads, waiting: {wait} | {' | '.join(TASKS)} | the machine |")
        print(f"|---|{'---|' * (len(TASKS) + 1)}")
        middle = {
            arranged: [statistics.median(each) for each in zip(*rates[arranged, wait], strict=True)]
            for arranged in arrangements
        }
        for arranged in arrangements:
            shares = [a / b for a, b in zip(middle[arranged], middle[1, 1], strict=True)]
            whole = sum(shares) * arranged[0] / len(shares)
            cells = " | ".join(f"{share:.2f}" for share in (*shares, whole))
            print(f"| {arranged[0]} x {arranged[1]} | {cells} |")


def groups(at_once: int, turn: int) -> list[tuple[int, ...]]:
    """The places of the jobs that run at once, one group after the other."""
    if at_once == 2:
        other = 1 + turn % 3
        return [(0, other), tuple(place for place in (1, 2, 3) if place != other)]
    return [(0,), (1,), (2,), (3,)] if at_once == 1 else [(0, 1, 2, 3)]


TABLES = {"operators": operator_table, "trainings": training_table, "fan-out": fan_out_table}


def main() -> None:
    """Print the tables, or be one of their processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--waits", nargs="+", default=["default", "passive"])
    parser.add_argument("--parts", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 4], help="of trainings")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, CORES], help="of a training")
    parser.add_argument("--operators", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--obey", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.operators:
        print(json.dumps(operators(args.seconds)))
    elif args.obey:
        obey(args.obey)
    else:
        print(f"# {CORES} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
        for part in args.parts:
            TABLES[part](args)


if __name__ == "__main__":
    main()
