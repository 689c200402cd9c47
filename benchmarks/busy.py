"""What other processes on the same cores cost: point operators and small trainings, on the CPU.

    python benchmarks/busy.py                    # both tables
    python benchmarks/busy.py --waits default 10000 passive

**Operators**: alone; beside a process that spins on every core; beside one that multiplies
matrices with as many threads as there are cores. Means, as a median hides what waits.

**Trainings**: the pre-training step of the experiment ``demo`` by one, two and four processes at
once, each with one thread or as many as there are cores, and by one beside spinning processes.
Steps a second of all of them together. ``--waits`` says how OpenMP's threads wait for work:
GOMP_SPINCOUNT, or ``default`` or ``passive``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import torch  # noqa: E402

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
    time.sleep(2 if others else 0)  # torch takes a second to import
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


def training(threads: int, seconds: float) -> float:
    """Steps a second of the pre-training of ``demo``, once a line comes from the parent."""
    from sa3d import models
    from sa3d.config.loading import load_experiment
    from sa3d.engine import tune
    from sa3d.engine.precision import autocast
    from sa3d.engine.types import Progress
    from sa3d.methods.build import build_method

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tune.configure_cpu()
    config = load_experiment("demo", HERE.parent / "params.yaml")
    settings = next(s for s in config.methods.values() if s.method == "sa3df")
    teacher = models.build_backbone(config.model)
    method = build_method(settings, config.model, teacher).train()
    trained = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-6, fused=True)
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

    step()
    print("ready", flush=True)
    sys.stdin.readline()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - began)


def environment(wait: str) -> dict[str, str]:
    """This process's own, in which OpenMP's threads wait as told."""
    own = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    if wait == "default":
        return own
    return own | ({"OMP_WAIT_POLICY": wait} if wait == "passive" else {"GOMP_SPINCOUNT": wait})


def together(count: int, threads: int, wait: str, args: argparse.Namespace) -> float:
    """Steps a second of ``count`` trainings at once, added up."""
    command = [sys.executable, __file__, "--threads", str(threads), "--seconds", str(args.seconds)]
    pipe, env = subprocess.PIPE, environment(wait)
    children = [
        subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, text=True) for _ in range(count)
    ]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    found = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit("a training failed")
    return sum(map(float, found))


def tables(args: argparse.Namespace) -> None:
    """Print both."""
    print(f"# {CORES} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}", flush=True)
    if "operators" in args.parts:
        found: dict[str, dict[str, float]] = {}
        for name, commands in OTHERS.items():
            command = [sys.executable, __file__, "--operators", "--seconds", str(args.seconds / 4)]
            with beside(commands):
                done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[name] = json.loads(done.stdout)
        print(f"\n| mean ms | {' | '.join(OTHERS)} |\n|---|{'---|' * len(OTHERS)}")
        for case in found["alone"]:
            print(f"| {case} | {' | '.join(f'{found[name][case]:.3f}' for name in OTHERS)} |")
    if "trainings" in args.parts:
        print(f"\n| steps a second | {' | '.join(args.waits)} |\n|---|{'---|' * len(args.waits)}")
        cases = [
            (count, threads, name)
            for count, name in ((1, "alone"), (1, "beside spinning"), (2, "alone"), (4, "alone"))
            for threads in (1, CORES)
            if count in args.counts
        ]
        for count, threads, name in cases:
            with beside(OTHERS[name]):
                rates = [together(count, threads, wait, args) for wait in args.waits]
            label = f"{count} x {threads} threads" + (f", {name}" if count == 1 else "")
            print(f"| {label} | {' | '.join(f'{rate:.2f}' for rate in rates)} |", flush=True)


def main() -> None:
    """Print the tables, or be one of their processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--waits", nargs="+", default=["default", "passive"])
    parser.add_argument("--parts", nargs="+", default=["operators", "trainings"])
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 4], help="of trainings")
    parser.add_argument("--operators", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.operators:
        print(json.dumps(operators(args.seconds)))
    elif args.threads:
        print(training(args.threads, args.seconds))
    else:
        tables(args)


if __name__ == "__main__":
    main()
