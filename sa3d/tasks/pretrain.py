"""Self-supervised pre-training on the training split. Labels are not read."""

from __future__ import annotations

from typing import Any

from sa3d.checkpoints.export import export_model, load_pretrained
from sa3d.config.experiment import ExperimentConfig, PretrainConfig
from sa3d.data.preprocessing import Preprocessing
from sa3d.data.store import TRAIN, CloudSet, open_clouds
from sa3d.engine.loop import Fitted
from sa3d.engine.random_state import seed_all
from sa3d.methods.base import Method
from sa3d.models import build_backbone, build_method
from sa3d.models.backbone import Backbone
from sa3d.runs.context import Result, RunContext, describe, finish, result_of
from sa3d.tasks.explaining import save_explanation
from sa3d.tasks.training import trainer_of
from sa3d.viz.explain import FILE as EXPLAIN

MODEL = "model"


def run(config: ExperimentConfig, run: RunContext) -> Result | None:
    """Pre-train ``run.arm``, export the student, explain it on a few test clouds.

    Returns:
        The result; None in all processes but the main one.

    Raises:
        DataError, ConfigError, CheckpointError: before anything is trained.
        TrainingError, Stopped: see :meth:`sa3d.engine.loop.Trainer.fit`.
    """
    stage = config.stage(run.arm)
    clouds = open_clouds(run.clouds_path)
    teacher = _knowledge_teacher(config, run)
    seed_all(config.seed)
    method = build_method(config, run.arm, teacher).to(run.device)
    describe(run, config)
    rows = clouds.indices(TRAIN)
    trainer = trainer_of("pretrain", method, config, stage, run, clouds, rows, "random")
    fitted = trainer.fit()
    if not run.processes.main:
        return None
    _export(method, config, run, clouds)
    save_explanation(run.run_dir / EXPLAIN, method, clouds, config, stage.epochs, run.device)
    return finish(run, _result(config, run, clouds, stage, fitted))


def _knowledge_teacher(config: ExperimentConfig, run: RunContext) -> Backbone | None:
    if run.knowledge_teacher is None:
        return None
    teacher = build_backbone(config.model)
    teacher.load_student(load_pretrained(run.knowledge_teacher, config.model))
    return teacher


def _export(method: Method, config: ExperimentConfig, run: RunContext, clouds: CloudSet) -> None:
    tree = config.model_dump(mode="json")
    card: dict[str, Any] = {
        "kind": "pretrain",
        "experiment": config.name,
        "arm": run.arm,
        "seed": config.seed,
        "fingerprint": run.fingerprint,
        "model": tree["model"],
        "pretrain": config.stage(run.arm).model_dump(mode="json"),
        "data": {**tree["data"], "digest": clouds.digest},
        "preprocessing": Preprocessing.of(clouds, config.data.points).to_json(),
    }
    export_model(run.run_dir / MODEL, method.student_state(), card)


def _result(
    config: ExperimentConfig,
    run: RunContext,
    clouds: CloudSet,
    stage: PretrainConfig,
    fitted: Fitted,
) -> Result:
    return result_of(
        run,
        config,
        clouds,
        "pretrain",
        metrics=fitted.metrics,
        seconds=fitted.seconds,
        data={"train": len(clouds.indices(TRAIN))},
        protocol={
            "method": stage.method,
            "point_term": stage.point_term,
            "mask": stage.mask,
            "masked": stage.masked_of(config.model.num_tokens),
            "epochs": stage.epochs,
            "steps": fitted.steps,
            "batch": stage.batch_size * stage.accumulate * run.processes.world,
            "labels": "not read",
            "weights": "student, last epoch",
            "precision": stage.precision,
        },
        artifacts={"model": MODEL, "explain": EXPLAIN},
    )
