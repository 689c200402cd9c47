"""Batches a second of the loader, against a plain gather and against a pipeline of research code.

    python benchmarks/loader.py --clouds 512 --epochs 10
    python benchmarks/loader.py --clouds 2048 --epochs 3 --peer

Clouds of 8192 random points, 1024 taken of each, batches of 32. The plain form does by hand what
the loader does for clouds of one size, without offsets, checks or part labels: it indexes the
mapped (S, N, 3) array, draws the same points and scales to the unit sphere. The forms take
turns batch by batch, in changing order, after an epoch to warm up. Printed are the lower quartiles
over all batches (on a busy machine many batches are interrupted, whichever form makes them), and
the loader's rate over the plain form's.

`--peer` compares with `plain_loader.py` instead, without and with two worker processes: batches
come as fast as they are taken, scaled and shifted, by the loader alone and by its thread as in
training. The forms take turns epoch by epoch; the rate is that of the median epoch, from its first
batch to its last, so that starting workers is not counted. `--check` fails where a rate is below
its floor in ``benchmarks/floors.py``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import numpy as np
import torch
from point_ops import farthest_point_sample

from benchmarks import floors
from benchmarks.plain_loader import CloudFiles, plain_batches
from sa3d.data import transforms
from sa3d.data.ahead import Ahead
from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.loader import Batches, Sampling
from sa3d.data.preprocessing import unit_sphere
from sa3d.data.store import CloudSet, open_clouds
from sa3d.data.writing import write_clouds
from sa3d.engine import tune

OURS = ("loader", "loader, its thread")  # rates that are compared with the plain pipeline's
STORED, ASKED, POOL, BATCH, SEED = 8192, 1024, 1200, 32, 0


def made(path: Path, count: int) -> CloudSet:
    rng = np.random.default_rng(SEED)
    table = CloudTable(
        ids=[str(i) for i in range(count)],
        labels=np.zeros(count, np.int64),
        split=np.zeros(count, np.uint8),
        family=np.arange(count),
        class_names=("only",),
        source_hash="benchmark",
        normalisation="subsample",
        part_names=("p", "q"),
        class_parts=((0, 1),),
    )
    clouds = (
        Cloud(rng.normal(size=(STORED, 3)).astype(np.float32), np.arange(STORED) % 2)
        for _ in range(count)
    )
    return open_clouds(write_clouds(path, clouds, table))


def stream(kind: int, row: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=SEED, counter=[0, kind, epoch, row]))


def draw(count: int, row: int, epoch: int) -> np.ndarray:
    return stream(2, row, epoch).choice(count, ASKED, replace=False)


def plain_random(points: np.ndarray, rows: np.ndarray, epoch: int) -> torch.Tensor:
    taken = [points[row].take(draw(STORED, row, epoch), axis=0) for row in rows.tolist()]
    return unit_sphere(torch.from_numpy(np.stack(taken)))


def plain_fps_subset(points: np.ndarray, rows: np.ndarray, epoch: int) -> torch.Tensor:
    whole = torch.from_numpy(np.stack([points[row] for row in rows.tolist()]))
    start = [int(stream(3, row, epoch).integers(STORED)) for row in rows.tolist()]
    slots = torch.arange(len(rows))
    first = whole[:, 0].clone()  # farthest points from a new one each epoch
    whole[:, 0] = whole[slots, start]
    whole[slots, start] = first
    pool = farthest_point_sample(whole, POOL)
    chosen = torch.from_numpy(np.stack([draw(POOL, row, epoch) for row in rows.tolist()]))
    index = pool.gather(1, chosen)[..., None].expand(-1, -1, 3)
    return unit_sphere(whole.gather(1, index))


def plain(
    points: np.ndarray,
    labels: np.ndarray,
    gather: Callable[[np.ndarray, np.ndarray, int], torch.Tensor],
    epoch: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    order = np.random.default_rng((SEED, 1, epoch)).permutation(len(points))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        rows = order[start : start + BATCH]
        clouds = gather(points, rows, epoch)
        yield clouds, torch.from_numpy(labels[rows]), torch.from_numpy(rows.copy())


def loader(clouds: CloudSet, sampling: Sampling, parts: bool, batch: int = BATCH) -> Batches:
    return Batches(
        clouds,
        np.arange(len(clouds)),
        batch_size=batch,
        points=ASKED,
        seed=SEED,
        shuffle=True,
        drop_last=True,
        sampling=sampling,
        parts=parts,
    )


def peer(clouds: CloudSet, folder: Path, epochs: int, batch: int) -> floors.Check:
    """Print rates beside those of the plain pipeline."""
    tune.configure_cpu()  # as a training process
    files = [folder / f"{row}.npy" for row in range(len(clouds))]
    for row, file in enumerate(files):
        np.save(file, clouds.cloud(row))
    ours = loader(clouds, "random", False, batch)
    number = len(ours)
    plain = CloudFiles(files, clouds.labels.tolist(), STORED, ASKED)
    endless: dict[str, Iterator[torch.Tensor]] = {
        "plain, 0 workers": plain_batches(plain, batch, 0),
        "plain, 2 workers": plain_batches(plain, batch, 2),
        **dict(zip(OURS, (augmented(ours), augmented(Ahead(ours, one_core=True))), strict=True)),
    }
    rates: dict[str, list[float]] = {name: [] for name in endless}
    for epoch in range(epochs + 1):
        for name, batches in endless.items():
            next(batches)
            began = time.perf_counter()
            for _ in range(number - 1):
                next(batches)
            if epoch:  # the first warms up
                rates[name].append(batch * (number - 1) / (time.perf_counter() - began))
    usual = {name: statistics.median(found) for name, found in rates.items()}
    held, check = floors.here(), floors.Check()
    print(held.describe())
    for name, rate in usual.items():
        shares = [rate / usual[f"plain, {workers} workers"] for workers in (0, 2)]
        print(f"{name:19} {rate:8.0f} clouds/s, {shares[0]:5.2f} and {shares[1]:5.2f} of plain")
        for workers, share, floor in zip((0, 2), shares, held.loader.get(name, ()), strict=False):
            check.least(f"{name}, of the plain rate with {workers} workers", share, floor)
    return check


def augmented(source: Batches | Ahead) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    for epoch in count():
        for batch in source.epoch(epoch):
            yield transforms.scale_translate(batch.points, generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clouds", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128, help="with --peer")
    parser.add_argument("--peer", action="store_true", help="against a plain pipeline")
    parser.add_argument("--check", action="store_true", help="--peer, and fail below a floor")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        clouds = made(Path(folder) / "benchmark.h5", args.clouds)
        points = clouds.flat_points.reshape(-1, STORED, 3)
        batch = args.batch if args.peer or args.check else BATCH
        print(f"{args.clouds} clouds, {STORED} -> {ASKED}, batch {batch}, {args.threads} threads")
        if args.peer or args.check:
            check = peer(clouds, Path(folder), args.epochs, batch)
            if args.check:
                check.end()
            return
        for sampling, gather in (("random", plain_random), ("fps_subset", plain_fps_subset)):
            forms: dict[str, Callable[[int], Iterator[object]]] = {
                "plain": lambda e, gather=gather: plain(points, clouds.labels, gather, e),
                "loader": loader(clouds, sampling, False).epoch,
                "loader, parts": loader(clouds, sampling, True).epoch,
            }
            seconds = interleaved(forms, args.epochs)
            for name, times in seconds.items():
                usual = quartile(times)
                print(
                    f"{sampling:10} {name:13} {BATCH / usual:8.0f} clouds/s "
                    f"{1e3 * usual:7.2f} ms/batch "
                    f"{quartile(seconds['plain']) / usual:5.2f} of plain"
                )


def quartile(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=4)[0]


def interleaved(
    forms: dict[str, Callable[[int], Iterator[object]]], epochs: int
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    names = list(forms)
    for epoch in range(epochs + 1):
        running = {name: batches(epoch) for name, batches in forms.items()}
        done = False
        while not done:
            names.append(names.pop(0))
            for name in names:
                began = time.perf_counter()
                done = next(running[name], None) is None
                if epoch and not done:  # the first epoch warms up
                    seconds[name].append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
