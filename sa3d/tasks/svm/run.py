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

from sa3d.data.store import TEST, TRAIN, CloudSet, open_clouds
from sa3d.engine.random_state import seed_all
from sa3d.errors import DataError, TrainingError
from sa3d.metrics import names as keys
from sa3d.metrics.classification import classification
from sa3d.models.backbone import Backbone
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext, describe
from sa3d.runs.result import OUTCOMES, Result, finish, result_of, save_outcomes
from sa3d.tasks.evaluation import SAMPLING, Ints, fixed_batches, frozen_encoder, shown
from sa3d.tasks.svm.task import SvmConfig
from sa3d.utils.progress import ProgressBar

Features = NDArray[np.float32]


def run(config: RunConfig, context: RunContext) -> Result:
    """Fit and test the SVM on features of ``context.start``, or of random weights without it.

    Raises:
        DataError, CheckpointError: data or model missing or unfit.
        TrainingError: features that are not finite.
    """
    settings = config.settings
    assert isinstance(settings, SvmConfig)
    began = time.perf_counter()
    clouds = open_clouds(context.clouds)
    seed_all(config.spec.seed)
    backbone = frozen_encoder(config, context)
    describe(config, context)

    train, test = clouds.indices(TRAIN), clouds.indices(TEST)
    inputs = _features(backbone, clouds, train, config, context, "training features")
    labels = clouds.labels[train]
    chosen, accuracies, splitter = choose_c(
        inputs,
        labels,
        clouds.family[train],
        settings,
        config.spec.seed,
        label="" if context.quiet else f"{config.spec.name}: cross-validation",
    )
    context.tracker.results({keys.VAL_ACC: accuracies[chosen]})

    tested = _features(backbone, clouds, test, config, context, "test features")
    predicted = _fit(inputs, labels, chosen).predict(tested)
    official = _fit(inputs, labels, settings.official_c).predict(tested)
    truth = clouds.labels[test]
    found, confusion = classification(truth, predicted, clouds.class_names)
    found[keys.TEST_OFFICIAL_C] = float((official == truth).mean())
    context.tracker.results(found)
    save_outcomes(
        context.folder / OUTCOMES,
        predicted == truth,
        test,
        clouds.family[test],
        labels=truth,
        predicted=predicted,
    )
    result = result_of(
        config,
        context,
        clouds,
        metrics=found | {keys.VAL_ACC: accuracies[chosen]},
        seconds=time.perf_counter() - began,
        data={"train": len(train), "test": len(test)},
        protocol=_protocol(config, context, settings, chosen, accuracies, splitter, inputs),
        artifacts={"outcomes": OUTCOMES},
        details={"confusion": confusion},
    )
    return finish(context, result)


def choose_c(
    inputs: Features,
    labels: Ints,
    family: Ints,
    settings: SvmConfig,
    seed: int,
    label: str = "",
) -> tuple[float, dict[float, float], str]:
    """The C with the best cross-validated accuracy; of equals the smallest.

    Folds are stratified, and where clouds come in families no family is on both sides of one:
    otherwise C would be chosen for recognising near-duplicates.

    Args:
        inputs: (S, D). labels, family: (S,).
        settings: grid and folds.
        seed: of the folds.
        label: of the progress bar; empty shows none.

    Returns:
        C, mean accuracy of every C tried, and the name of the splitter.

    Raises:
        DataError: too few clouds or families for the folds, or a single class.
    """
    families = len(np.unique(family)) < len(family)
    kind = StratifiedGroupKFold if families else StratifiedKFold
    splitter = kind(settings.folds, shuffle=True, random_state=seed)
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2:
        raise DataError("an SVM tells classes apart, but all training clouds are of one class")
    smallest = int(counts.min())
    if smallest < settings.folds or len(np.unique(family)) < settings.folds:
        raise DataError(
            f"folds={settings.folds}, but the smallest class has {smallest} training clouds "
            f"and there are {len(np.unique(family))} families; set the SVM's folds lower"
        )
    folds = list(splitter.split(inputs, labels, family if families else None))
    accuracies = {}
    total = len(settings.c_grid) * len(folds)
    with ProgressBar(label, total, "fits", quiet=not label) as bar:
        for c in sorted(settings.c_grid):
            found = []
            for a, b in folds:
                found.append(_fit(inputs[a], labels[a], c).score(inputs[b], labels[b]))
                bar.update()
            accuracies[c] = float(np.mean(found))
    return max(accuracies, key=lambda c: accuracies[c]), accuracies, kind.__name__


def _fit(inputs: Features, labels: Ints, c: float) -> SVC:
    return SVC(kernel="linear", C=c).fit(inputs, labels)


def _features(
    backbone: Backbone,
    clouds: CloudSet,
    rows: Ints,
    config: RunConfig,
    context: RunContext,
    what: str,
) -> Features:
    """(S, D) frozen features of ``rows``."""
    assert isinstance(config.settings, SvmConfig)
    batches = fixed_batches(clouds, rows, config, config.settings.batch_size)
    parts = [
        backbone.features(points).cpu().numpy()
        for points, _ in shown(
            batches, context.device, f"{config.spec.name}: {what}", context.quiet
        )
    ]
    features = np.concatenate(parts)
    if not np.isfinite(features).all():
        raise TrainingError(
            f"{what} are not finite: the model in {context.start or 'random weights'} is of no use"
        )
    return features


def _protocol(
    config: RunConfig,
    context: RunContext,
    settings: SvmConfig,
    chosen: float,
    accuracies: dict[float, float],
    splitter: str,
    inputs: Features,
) -> dict[str, Any]:
    return {
        "features": "mean + maximum over patch tokens of the frozen encoder, all patches visible",
        "feature_width": inputs.shape[1],
        "encoder": "pre-trained" if context.start else f"random weights, seed {config.spec.seed}",
        "points": config.data.points,
        "sampling": SAMPLING,
        "augmentation": "none",
        "classifier": "sklearn SVC(kernel='linear'), features as they are",
        "c": chosen,
        "c_chosen_by": f"{splitter}, {settings.folds} folds of the training split",
        "c_accuracies": {str(c): accuracy for c, accuracy in accuracies.items()},
        "c_official": settings.official_c,
        "test_reads": 1,
    }
