"""A step of every downstream task at its published size, on the CPU.

    python benchmarks/downstream.py                            # fp32 and bf16, all tasks
    python benchmarks/downstream.py --profile --tasks segment  # where the time goes

Classification of ScanObjectNN (2048 points, 128 patches), part segmentation of ShapeNetPart (2048
points), few-shot learning on ModelNet40 (1024 points, 64 patches) and frozen features for the SVM
(1024 points). Model, batch and optimiser are those of ``params.yaml``; clouds, labels and weights
are random.
Precisions alternate, medians are printed. *Peak* is the share of the fastest matrix product in that
precision, from FLOPs that torch counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import torch  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from benchmarks import training  # noqa: E402
from sa3d.config.experiment import Evaluation, ExperimentConfig  # noqa: E402
from sa3d.config.loading import load_experiment  # noqa: E402
from sa3d.data import transforms  # noqa: E402
from sa3d.data.loader import Batch  # noqa: E402
from sa3d.engine import optim, tune  # noqa: E402
from sa3d.engine.precision import autocast  # noqa: E402
from sa3d.engine.types import Progress  # noqa: E402
from sa3d.models import build_backbone, build_classifier, build_segmenter  # noqa: E402
from sa3d.tasks.finetuning import Classification  # noqa: E402
from sa3d.tasks.segment.run import Segmentation  # noqa: E402

CPU = torch.device("cpu")
DATA = {  # task: data set, and its classes
    "classify": ("scanobjectnn-pb-t50-rs", 15),
    "segment": ("shapenetpart", 16),
    "fewshot": ("modelnet-fewshot", 10),
    "svm": ("modelnet40", 40),
}
PARTS = 50
PUBLISHED = "point-mae-sa3df"
Step = Callable[[str], None]


def evaluation(config: ExperimentConfig, task: str) -> Evaluation:
    """The first one of a task, on its data set here if the experiment has that."""
    found = [each for each in config.evaluate if each.task == task]
    return next((each for each in found if each.data.name == DATA[task][0]), found[0])


def step_of(task: str, experiment: str = PUBLISHED) -> tuple[Step, int]:
    """A step, given a precision, and the clouds of one."""
    torch.manual_seed(0)
    config = load_experiment(experiment, HERE.parent / "params.yaml")
    asked = evaluation(config, task)
    settings: Any = asked.settings
    model, classes = asked.model or config.model, DATA[task][1]
    size = settings.batch_size
    points = torch.randn(size, asked.data.points, 3)
    points /= points.norm(dim=-1).amax(1)[:, None, None]
    if task == "svm":
        backbone = build_backbone(model).eval()

        def extract(precision: str) -> None:
            with autocast(CPU, precision):
                backbone.features(points)

        return extract, size
    labels, parts = torch.randint(classes, (size,)), None
    if task == "segment":
        method: Any = Segmentation(build_segmenter(model, PARTS, classes, settings.dropout))
        parts = torch.randint(PARTS, points.shape[:2])
    else:
        network = build_classifier(model, classes, settings.dropout, settings.pooling)
        method = Classification(network, settings.label_smoothing, classes)
    method.train()
    trained = list(method.parameters())
    groups = optim.parameter_groups(method, settings.weight_decay, exempt=method.no_weight_decay())
    optimiser = optim.adamw(groups, settings)
    optim.set_learning_rate(optimiser, 1e-6)
    augment = transforms.get(settings.augment)
    progress = Progress(0, 1, 0, 1, torch.Generator().manual_seed(0))
    batch = Batch(points, labels, torch.arange(size), parts)

    def step(precision: str) -> None:
        ready = batch._replace(points=augment(points, progress.generator))
        with autocast(CPU, precision):
            loss = method.training_step(ready, progress)["loss"]
        loss.backward()
        optim.clip(trained, settings.clip)
        optimiser.step()
        optimiser.zero_grad()

    return step, size


def table(args: argparse.Namespace) -> None:
    """Print a row for every task and precision."""
    peaks = {precision: training.peak_gemm(precision) for precision in args.precisions}
    told = ", ".join(f"{peak:.0f} {precision}" for precision, peak in peaks.items())
    print(f"# torch {torch.__version__}, {args.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"# fastest products, GFLOP/s: {told}")
    print("| step | batch | s | samples/s | GFLOP a sample | peak |\n|---|---|---|---|---|---|")
    for task in args.tasks:
        step, size = step_of(task)
        times: dict[str, list[float]] = {precision: [] for precision in args.precisions}
        for turn in range(args.rounds + 1):
            for precision, taken in times.items():
                tune.use_onednn(precision == "fp32" and training.ROUTE)
                began = time.perf_counter()
                step(precision)
                if turn:  # the first one warms up
                    taken.append(time.perf_counter() - began)
        for precision, taken in times.items():
            with FlopCounterMode(display=False) as counter:
                step(precision)
            flops, seconds = counter.get_total_flops() / 1e9, statistics.median(taken)
            print(
                f"| {task}, {precision} | {size} | {seconds:.3f} | {size / seconds:.1f} | "
                f"{flops / size:.2f} | {flops / seconds / peaks[precision]:.0%} |",
                flush=True,
            )


def profiles(args: argparse.Namespace) -> None:
    """Print the operators that take longest."""
    for task in args.tasks:
        step, _ = step_of(task)
        for precision in args.precisions:
            tune.use_onednn(precision == "fp32" and training.ROUTE)
            step(precision)
            with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
                step(precision)
            averages = seen.key_averages(group_by_input_shape=args.shapes)
            print(f"\n{task}, {precision}")
            print(averages.table(sort_by="self_cpu_time_total", row_limit=args.rows))


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", action="store_true", help="operators by their time instead")
    parser.add_argument("--shapes", action="store_true", help="in a profile, by shapes too")
    parser.add_argument("--rows", type=int, default=20, help="of a profile")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    training.ROUTE = tune.configure_cpu().onednn
    (profiles if args.profile else table)(args)


if __name__ == "__main__":
    main()
