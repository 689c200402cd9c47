"""A made-up experiment on disk, in the shapes real runs leave: all its numbers are invented.

python tests/report/invented.py DIR [FAILED RUN ...]      writes DIR/results.json and DIR/work/…
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.metrics import names as keys
from sa3d.runs.config import RunConfig, runs_of
from sa3d.tasks.base import Folds, Metric, Task, TaskConfig
from sa3d.viz import explain as ex

CLASSES = ["chair", "table", "lamp", "mug", "plane", "bottle", "shelf", "stool", "bed", "vase",
           "rocket", "bench"]  # fmt: skip
TEST = 288
MASKED, KEPT, PATCHES, GROUP = 20, 24, 32, 24
MIOU, ERROR, FOLD_ACC = "test/miou", "test/chamfer", "test/fold_acc"
# by metric: of the reference, of random masks, of everything else
LEVELS = {
    keys.TEST_ACC: (0.86, 0.83, 0.70),
    MIOU: (0.81, 0.79, 0.74),
    ERROR: (12.1, 13.4, 19.0),
    FOLD_ACC: (0.90, 0.88, 0.79),
}


class FoldConfig(TaskConfig):
    """Settings of the invented tasks."""

    folds: int = 4


# A share that is no accuracy; an error that is no share, where less is better, one a fold; and
# an accuracy on other clouds in each fold.
PARTS = Task("-", "Parts", "-", TaskConfig, Metric(MIOU, "instance mIoU"))
DENOISE = Task(
    "-", "Denoising", "-", FoldConfig,
    Metric(ERROR, "Chamfer distance", share=False, higher_is_better=False),
    folds=Folds(lambda settings: settings.folds, independent=True),
)  # fmt: skip
EPISODES = Task(
    "-", "Few-shot episodes", "-", FoldConfig, Metric(FOLD_ACC, "accuracy"),
    folds=Folds(lambda settings: settings.folds, independent=True),
)  # fmt: skip
TASKS = {
    "parts": "invented:PARTS",
    "denoise": "invented:DENOISE",
    "episodes": "invented:EPISODES",
}


@contextmanager
def registered() -> Iterator[None]:
    """The invented tasks, known while this holds."""
    registry.TASKS.update(TASKS)
    try:
        yield
    finally:
        for name in TASKS:
            del registry.TASKS[name]


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


MODEL = {"backbone": "point-mae", "groups": PATCHES, "group_size": GROUP, "dim": 96, "heads": 4,
         "depth": 4, "decoder_depth": 2, "embed_width": 32}  # fmt: skip
SHARED = {"mask_ratio": 0.6, "lr": 0.001, "batch_size": 64}
CLASSIFY = {"epochs": 20, "lr": 0.001, "batch_size": 32}
EVALUATIONS: tuple[dict[str, Any], ...] = (
    {"task": "svm", "seeds": [0, 1, 2, 3]},
    {"task": "svm", "data": "shapes-noisy"},
    {"task": "classify", "settings": CLASSIFY},
    {"task": "parts", "seeds": [0, 1]},
    {"task": "denoise"},
    {"task": "episodes", "label": "5w10s", "seeds": [0, 1]},
    {"task": "svm", "data": "kicad"},
    {"task": "classify", "data": "kicad", "settings": CLASSIFY | {"test_every_epoch": True}},
)


def config(
    name: str = "invented",
    evaluations: Sequence[dict[str, Any]] = EVALUATIONS[:3],
    variants: Collection[str] = ("sa3df", "random-masks", "scratch"),
    seeds: Sequence[int] = (0,),
    epochs: int = 40,
) -> ExperimentConfig:
    """The settings of an invented experiment; its first variant is the reference."""
    ways: dict[str, Any] = {
        "sa3df": {"method": "sa3df", "teacher": "random-masks", "mask": "gc", "gc_depth": 3},
        "random-masks": {"method": "mae", "mask": "random"},
        "sa3d": {"method": "sa3d", "mask": "gc", "gc_depth": 3},
        "sa3df-deep": {"method": "sa3df", "teacher": "random-masks", "mask": "gc"},
        "blocks": {"method": "mae", "mask": "block"},
        "published": {"checkpoint": "/somewhere/else/runs/published"},
        "scratch": {"scratch": True},
    }
    chosen = {
        key: ways[key] | (SHARED | {"epochs": epochs} if "method" in ways[key] else {})
        for key in variants
    }
    methods = any("method" in each for each in chosen.values())
    evaluate = []
    for each in evaluations:
        data = {"name": each.get("data", "shapes"), "points": 512}
        evaluate.append(
            {"model": MODEL, "settings": {}, "variants": list(chosen), "seeds": [0]}
            | each
            | {"data": data}
        )
    return ExperimentConfig.model_validate({
        "name": name, "description": "an invented experiment for looking at the page",
        "seeds": list(seeds), "model": MODEL, "variants": chosen,
        "reference": next(iter(chosen)), "evaluate": evaluate,
        "pretrain": {"data": {"name": "shapes", "points": 512}} if methods else None,
    })  # fmt: skip


def _journal(folder: Path, lines: list[tuple[int, dict[str, float]]]) -> None:
    rows = [{"kind": "metrics", "step": s, "at": 1.7e9 + s, "values": v} for s, v in lines]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "journal.jsonl").write_text(text, encoding="utf-8")


def _pretrain_curve(run: RunConfig, steps: int, rng: np.random.Generator):
    epochs, guided = run.method.epochs, run.method.has_scores
    for step in range(epochs * steps):
        e = step / steps
        noise = 1 + 0.06 * rng.normal()
        lr = 1e-3 * (e / 4 if e < 4 else 0.5 * (1 + np.cos(np.pi * (e - 4) / (epochs - 4))))
        values = {keys.LR: lr, keys.POINT: (0.006 + 0.03 * np.exp(-e / 5)) * noise}
        if run.method.has_teacher:
            values[keys.FEATURE] = (0.12 + 0.9 * np.exp(-e / 6)) * noise
        if guided:
            hard = int(MASKED * 0.5 * (int(e) + 1) / epochs)
            values |= {
                keys.GC: 0.6931 - 0.16 * (1 - np.exp(-e / 9)) + 0.01 * rng.normal(),
                keys.HARD: hard, keys.HARD_SHARE: hard / MASKED,
            }  # fmt: skip
        values[keys.LOSS] = values[keys.POINT] * 1000
        yield step, {key: float(value) for key, value in values.items()}


class Writer:
    """Writes run folders and what ``results.json`` says of them."""

    def __init__(self, out: Path, failed: Collection[str], skipped: Collection[str]) -> None:
        self.out, self.failed, self.skipped = out, failed, skipped
        self.nodes: dict[str, Any] = {}
        self.rng = np.random.default_rng(1)

    def begin(self, run: RunConfig, seconds: float) -> Path | None:
        """The run's folder; None: it leaves none."""
        name = run.spec.name
        kind = "pretrain" if run.spec.task == "pretrain" else "evaluate"
        node = {"kind": kind, "spec": run.spec.as_json(), "run_dir": None, "metrics": {},
                "status": "finished", "seconds": seconds, "fingerprint": "abcdef0123456789",
                "mlflow_run_id": f"run{len(self.nodes):029d}", "mlflow_url": ""}  # fmt: skip
        self.nodes[name] = node
        if name in self.skipped:
            node |= {"status": "skipped", "error": "what it needs is not there"}
            return None
        folder = self.out / "work" / f"{name}-abcdef0123456789"
        folder.mkdir(parents=True, exist_ok=True)
        node["run_dir"] = str(folder)
        if name in self.failed:
            node |= {
                "status": "failed",
                "error": "exit status 2: disk full while writing <last.pt>",
            }
        return folder

    def end(self, run: RunConfig, metrics: dict[str, float], **more: Any) -> None:
        """Write ``result.json``, unless the run failed."""
        node = self.nodes[run.spec.name]
        if node["status"] != "finished":
            return
        node["metrics"] = metrics
        data = {"name": run.data.name, "points": run.data.points, "num_classes": len(CLASSES),
                "digest": "0f" * 8, "floor": 0.712, "train": 1037, "val": 115, "test": TEST,
                "test_families": TEST // 12 if run.data.name == "kicad" else TEST}  # fmt: skip
        (Path(node["run_dir"]) / "result.json").write_text(json.dumps({
            "experiment": "invented", "spec": run.spec.as_json(), "metrics": metrics,
            "fingerprint": node["fingerprint"], "seconds": node["seconds"], "data": data,
            "device": "cpu", "versions": {"python": "3.11.9", "torch": "2.14.1"},
            "protocol": {}, "artifacts": {}, "details": {}} | more))  # fmt: skip

    def pretraining(self, run: RunConfig, steps: int, clouds: int) -> None:
        """A pre-training with its curves, and clouds that explain it."""
        folder = self.begin(run, 97.0)
        if folder is None:
            return
        _journal(folder, list(_pretrain_curve(run, steps, self.rng)))
        if clouds and run.spec.name not in self.failed:
            ex.save_explain(folder / ex.FILE, explained(clouds=clouds))
        self.end(run, {keys.LOSS: 0.9}, protocol={"teacher_decodes": run.method.has_teacher},
                 artifacts={"explain": ex.FILE})  # fmt: skip

    def evaluation(self, run: RunConfig, outcomes: bool) -> None:
        """An evaluation with its outcomes."""
        folder = self.begin(run, 2.5)
        if folder is None:
            return
        place = {"random-masks": 1}.get(run.spec.variant, 0 if run.spec.variant == "sa3df" else 2)
        metric = run.task.metric
        level = LEVELS[metric.name][place] * (1 + 0.01 * self.rng.normal())
        more: dict[str, Any] = {"artifacts": {}}
        if metric.accuracy:
            metrics, more = self._classified(run, folder, level)
        elif metric.share and run.spec.fold is None:
            score = np.clip(level + 0.15 * self.rng.normal(size=TEST), 0, 1)
            metrics = {metric.name: float(score.mean())}
            np.savez(folder / "outcomes.npz", score=score, index=np.arange(TEST),
                     family=np.arange(TEST))  # fmt: skip
            more["artifacts"] = {"outcomes": "outcomes.npz"}
        else:
            metrics = {metric.name: level}
        if not outcomes:
            more["artifacts"] = {}
        self.end(run, metrics, **more)

    def _classified(
        self, run: RunConfig, folder: Path, level: float
    ) -> tuple[dict[str, float], dict[str, Any]]:
        labels, predicted = _predictions(self.rng, level)
        matrix = np.zeros((len(CLASSES), len(CLASSES)), int)
        np.add.at(matrix, (labels, predicted), 1)
        right = float((labels == predicted).mean())
        metrics = {keys.TEST_ACC: right, keys.MEAN_CLASS_ACC: right - 0.004}
        # families of near-identical clouds: right with right, wrong with wrong
        family = np.arange(TEST)
        if run.data.name == "kicad":
            family[np.argsort(labels != predicted, kind="stable")] = np.arange(TEST) // 12
        np.savez(folder / "outcomes.npz", score=labels == predicted, index=np.arange(TEST),
                 family=family, labels=labels, predicted=predicted)  # fmt: skip
        if run.spec.task == "svm":
            metrics[keys.TEST_OFFICIAL_C] = right - 0.021
            protocol = {"c": 0.1 if run.spec.seed else 1.0, "standardised": False,
                        "c_at_bound": False, "converged": True, "test_reads": 1}  # fmt: skip
        else:
            metrics |= {keys.TEST_LAST: right - 0.007, keys.TEST_VAL_SELECTED: right}
            share = 0.098 + 0.004 * run.spec.seed
            protocol = {"selected_epoch": 17, "epochs": 20, "test_reads": 1, "val_share": share,
                        "validation": f"{share * 100:.1f} % of the training split, families kept "
                                      "whole"}  # fmt: skip
            logged = [keys.VAL_ACC]
            if run.settings.model_dump()["test_every_epoch"]:
                metrics[keys.TEST_BEST] = right + 0.01
                protocol["test_reads"] = 21
                logged.append(keys.TEST_EPOCH)
            _journal(folder, [((e + 1) * 32, {key: right - (right - 0.4) * np.exp(-e / 4) + 0.01
                              * self.rng.normal() for key in logged})
                              for e in range(run.settings.model_dump()["epochs"])])  # fmt: skip
        return metrics, {
            "protocol": protocol, "artifacts": {"outcomes": "outcomes.npz"},
            "details": {"confusion": {"matrix": matrix.tolist(), "class_names": CLASSES}},
        }  # fmt: skip


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
    settings: ExperimentConfig,
    *,
    failed: Collection[str] = (),
    skipped: Collection[str] = (),
    clouds: int = 6,
    outcomes: bool = True,
    steps: int = 18,
) -> Path:
    """A whole experiment below ``out``; returns its ``results.json``."""
    out.mkdir(parents=True, exist_ok=True)
    writer = Writer(out, failed, skipped)
    for run in runs_of(settings):
        if run.spec.task == "pretrain":
            writer.pretraining(run, steps, clouds)
        else:
            writer.evaluation(run, outcomes)
    path = out / "results.json"
    path.write_text(json.dumps({
        "format": 2, "experiment": settings.model_dump(mode="json"), "nodes": writer.nodes,
        "data": {name: {"digest": "0f" * 8} for name in settings.datasets},
        "wall_seconds": 318.4, "compute_seconds": 1202.0, "reused": [],
        "command": ["python", "-m", "flows.experiment", settings.name],
        "lineage": {"git_commit": "0" * 40, "git_dirty": False},
    }, indent=1), encoding="utf-8")  # fmt: skip
    return path


if __name__ == "__main__":
    sys.modules["invented"] = sys.modules["__main__"]
    with registered():
        from sa3d.report import write_report

        many = ("sa3df", "random-masks", "sa3d", "sa3df-deep", "blocks", "published", "scratch")
        target = Path(sys.argv[1])
        made = config(evaluations=EVALUATIONS, seeds=(0, 1))
        print(write_report(write(target, made, failed=sys.argv[2:]), target))
        made = config(name="many", evaluations=EVALUATIONS[:2], variants=many)
        print(write_report(write(target / "many", made), target / "many"))
