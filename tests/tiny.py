"""A narrow experiment, and clouds for it."""

from dataclasses import dataclass

import torch

from sa3d import models
from sa3d.config.experiment import ExperimentConfig
from sa3d.engine.types import Progress
from sa3d.methods.base import Method
from sa3d.methods.build import build_method

GROUPS, SIZE, POINTS, DIM = 16, 8, 96, 24


@dataclass(frozen=True)
class Clouds:
    points: torch.Tensor


def clouds(batch: int = 4, seed: int = 0, points: int = POINTS) -> Clouds:
    return Clouds(torch.randn(batch, points, 3, generator=torch.Generator().manual_seed(seed)))


PLAIN = {
    "groups": GROUPS,
    "group_size": SIZE,
    "dim": DIM,
    "depth": 2,
    "heads": 3,
    "decoder_depth": 1,
}
SCALES = {
    "backbone": "point-m2ae",
    "groups": [48, 24, 16],
    "group_sizes": [6, 5, 3],
    "dims": [12, 18, 24],
    "depths": [1, 2, 1],
    "heads": 3,
    "embed_width": 8,
}


def experiment(model: dict | None = None, **method: object) -> ExperimentConfig:
    """A narrow SA3DF experiment; ``method`` overrides its settings, ``model`` those of
    Point-MAE, or is a whole section that names its backbone."""
    model = model or {}
    recipe = {"mask_ratio": 0.6, "epochs": 10, "batch_size": 4, "lr": 1e-3}
    ours = {**recipe, "method": "sa3df", "mask": "gc", "gc_depth": 2, **method}
    if ours["method"] == "sa3df":
        ours["teacher"] = PLAIN_MASKS
    if ours["method"] == "mae":
        del ours["gc_depth"]
    return ExperimentConfig(
        name="test",
        model=model if "backbone" in model else PLAIN | model,
        pretrain={"data": {"name": "none", "points": POINTS}},
        variants={OURS: ours, PLAIN_MASKS: {**recipe, "method": "mae", "mask": "random"}},
        reference=OURS,
    )


OURS, PLAIN_MASKS = "ours", "plain"


def build(config: ExperimentConfig, seed: int = 0, variant: str = OURS) -> Method:
    """The method with seeded random weights, its knowledge teacher included."""
    torch.manual_seed(seed)
    settings = config.methods[variant]
    teacher = models.build_backbone(config.model) if settings.has_teacher else None
    return build_method(settings, config.model, teacher).train()


def progress(epoch: int = 9, epochs: int = 10, seed: int = 0) -> Progress:
    return Progress(epoch, epochs, epoch, 1, torch.Generator().manual_seed(seed))
