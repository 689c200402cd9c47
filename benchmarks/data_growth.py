"""What the size of a data set costs: opening its file, the memory of training, waiting for batches.

    python benchmarks/data_growth.py open --clouds 500 5000 50000
    python benchmarks/data_growth.py memory --clouds 500 5000 50000 --steps 2000
    python benchmarks/data_growth.py wait --clouds 52470 --experiment point-mae-sa3df --batch 32

`open`: time to open a file (median), bytes that are read for it, blocks of memory that Python
allocates. `memory`: a tiny model is trained, in a process of its own for each set; resident
memory along the way, which pages of mapped files are part of, and that part. `wait`: each variant
of the experiment is trained for some steps on clouds from everywhere in the file, with batches
made between the steps and by a thread, as the program does, in turns; `train/data_wait` of both,
and the time of a step.

Sets of random clouds of `--stored` points are written to `--folder` and found there again: 8192
points and 52470 clouds take 5 GiB, and as much again while they are written.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __package__ is None:  # run as a script
    import from_root  # noqa: F401

import numpy as np  # noqa: E402
import torch  # noqa: E402

from sa3d import models  # noqa: E402
from sa3d.config.experiment import ExperimentConfig  # noqa: E402
from sa3d.config.loading import load_experiment  # noqa: E402
from sa3d.data import transforms  # noqa: E402
from sa3d.data.ahead import Ahead  # noqa: E402
from sa3d.data.cloud_table import Cloud, CloudTable  # noqa: E402
from sa3d.data.loader import Batches  # noqa: E402
from sa3d.data.store import CloudSet, open_clouds  # noqa: E402
from sa3d.data.writing import write_clouds  # noqa: E402
from sa3d.engine import tune  # noqa: E402
from sa3d.engine.loop import Trainer  # noqa: E402
from sa3d.methods.build import build_method  # noqa: E402
from sa3d.metrics import names as keys  # noqa: E402

OPENINGS = 30
TINY = (
    *("model.groups=16", "model.group_size=8", "model.dim=24", "model.heads=3"),
    *("model.depth=1", "model.decoder_depth=1", "model.embed_width=8"),
    *("pretrain.data.points=96", "pretrain.batch_size=8"),
)


def set_of(folder: Path, clouds: int, stored: int) -> CloudSet:
    """A processed file of random clouds; one that is there already is used."""
    path = folder / f"random-{clouds}-{stored}.h5"
    if not path.is_file():
        base = np.random.default_rng(0).normal(size=(64, stored, 3)).astype(np.float32)
        table = CloudTable(
            ids=[f"{row % 55:08d}/{row:032x}" for row in range(clouds)],
            labels=np.arange(clouds) % 55,
            split=np.zeros(clouds, np.uint8),
            family=np.arange(clouds),
            class_names=tuple(f"class {number}" for number in range(55)),
            source_hash="benchmark",
            normalisation="subsample",
        )
        shifted = (Cloud(base[row % 64] + np.float32(row * 1e-5)) for row in range(clouds))
        write_clouds(path, shifted, table)
    return open_clouds(path)


# --- opening -----------------------------------------------------------------------------


def bytes_read() -> int:
    """By system calls of this process so far; pages of mapped files are not among them."""
    return int(Path("/proc/self/io").read_text().split()[1])


def opening(folder: Path, counts: list[int], stored: int) -> None:
    """Print what opening costs; sets take turns."""
    paths = {count: set_of(folder, count, stored).path for count in counts}
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(OPENINGS):
        for count, path in paths.items():
            began = time.perf_counter()
            open_clouds(path)
            seconds[count].append(time.perf_counter() - began)
    print("| clouds | ms | KiB read | blocks of memory |\n|---|---|---|---|")
    for count, path in paths.items():
        before, blocks = bytes_read(), sys.getallocatedblocks()
        opened = open_clouds(path)
        blocks = sys.getallocatedblocks() - blocks
        read = bytes_read() - before
        print(f"| {len(opened)} | {1e3 * statistics.median(seconds[count]):.2f} ", end="")
        print(f"| {read / 1024:.0f} | {blocks} |")


# --- training ----------------------------------------------------------------------------


class Record:
    """A tracker that keeps metrics, and the process's memory at each."""

    def __init__(self) -> None:
        self.points: list[Mapping[str, float]] = []
        self.memory: list[tuple[int, float, float]] = []

    def metrics(self, values: Mapping[str, float], step: int, training: str = "") -> None:
        self.points.append(values)
        status = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        whole, files = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "RssFile"))
        self.memory.append((step, whole, files))

    def resume(self, step: int, training: str = "") -> None: ...

    def flush(self) -> None: ...


