"""Linear SVM on frozen features: how good the pre-trained representation is as it stands.

C, and whether features are standardised, are chosen by cross-validation on the training split; test
is read once. The published protocol fixes C on features as they are and reports the best of all
epochs on test; its C is reported alongside.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning

from sa3d.data.store import TEST, TRAIN, open_clouds
from sa3d.engine.precision import quickest
from sa3d.engine.random_state import seed_all
from sa3d.metrics import names as keys
from sa3d.metrics.classification import classification
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext, describe
from sa3d.runs.result import OUTCOMES, Result, finish, result_of, save_outcomes
from sa3d.tasks.evaluation import SAMPLING, Ints, frozen_encoder
from sa3d.tasks.svm import search
from sa3d.tasks.svm.features import Features, features
from sa3d.tasks.svm.requires import check
from sa3d.tasks.svm.task import SvmConfig


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
    check(config, clouds)
    seed_all(config.spec.seed)
    backbone = frozen_encoder(config, context)
    describe(config, context)

    train, test = clouds.indices(TRAIN), clouds.indices(TEST)
    inputs = features(backbone, clouds, train, config, context, "training features")
    labels = clouds.labels[train]
    choice = search.choose(
        inputs,
        labels,
        clouds.family[train],
        settings.c_grid,
        settings.folds,
        config.spec.seed,
        label="" if context.quiet else f"{config.spec.name}: cross-validation",
        jobs=torch.get_num_threads(),
    )
    context.tracker.results({keys.VAL_ACC: choice.accuracy})

    tested = features(backbone, clouds, test, config, context, "test features")
    chosen, converged = _fit(inputs, labels, choice.c, choice.standardised)
    official, official_converged = _fit(inputs, labels, settings.official_c, False)
    predicted = chosen.predict(tested)
    truth = clouds.labels[test]
    found, confusion = classification(truth, predicted, clouds.class_names)
    found[keys.TEST_OFFICIAL_C] = float((official.predict(tested) == truth).mean())
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
        metrics=found | {keys.VAL_ACC: choice.accuracy},
        seconds=time.perf_counter() - began,
        data={"train": len(train), "test": len(test)},
        protocol=_protocol(config, context, settings, choice, inputs)
        | {"converged": converged, "official_converged": official_converged},
        artifacts={"outcomes": OUTCOMES},
        details={"confusion": confusion},
    )
    return finish(context, result)


def _fit(inputs: Features, labels: Ints, c: float, standardised: bool) -> tuple[Any, bool]:
    """The fitted classifier, and whether its fit came to its end."""
    made = search.classifier(c, standardised)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol says it
        made.fit(inputs, labels)
    return made, search.converged(made[-1] if standardised else made)


def _protocol(
    config: RunConfig,
    context: RunContext,
    settings: SvmConfig,
    choice: search.Choice,
    inputs: Features,
) -> dict[str, Any]:
    scaling = {False: "as they are", True: "standardised"}
    return {
        "features": "mean + maximum over patch tokens of the frozen encoder, all patches visible",
        "feature_width": inputs.shape[1],
        "precision": quickest(context.device, settings.precision),
        "encoder": "pre-trained" if context.start else f"random weights, seed {config.spec.seed}",
        "points": config.data.points,
        "sampling": SAMPLING,
        "augmentation": "none",
        "classifier": f"sklearn SVC(kernel='linear'), features {scaling[choice.standardised]}",
        "c": choice.c,
        "standardised": choice.standardised,
        "c_chosen_by": f"{choice.splitter}, {settings.folds} folds of the training split; the "
        "grid goes on by powers of ten where its edge is best",
        "c_accuracies": {
            scaling[way]: {f"{c:g}": accuracy for c, accuracy in tried.items()}
            for way, tried in choice.scores.items()
        },
        "c_bounds": [search.LEAST, search.MOST],
        "c_at_bound": choice.at_bound,
        "unconverged_fits": choice.unconverged,
        "c_official": settings.official_c,
        "official": "features as they are, fixed C",
        "test_reads": 1,
    }
