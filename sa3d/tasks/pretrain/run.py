"""Self-supervised pre-training on the training split, or on endless clouds. Labels are not read."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from sa3d.checkpoints.card import FOLDER
from sa3d.checkpoints.export import load_pretrained
from sa3d.config.endless import EndlessSource
from sa3d.data.endless_batches import EndlessBatches, default_workers, held_out
from sa3d.data.presence import about
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
from sa3d.tasks.training import trainer_of, trainer_on
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
    endless = config.data.endless
    name = config.data.name
    clouds = open_clouds(context.clouds) if endless is None else held_out(name, endless)
    teacher = _knowledge_teacher(config, context)
    seed_all(config.spec.seed)
    method = build_method(settings, config.model, teacher).to(context.device)
    describe(config, context)
    with ExitStack() as stack:
        if endless is None:
            rows = clouds.indices(TRAIN)
            trainer = trainer_of(method, config, settings, context, clouds, rows, "random")
        else:
            batches = stack.enter_context(_batches(endless, config, context))
            trainer = trainer_on(method, config, settings, context, batches)
        fitted = trainer.fit()
    if not context.processes.main:
        return None
    export("pretrain", method.student_state(), config, context, clouds)
    save_explanation(context.folder / EXPLAIN, method, clouds, config, context.device)
    return finish(context, _result(config, context, clouds, method, fitted))


def _batches(endless: EndlessSource, config: RunConfig, context: RunContext) -> EndlessBatches:
    workers = context.workers
    return EndlessBatches(
        endless,
        batch_size=config.method.batch_size,
        points=config.data.points,
        seed=config.spec.seed,
        workers=default_workers(context.device.type) if workers is None else workers,
        rank=context.processes.rank,
        world=context.processes.world,
    )


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
    batch = settings.batch_size * settings.accumulate * context.processes.world
    return result_of(
        config,
        context,
        clouds,
        metrics=fitted.metrics,
        seconds=fitted.seconds,
        data=_data(config, clouds, fitted.steps * batch),
        protocol={
            "method": settings.method,
            "teacher_decodes": method.teacher_decodes,
            "mask": settings.mask.name,
            "masked": method.strategy.masked,
            "epochs": settings.epochs,
            "steps": fitted.steps,
            "batch": batch,
            "labels": "not read",
            "weights": "student, last epoch",
            "precision": settings.precision,
        },
        artifacts={"model": FOLDER, "explain": EXPLAIN},
    )


def _data(config: RunConfig, clouds: CloudSet, drawn: int) -> dict[str, Any]:
    """Facts of the clouds that it was trained on; ``drawn`` are all, each time that it was met."""
    endless = config.data.endless
    if endless is None:
        return {"train": len(clouds.indices(TRAIN))}
    return {
        "train": drawn,
        "licence": about(endless).licence,
        "note": "Generated while it was trained on; every cloud was met once.",
    }