def trainer(
    config: ExperimentConfig, variant: str, clouds: CloudSet, batch: int, steps: int, thread: bool
) -> tuple[Trainer, Record]:
    """A trainer of one epoch, or of as many as `steps` steps of the whole set take."""
    settings = config.methods[variant]
    rows = np.random.default_rng(0).permutation(len(clouds))[: steps * batch]
    epochs = -(-steps // (len(rows) // batch))
    settings = settings.model_copy(update={"batch_size": batch, "epochs": epochs})
    teacher = models.build_backbone(config.model) if settings.has_teacher else None
    batches: Any = Batches(
        clouds,
        rows,
        batch_size=batch,
        points=config.pretrain.data.points,
        seed=0,
        shuffle=True,
        drop_last=True,
    )
    augment = transforms.get(settings.augment)
    record = Record()
    return Trainer(
        build_method(settings, config.model, teacher),
        Ahead(batches, one_core=True) if thread else batches,
        settings,
        seed=0,
        device=torch.device("cpu"),
        prepare=lambda b, at: b._replace(points=augment(b.points, at.generator)),
        tracker=record,  # type: ignore[arg-type]
        checkpoint=None,
    ), record


def memory(folder: Path, clouds: int, stored: int, steps: int) -> None:
    """Print the resident memory of this process while it trains."""
    config = load_experiment("demo", HERE.parent / "params.yaml", list(TINY))
    tune.configure_cpu()
    variant = next(n for n, s in config.methods.items() if s.method == "sa3df")
    fit, record = trainer(config, variant, set_of(folder, clouds, stored), 8, steps, True)
    fit.fit()
    shown = np.linspace(0, len(record.memory) - 1, 6).astype(int).tolist()
    for step, whole, files in (record.memory[at] for at in shown):
        print(f"| {clouds} | {step} | {whole:.1f} | {files:.1f} |", flush=True)


def waiting(folder: Path, args: argparse.Namespace) -> None:
    """Print the share of time that training waits, and its steps."""
    config = load_experiment(args.experiment, HERE.parent / "params.yaml")
    clouds = set_of(folder, args.clouds[0], args.stored)
    print(tune.configure_cpu().describe())
    print("| variant | batches made | ms a step | data_wait |\n|---|---|---|---|")
    for variant, settings in config.methods.items():
        found: dict[str, list[tuple[float, float]]] = {"between steps": [], "by a thread": []}
        batch = args.batch or settings.batch_size
        for _ in range(args.rounds + 1):
            for how, points in found.items():
                fit, record = trainer(
                    config, variant, clouds, batch, args.steps, how == "by a thread"
                )
                fit.fit()
                last = record.points[-1]
                points.append((batch / last[keys.SAMPLES_PER_SECOND], last[keys.DATA_WAIT]))
        for how, points in found.items():
            step, share = (statistics.median(column) for column in zip(*points[1:], strict=True))
            print(f"| {variant} | {how} | {1e3 * step:.1f} | {share:.2%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("open", "memory", "wait"))
    parser.add_argument("--clouds", type=int, nargs="+", default=[500, 5000, 50000])
    parser.add_argument("--stored", type=int, default=8192, help="points of each cloud")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "random-sets")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--experiment", default="demo")
    parser.add_argument("--batch", type=int, help="else that of the experiment")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.what == "open":
        opening(args.folder, args.clouds, args.stored)
    elif args.what == "wait":
        waiting(args.folder, args)
    elif args.alone:
        memory(args.folder, args.alone, args.stored, args.steps)
    else:
        print("| clouds | step | resident, MiB | of it files |\n|---|---|---|---|", flush=True)
        for count in args.clouds:
            set_of(args.folder, count, args.stored)
            alone = [sys.executable, __file__, *sys.argv[1:], "--alone", str(count)]
            subprocess.run(alone, check=True)


if __name__ == "__main__":
    main()
