"""Made-up experiments with the published recipes: data, models and settings are the real ones.

python tests/report/invented_published.py DIR      writes DIR/point-mae/… and DIR/point-m2ae/…
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import invented

from sa3d.config.experiment import ExperimentConfig

FINE = {"epochs": 500, "batch_size": 64, "lr": 0.000125, "layer_decay": 0.75}
MODELNET40 = {"epochs": 500, "batch_size": 32, "lr": 7.8125e-05, "layer_decay": 0.75}
SVM = {"task": "svm", "data": "modelnet40", "points": 1024}
PB = {"task": "classify", "data": "scanobjectnn-pb-t50-rs", "points": 2048,
      "model": {"groups": 128}, "settings": FINE}  # fmt: skip
BG = PB | {"data": "scanobjectnn-obj-bg", "settings": FINE | {"lr": 0.00025}}
VOTES = {"task": "classify", "data": "modelnet40", "points": 1024,
         "settings": MODELNET40 | {"votes": 299}}  # fmt: skip
METHOD = {"lr": 0.001, "mask_ratio": 0.6}
CLOUDS = {"modelnet40": 2468, "modelnet40-hdf5": 2468, "scanobjectnn-pb-t50-rs": 2882,
          "scanobjectnn-obj-bg": 581}  # fmt: skip
WAYS: dict[str, dict[str, Any]] = {
    "sa3df": {"method": "sa3df", "teacher": "random-masks", "mask": "gc", "epochs": 400,
              "batch_size": 256},
    "random-masks": {"method": "mae", "mask": "random", "epochs": 301, "batch_size": 128},
    "scratch": {"scratch": True},
    "authors": {"checkpoint": "models/point-mae", "published": "point-mae"},
    "somebody": {"checkpoint": "models/other"},
}  # fmt: skip


def config(
    evaluations: Sequence[Mapping[str, Any]] = (SVM, PB),
    variants: Sequence[str] = ("sa3df", "random-masks", "scratch"),
    *,
    model: Mapping[str, Any] | None = None,
    data: str = "shapenet55",
    points: int = 1024,
    seeds: Sequence[int] = (0,),
    method: Mapping[str, Any] | None = None,
    **of_variants: Mapping[str, Any],
) -> ExperimentConfig:
    """The published recipe of Point-MAE, unless told otherwise; ``method`` is for every method."""
    model = dict(model or {"backbone": "point-mae"})
    ways = {
        name: WAYS[name]
        | (METHOD | dict(method or {}) if "method" in WAYS[name] else {})
        | dict(of_variants.get(name.replace("-", "_"), {}))
        for name in variants
    }
    evaluate = [
        {"settings": {}, "variants": list(ways), "seeds": list(seeds)}
        | {key: value for key, value in each.items() if key not in ("data", "points", "model")}
        | {"model": model | each.get("model", {})}
        | {"data": {"name": each["data"], "points": each["points"]}}
        for each in evaluations
    ]
    return ExperimentConfig.model_validate({
        "name": "as-published", "seeds": list(seeds), "model": model, "variants": ways,
        "reference": variants[0], "evaluate": evaluate,
        "pretrain": {"data": {"name": data, "points": points}},
    })  # fmt: skip


def write(base: Path, settings: ExperimentConfig, **metrics: float) -> Path:
    """The experiment on disk; ``metrics``, with ``_`` for ``/``, are those of every evaluation."""
    path = invented.write(base, settings, steps=3, clouds=0, outcomes=False)
    tree = json.loads(path.read_text())
    for result in base.glob("work/*/result.json"):
        found = json.loads(result.read_text())
        clouds = CLOUDS.get(found["data"]["name"], invented.TEST)
        found["data"] |= {"test": clouds, "test_families": clouds}
        result.write_text(json.dumps(found))
    for node in tree["nodes"].values():
        if node["kind"] == "evaluate":
            node["metrics"] |= {key.replace("_", "/", 1): value for key, value in metrics.items()}
    path.write_text(json.dumps(tree))
    return path


if __name__ == "__main__":
    from sa3d.report import write_report

    target = Path(sys.argv[1])
    made = config((SVM, PB | {"settings": FINE | {"test_every_epoch": True}}, BG, VOTES),
                  seeds=(0, 1, 2))  # fmt: skip
    votes = {"test_vote_mean": 0.9361, "test_vote_sd": 0.0012, "test_vote_max": 0.9397}
    print(write_report(write(target / "point-mae", made, **votes), target / "point-mae"))
    m2ae = [SVM | {"data": "modelnet40-hdf5", "settings": {"official_c": 0.012}},
            PB | {"model": {"group_sizes": [32, 16, 16]}}]  # fmt: skip
    made = config(m2ae, model={"backbone": "point-m2ae"}, points=2048, method={"masked": 51,
                  "mask_ratio": None, "epochs": 301, "batch_size": 128})  # fmt: skip
    print(write_report(write(target / "point-m2ae", made), target / "point-m2ae"))
