"""Exported files beside their model: size, and milliseconds of a core with one thread.

    sa3d export MODEL --out a.onnx; sa3d export MODEL --out a.pt2
    OMP_NUM_THREADS=1 python -m benchmarks.export MODEL a.onnx a.pt2

Time is that of the processor, so that other work on the machine counts little. Rounds are
interleaved; medians are printed. docs/export.md has what was measured.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import point_ops  # noqa: F401 - programs of torch.export need its operators
import torch

from sa3d.deploy.deployable import deployable
from sa3d.inference.locating import model_folder

CASES = ((1, 1024), (32, 1024), (1, 8192), (32, 8192))


def runner(file: Path) -> Callable[[dict[str, np.ndarray]], Any]:
    if file.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda feeds: session.run(None, feeds)
    program = torch.export.load(file).module()
    return lambda feeds: program(*map(torch.from_numpy, feeds.values()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with model_folder(given.model) as folder:
        model = deployable(folder)
        weights = (folder / "model.safetensors").stat().st_size
    print(
        f"weights {weights / 1e6:.1f} MB",
        *(f"{f.name} {f.stat().st_size / 1e6:.1f} MB" for f in given.files),
    )
    runs = [runner(file) for file in given.files]
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        for batch, count in CASES:
            clouds = rng.normal(size=(batch, count, 3)).astype(np.float32)
            categories = np.zeros(batch, dtype=np.int64)
            feeds = {"points": clouds, "category": categories}
            feeds = {name: feeds[name] for name in model.inputs}
            asked = partial(model.answer, list(clouds), categories)
            all_runs = [lambda _, asked=asked: asked(), *runs]
            taken: list[list[float]] = [[] for _ in all_runs]
            for _ in range(given.rounds + 1):
                for times, run in zip(taken, all_runs, strict=True):
                    began = time.process_time()
                    run(feeds)
                    times.append(time.process_time() - began)
            each = [1000 * float(np.median(times[1:])) for times in taken]
            names = ["torch", *(file.suffix for file in given.files)]
            print(
                f"{batch} x {count}:",
                *(f"{n} {t:.1f} ms" for n, t in zip(names, each, strict=True)),
                flush=True,
            )
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
