"""Self-supervised pre-training on the training split. Labels are not read."""

from __future__ import annotations

from sa3d.checkpoints.card import FOLDER
from sa3d.checkpoints.export import load_pretrained
from sa3d.data.store import TRAIN, CloudSet, open_clouds
from sa3d.engine.loop import Fitted
from sa3d.engine.random_state import seed_all
from sa3d.methods.base import Method
from sa3d.methods.build import build_method
from sa3d.models import build_backbone
from sa3d.models.backbone import Backbone
from sa3d.runs.config import RunConfig
from sa3d.runs.context import RunContext, describe
from sa3d.runs.result import Result, finish, result_of
from sa3d.tasks.exporting import export
from sa3d.tasks.pretrain.explaining import save_explanation
from sa3d.tasks.training import trainer_of
from sa3d.viz.explain import FILE as EXPLAIN


def run(config: RunConfig, context: RunContext) -> Result | None:
    """Pre-train, export the student, explain it on a few test clouds.

    Returns:
        The result; None in all processes but the main one.

    Raises:
        DataError, ConfigError, CheckpointError: before anything is trained.
        TrainingError, Stopped: see :meth:`sa3d.engine.loop.Trainer.fit`.
    """
    settings = config.method
    clouds = open_clouds(context.clouds)
    teacher = _knowledge_teacher(config, context)
    seed_all(config.spec.seed)
    method = build_method(settings, config.model, teacher).to(context.device)
    describe(config, context)
    rows = clouds.indices(TRAIN)
    fitted = trainer_of(method, config, settings, context, clouds, rows, "random").fit()
    if not context.processes.main:
        return None
    export("pretrain", method.student_state(), config, context, clouds)
    save_explanation(context.folder / EXPLAIN, method, clouds, config, context.device)
    return finish(context, _result(config, context, clouds, method, fitted))


def _knowledge_teacher(config: RunConfig, context: RunContext) -> Backbone | None:
    if context.teacher is None:
        return None
    teacher = build_backbone(config.model)
    teacher.load_student(load_pretrained(context.teacher, config.model))
    return teacher


def _result(
    config: RunConfig, context: RunContext, clouds: CloudSet, method: Method, fitted: Fitted
) -> Result:
    settings = config.method
    return result_of(
        config,
        context,
        clouds,
        metrics=fitted.metrics,
        seconds=fitted.seconds,
        data={"train": len(clouds.indices(TRAIN))},
        protocol={
            "method": settings.method,
            "teacher_decodes": method.teacher_decodes,
            "mask": settings.mask.name,
            "masked": method.strategy.masked,
            "epochs": settings.epochs,
            "steps": fitted.steps,
            "batch": settings.batch_size * settings.accumulate * context.processes.world,
            "labels": "not read",
            "weights": "student, last epoch",
            "precision": settings.precision,
        },
        artifacts={"model": FOLDER, "explain": EXPLAIN},
    )
