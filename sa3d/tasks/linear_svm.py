"""Linear SVM on frozen features: how good the pre-trained representation is as it stands.

C is chosen by cross-validation on the training split; test is read once. The published
protocol fixes C and reports the best of all epochs on test; its C is reported alongside.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.svm import SVC

from sa3d.checkpoints.export import load_pretrained
from sa3d.config.experiment import ExperimentConfig, SvmConfig
from sa3d.data.store import TEST, TRAIN, CloudSet, open_clouds
from sa3d.engine.random_state import seed_all
from sa3d.errors import DataError, TrainingError, UserError
from sa3d.metrics import names as keys
from sa3d.models import build_backbone
from sa3d.models.backbone import Backbone
from sa3d.runs.context import PREDICTIONS, Result, RunContext, describe, finish, result_of
from sa3d.tasks.evaluation import (
    SAMPLING,
    Ints,
    fixed_batches,
    save_predictions,
    scores,
    shown,
)
from sa3d.utils.progress import ProgressLine

Features = NDArray[np.float32]


def run(config: ExperimentConfig, run: RunContext) -> Result:
    """Fit and test the SVM on features of ``run.init``, or of random weights without it.

    Raises:
        DataError, CheckpointError: data or model missing or unfit.
        TrainingError: features that are not finite.
    """
    if run.processes.world > 1:
        raise UserError("sa3d svm runs in one process; start it without torchrun")
    began = time.perf_counter()
    clouds = open_clouds(run.clouds_path)
    seed_all(config.seed)
    backbone = build_backbone(config.model)
    if run.init is not None:
        backbone.load_student(load_pretrained(run.init, config.model))
    backbone.to(run.device).eval()
    describe(run, config)

    line = ProgressLine(f"svm {run.arm}", run.quiet)
    train, test = clouds.indices(TRAIN), clouds.indices(TEST)
    inputs = _features(backbone, clouds, train, config, run, line, "training features")
    line.show("cross-validation", always=True)
    chosen, accuracies, splitter = choose_c(
        inputs, clouds.labels[train], clouds.family[train], config.svm, config.seed
    )
    run.tracker.metrics({keys.VAL_ACC: accuracies[chosen]}, 0)

    tested = _features(backbone, clouds, test, config, run, line, "test features")
    line.close()
    labels = clouds.labels[train]
    predicted = _fit(inputs, labels, chosen).predict(tested)
    official = _fit(inputs, labels, config.svm.official_c).predict(tested)
    found = scores(clouds.labels[test], predicted, clouds.class_names)
    metrics = found["metrics"] | {
        keys.VAL_ACC: accuracies[chosen],
        keys.TEST_OFFICIAL_C: float((official == clouds.labels[test]).mean()),
    }
    run.tracker.metrics({k: v for k, v in metrics.items() if k != keys.VAL_ACC}, 0)
    save_predictions(run.run_dir / PREDICTIONS, clouds, test, predicted)
    result = result_of(
        run,
        config,
        clouds,
        "svm",
        metrics=metrics,
        seconds=time.perf_counter() - began,
        data={"train": len(train), "test": len(test)},
        protocol=_protocol(config, run, chosen, accuracies, splitter, inputs.shape[1]),
        artifacts={"predictions": PREDICTIONS},
        confusion=found["confusion"],
    )
    return finish(run, result)


def choose_c(
    inputs: Features, labels: Ints, group: Ints, settings: SvmConfig, seed: int
) -> tuple[float, dict[float, float], str]:
    """The C with the best cross-validated accuracy; of equals the smallest.

    Folds are stratified, and where clouds come in families no family is on both sides of one:
    otherwise C would be chosen for recognising near-duplicates.

    Args:
        inputs: (S, D). labels, group: (S,).

    Returns:
        C, mean accuracy of every C tried, and the name of the splitter.

    Raises:
        DataError: too few clouds or families for the folds.
    """
    families = len(np.unique(group)) < len(group)
    kind = StratifiedGroupKFold if families else StratifiedKFold
    splitter = kind(settings.folds, shuffle=True, random_state=seed)
    smallest = int(np.unique(labels, return_counts=True)[1].min())
    if smallest < settings.folds or len(np.unique(group)) < settings.folds:
        raise DataError(
            f"svm.folds={settings.folds}, but the smallest class has {smallest} training clouds "
            f"and there are {len(np.unique(group))} families; set svm.folds lower"
        )
    folds = list(splitter.split(inputs, labels, group if families else None))
    accuracies = {
        c: float(
            np.mean([_fit(inputs[a], labels[a], c).score(inputs[b], labels[b]) for a, b in folds])
        )
        for c in sorted(settings.c_grid)
    }
    return max(accuracies, key=lambda c: accuracies[c]), accuracies, kind.__name__


def _fit(inputs: Features, labels: Ints, c: float) -> SVC:
    return SVC(kernel="linear", C=c).fit(inputs, labels)


def _features(
    backbone: Backbone,
    clouds: CloudSet,
    rows: Ints,
    config: ExperimentConfig,
    run: RunContext,
    line: ProgressLine,
    what: str,
) -> Features:
    """(S, D) frozen features of ``rows``."""
    batches = fixed_batches(clouds, rows, config, config.svm.batch_size)
    parts = [
        backbone.features(points).cpu().numpy()
        for points, _ in shown(batches, run.device, line, what)
    ]
    features = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise TrainingError(
            f"{what} are not finite: the model in {run.init or 'random weights'} is of no use"
        )
    return features


def _protocol(
    config: ExperimentConfig,
    run: RunContext,
    chosen: float,
    accuracies: dict[float, float],
    splitter: str,
    width: int,
) -> dict[str, Any]:
    return {
        "features": "mean + maximum over patch tokens of the frozen encoder, all patches visible",
        "feature_width": width,
        "encoder": "pre-trained" if run.init else f"random weights, seed {config.seed}",
        "points": config.data.points,
        "sampling": SAMPLING,
        "augmentation": "none",
        "classifier": "sklearn SVC(kernel='linear'), features as they are",
        "c": chosen,
        "c_chosen_by": f"{splitter}, {config.svm.folds} folds of the training split",
        "c_accuracies": {str(c): accuracy for c, accuracy in accuracies.items()},
        "c_official": config.svm.official_c,
        "test_reads": 1,
    }
