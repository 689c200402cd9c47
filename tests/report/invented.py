"""A made-up experiment on disk, in the shapes real runs leave: all its numbers are invented.

python tests/report/invented.py DIR      writes DIR/results.json and DIR/work/…
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from sa3d.metrics import names as keys
from sa3d.viz import explain as ex

CLASSES = ["chair", "table", "lamp", "mug", "plane", "bottle", "shelf", "stool", "bed", "vase",
           "rocket", "bench"]  # fmt: skip
ARMS = ("method", "baseline", "scratch")
ACCURACY = {"svm": (0.781, 0.767, 0.601), "classify": (0.861, 0.847, 0.771)}
TEST = 288
MASKED, KEPT, PATCHES, GROUP = 20, 24, 32, 24


def box(rng: np.random.Generator, n: int, low: Any, high: Any) -> np.ndarray:
    points = rng.uniform(low, high, (n, 3))
    low, high = np.asarray(low), np.asarray(high)
    axis = rng.integers(0, 3, n)
    side = rng.random(n) < 0.5
    points[np.arange(n), axis] = np.where(side, low[axis], high[axis])
    return points


def tube(rng: np.random.Generator, n: int, radii: tuple[float, float], y: tuple[float, float]):
    t, angle = rng.random(n), rng.uniform(0, 2 * np.pi, n)
    r = radii[0] + (radii[1] - radii[0]) * t
    return np.stack([r * np.cos(angle), y[0] + (y[1] - y[0]) * t, r * np.sin(angle)], 1)


def shape(name: str, rng: np.random.Generator, n: int) -> np.ndarray:
    if name == "chair":
        parts = [box(rng, 3 * n, (-0.5, 0, -0.5), (0.5, 0.1, 0.5)),
                 box(rng, 2 * n, (-0.5, 0.1, -0.5), (0.5, 1.1, -0.4))]  # fmt: skip
        parts += [box(rng, n // 2, (x, -0.8, z), (x + 0.1, 0, z + 0.1))
                  for x in (-0.5, 0.4) for z in (-0.5, 0.4)]  # fmt: skip
    elif name == "table":
        parts = [box(rng, 3 * n, (-0.9, 0.4, -0.5), (0.9, 0.5, 0.5))]
        parts += [box(rng, n // 2, (x, -0.6, z), (x + 0.1, 0.4, z + 0.1))
                  for x in (-0.85, 0.75) for z in (-0.45, 0.35)]  # fmt: skip
    elif name == "lamp":
        parts = [tube(rng, 2 * n, (0.5, 0.25), (0.4, 1.0)), tube(rng, n, (0.04, 0.04), (-0.9, 0.5)),
                 tube(rng, n, (0.0, 0.4), (-0.92, -0.9))]  # fmt: skip
    elif name == "mug":
        angle = rng.uniform(-1.6, 1.6, n)
        ring = np.stack([0.55 + 0.3 * np.cos(angle), 0.35 * np.sin(angle), 0 * angle], 1)
        parts = [tube(rng, 3 * n, (0.5, 0.5), (-0.6, 0.6)), ring + rng.normal(0, 0.03, ring.shape),
                 tube(rng, n, (0.0, 0.5), (-0.6, -0.6))]  # fmt: skip
    elif name == "plane":
        body = tube(rng, 2 * n, (0.12, 0.08), (-1, 1))[:, [1, 0, 2]]
        parts = [body, box(rng, 2 * n, (-0.2, -0.02, -0.9), (0.2, 0.02, 0.9)),
                 box(rng, n // 2, (-1, 0, -0.02), (-0.8, 0.35, 0.02)),
                 box(rng, n // 2, (-1, 0, -0.3), (-0.8, 0.03, 0.3))]  # fmt: skip
    else:
        parts = [tube(rng, 2 * n, (0.35, 0.35), (-0.9, 0.2)), tube(rng, n, (0.35, 0.1), (0.2, 0.5)),
                 tube(rng, n // 2, (0.1, 0.1), (0.5, 0.9))]  # fmt: skip
    points = np.concatenate(parts)
    points = points[rng.permutation(len(points))[:n]] + rng.normal(0, 0.01, (n, 3))
    points -= points.mean(0)
    return points / np.sqrt((points**2).sum(1).max())


def explained(points: int = 512, clouds: int = 6, seed: int = 0) -> ex.Explained:
    rng = np.random.default_rng(seed)
    groups: dict[str, list[Any]] = {k: [] for k in ("p", "c", "i", "gc", "m", "h", "r")}
    for name in CLASSES[:clouds]:
        cloud = shape(name, rng, points)
        far, chosen = np.full(points, np.inf), [0]
        for _ in range(PATCHES - 1):
            far = np.minimum(far, ((cloud - cloud[chosen[-1]]) ** 2).sum(1))
            chosen.append(int(far.argmax()))
        centers = cloud[chosen]
        gap = ((centers[:, None] - cloud[None]) ** 2).sum(-1)
        index = np.argsort(gap, axis=1)[:, :GROUP]
        patches = cloud[index] - centers[:, None]
        flat = np.linalg.svd(patches - patches.mean(1, keepdims=True), compute_uv=False)
        gc = flat[:, 2] / flat.sum(1) + rng.normal(0, 0.01, PATCHES)
        hard = np.zeros(PATCHES, bool)
        hard[np.argsort(-gc)[: MASKED // 2]] = True
        mask = hard.copy()
        mask[rng.permutation(np.flatnonzero(~hard))[: MASKED - MASKED // 2]] = True
        rebuilt = patches[mask] * 0.9 + centers[mask][:, None]
        rebuilt = rebuilt + rng.normal(0, 0.025, rebuilt.shape)
        for key, value in zip(
            groups, (cloud, centers, index, gc, mask, hard, rebuilt), strict=True
        ):
            groups[key].append(value)
    stack = {key: np.stack(value) for key, value in groups.items()}
    return ex.Explained(
        points=stack["p"].astype(np.float32), centers=stack["c"].astype(np.float32),
        patch_index=stack["i"], gc=stack["gc"].astype(np.float32), mask=stack["m"],
        hard=stack["h"], rebuilt=stack["r"].astype(np.float32),
        labels=np.arange(clouds), class_names=tuple(CLASSES),
    )  # fmt: skip


def _journal(folder: Path, lines: list[tuple[int, dict[str, float]]]) -> None:
    rows = [{"kind": "metrics", "step": s, "at": 1.7e9 + s, "values": v} for s, v in lines]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "journal.jsonl").write_text(text, encoding="utf-8")


def _pretrain_curve(arm: str, epochs: int, steps: int, rng: np.random.Generator):
    for step in range(epochs * steps):
        e = step / steps
        noise = 1 + 0.06 * rng.normal()
        lr = 1e-3 * (e / 4 if e < 4 else 0.5 * (1 + np.cos(np.pi * (e - 4) / (epochs - 4))))
        values = {keys.LR: lr, keys.POINT: (0.006 + 0.03 * np.exp(-e / 5)) * noise}
        if arm == "method":
            hard = int(MASKED * 0.5 * (int(e) + 1) / epochs)
            values |= {
                keys.FEATURE: (0.12 + 0.9 * np.exp(-e / 6)) * noise,
                keys.GC: 0.6931 - 0.16 * (1 - np.exp(-e / 9)) + 0.01 * rng.normal(),
                keys.HARD: hard, keys.HARD_SHARE: hard / MASKED,
            }  # fmt: skip
        values[keys.LOSS] = values[keys.POINT] * 1000
        yield step, {key: float(value) for key, value in values.items()}


def _predictions(rng: np.random.Generator, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat(np.arange(len(CLASSES)), TEST // len(CLASSES))
    hardness = np.linspace(0.5, -0.5, TEST)[np.random.default_rng(7).permutation(TEST)]
    score = hardness + 0.12 * rng.normal(size=TEST)
    wrong = np.argsort(score)[: TEST - round(accuracy * TEST)]
    predicted = labels.copy()
    predicted[wrong] = (labels[wrong] + rng.integers(1, 4, len(wrong))) % len(CLASSES)
    return labels, predicted


def write(
    out: Path,
    *,
    failed: Collection[str] = (),
    clouds: int = 6,
    predictions: bool = True,
    epochs: int = 40,
    steps: int = 18,
    name: str = "invented",
) -> Path:
    """A whole experiment below ``out``; returns its ``results.json``."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    data = {"name": "shapes", "digest": "0f" * 8, "floor": 0.712, "train": 1037, "val": 115,
            "test": TEST, "num_classes": len(CLASSES), "class_names": CLASSES,
            "points": 512}  # fmt: skip
    nodes: dict[str, Any] = {}
    for arm in ("baseline", "method"):
        folder = _start(out, nodes, f"pretrain-{arm}", failed, 97.0 if arm == "method" else 51.0)
        _journal(folder, list(_pretrain_curve(arm, epochs, steps, rng)))
        if arm == "method" and clouds:
            ex.save_explain(folder / ex.FILE, explained(clouds=clouds))
        _finish(folder, nodes, f"pretrain-{arm}", {keys.LOSS: 0.9}, data, {})
    for task in ("svm", "classify"):
        for arm, accuracy in zip(ARMS, ACCURACY[task], strict=True):
            node = f"{task}-{arm}"
            folder = _start(out, nodes, node, failed, 31.0 if task == "classify" else 2.5)
            labels, predicted = _predictions(rng, accuracy)
            matrix = np.zeros((len(CLASSES), len(CLASSES)), int)
            np.add.at(matrix, (labels, predicted), 1)
            accuracy = float((labels == predicted).mean())
            metrics = {keys.TEST_ACC: accuracy, keys.MEAN_CLASS_ACC: accuracy - 0.004}
            extra: dict[str, Any] = {}
            if task == "svm":
                metrics[keys.TEST_OFFICIAL_C] = accuracy - 0.021
                extra["protocol"] = {"pooling": "mean + max", "c": 0.1}
            else:
                metrics |= {keys.TEST_LAST: accuracy - 0.007, keys.TEST_VAL_SELECTED: accuracy}
                extra["protocol"] = {"selected_epoch": 17, "selection": "validation accuracy"}
                extra["confusion"] = {"matrix": matrix.tolist(), "class_names": CLASSES}
                start = 0.5 if arm != "scratch" else 0.2
                _journal(folder, [
                    ((e + 1) * 32, {keys.VAL_ACC: accuracy - (accuracy - start) * np.exp(-e / 4)
                                    + 0.01 * rng.normal()})
                    for e in range(20)])  # fmt: skip
            if predictions:
                np.savez(folder / "predictions.npz", labels=labels, predicted=predicted,
                         index=np.arange(TEST))  # fmt: skip
            _finish(folder, nodes, node, metrics, data, extra)
    path = out / "results.json"
    path.write_text(json.dumps({
        "experiment": _config(name, epochs), "nodes": nodes, "seed": 0, "wall_seconds": 318.4,
        "command": f"python -m flows.experiment {name} --out reports/{name}",
        "lineage": {"git_commit": "0" * 40, "git_dirty": False, "data": data["digest"]},
        "versions": {"python": "3.11.9", "torch": "2.14.1"}, "device": "cpu, 2 threads",
    }, indent=1), encoding="utf-8")  # fmt: skip
    return path


