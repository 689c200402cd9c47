"""Procedural clouds a second, against the training step that they are to feed.

    python benchmarks/procedural.py --clouds 2000 --workers 1 --steps 5

Three numbers, of the experiment `procedural-small`: clouds a second of processor time of one core
that does nothing but make clouds; clouds a second of wall time that arrive in the training
process from `--workers` processes; and samples a second of a training step of its plain masked
autoencoder and of SA3DF at the end of its curriculum, on clouds that are there already. The first
does not suffer from other work on the machine, the others do. At the end stands how many workers
keep up with each step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in a worker

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import torch  # noqa: E402

from sa3d import models  # noqa: E402
from sa3d.config.endless import EndlessSource  # noqa: E402
from sa3d.config.experiment import ExperimentConfig  # noqa: E402
from sa3d.config.loading import load_experiment  # noqa: E402
from sa3d.data.endless import generator_of, training_stream  # noqa: E402
from sa3d.data.endless_batches import EndlessBatches  # noqa: E402
from sa3d.data.loader import Batch  # noqa: E402
from sa3d.engine import optim, tune  # noqa: E402
from sa3d.engine.precision import autocast  # noqa: E402
from sa3d.engine.types import LOSS_KEY, Progress  # noqa: E402
from sa3d.methods.build import build_method  # noqa: E402

BLOCK = 200  # clouds timed at a time


def of_one_core(source: EndlessSource, clouds: int) -> float:
    """Clouds a second of processor time: the lower quartile over blocks, so the slow side."""
    make, stream = generator_of(source), training_stream(0)
    make(source, stream, range(BLOCK))
    rates = []
    for first in range(0, clouds, BLOCK):
        began = time.process_time()
        make(source, stream, range(first, first + BLOCK))
        rates.append(BLOCK / (time.process_time() - began))
    return statistics.quantiles(rates, n=4)[0] if len(rates) > 1 else rates[0]


def arriving(batches: EndlessBatches, clouds: int) -> float:
    """Clouds a second of wall time that arrive here, after the workers have begun."""
    with batches:
        stream = (batch for e in range(1000) for batch in batches.epoch(e))
        for _ in range(4):
            next(stream)
        count, began = 0, time.perf_counter()
        while count < clouds:
            count += len(next(stream).points)
        return count / (time.perf_counter() - began)


def of_a_step(
    config: ExperimentConfig, variant: str, batch: Batch, device: torch.device, steps: int
) -> float:
    """Samples a second of whole training steps: the median."""
    settings = config.methods[variant]
    teacher = models.build_backbone(config.model) if settings.has_teacher else None
    method = build_method(settings, config.model, teacher).to(device).train()
    groups = optim.parameter_groups(method, settings.weight_decay, exempt=method.no_weight_decay())
    optimiser = optim.adamw(groups, settings)
    trained = [p for group in groups for p in group["params"]]
    generator = torch.Generator(device)
    times = []
    for step in range(steps + 2):
        generator.manual_seed(step)
        progress = Progress(settings.epochs - 1, settings.epochs, step, 1, generator)
        began = time.perf_counter()
        with autocast(device, settings.precision):
            loss = method.training_step(batch, progress)[LOSS_KEY]
        loss.backward()
        optim.clip(trained, settings.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        method.after_step(progress)
        loss.item()
        times.append(time.perf_counter() - began)
    return len(batch.points) / statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clouds", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each method")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    if device.type == "cpu":
        print(tune.configure_cpu().describe())
    config = load_experiment("procedural-small", HERE.parent / "params.yaml")
    assert config.pretrain is not None
    data, source = config.pretrain.data, config.pretrain.data.endless
    assert source is not None
    print(f"{data.points} points, batch {given.batch}, {device}, torch {torch.__version__}")
    core = of_one_core(source, given.clouds)
    print(
        f"one core              {core:8.0f} clouds/s of processor time ({1000 / core:.2f} ms each)"
    )
    batches = EndlessBatches(
        source, batch_size=given.batch, points=data.points, seed=0, workers=given.workers
    )
    rate = arriving(batches, given.clouds)
    print(f"workers: {given.workers:<10}   {rate:8.0f} clouds/s arrive")
    with EndlessBatches(
        source, batch_size=given.batch, points=data.points, seed=0, workers=0
    ) as fixed:
        batch = next(fixed.epoch(0))
    batch = batch._replace(points=batch.points.to(device))
    for variant, settings in config.methods.items():
        found = of_a_step(config, variant, batch, device, given.steps)
        needs = f"{found / core:.2f} cores keep up"
        print(f"step of {settings.method:<10}    {found:8.0f} samples/s; {needs}")


if __name__ == "__main__":
    main()