def _config(name: str, epochs: int) -> dict[str, Any]:
    return {
        "name": name, "description": "an invented experiment for looking at the page", "seed": 0,
        "data": {"name": "shapes", "points": 512, "val_fraction": 0.1},
        "model": {"backbone": "point-mae", "groups": PATCHES, "group_size": GROUP, "dim": 96},
        "pretrain": {"method": "sa3df", "mask": "gc", "mask_ratio": 0.6, "end_ratio": 0.5,
                     "epochs": epochs},
        "baseline": {"method": "mae", "mask": "random", "epochs": epochs},
        "svm": {"folds": 3, "official_c": 0.01}, "classify": {"epochs": 20},
        "tasks": ["svm", "classify"], "scratch": True,
    }  # fmt: skip


def _start(out: Path, nodes: dict[str, Any], name: str, failed: Collection[str], seconds: float):
    folder = out / "work" / f"{name}-abcdef0123456789"
    folder.mkdir(parents=True, exist_ok=True)
    nodes[name] = {
        "status": "failed" if name in failed else "finished", "run_dir": str(folder),
        "seconds": seconds, "fingerprint": "abcdef0123456789",
        "mlflow_run_id": f"run{len(nodes):029d}", "mlflow_url": "",
    }  # fmt: skip
    if name in failed:
        nodes[name]["error"] = "exit status 2: disk full while writing <last.pt>"
    return folder


def _finish(folder, nodes, name, metrics, data, extra) -> None:  # type: ignore[no-untyped-def]
    if nodes[name]["status"] == "failed":
        return
    nodes[name]["metrics"] = metrics
    task, arm = name.rsplit("-", 1)
    (folder / "result.json").write_text(json.dumps({
        "task": task, "arm": arm, "experiment": "invented", "seed": 0, "metrics": metrics,
        "fingerprint": nodes[name]["fingerprint"], "seconds": nodes[name]["seconds"],
        "data": data, **extra}), encoding="utf-8")  # fmt: skip


if __name__ == "__main__":
    print(write(Path(sys.argv[1]), failed=sys.argv[2:]))
