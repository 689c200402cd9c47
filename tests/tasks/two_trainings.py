"""Two trainings in one run folder. Also a program that kills itself with SIGKILL after epoch
``KILL_EPOCH`` of the second one, its metrics recorded and its checkpoint not yet written:
``python two_trainings.py PROJECT RUN_DIR KILL_EPOCH``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from task_runs import context, run_of, tiny_clouds
from torch import Tensor, nn

from sa3d.config.loading import load_experiment
from sa3d.data.loader import Batch
from sa3d.engine.random_state import seed_all
from sa3d.engine.types import Progress
from sa3d.tasks.classify.task import ClassifyConfig
from sa3d.tasks.training import trainer_of
from sa3d.tracking.tracker import open_tracker

NAMES = ("fold-1", "fold-2")
EPOCHS = 4


class Mean(nn.Module):
    """Predicts a cloud's label from the mean of its points."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 1)

    def training_step(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        error = self.out(batch.points.mean(1)).squeeze(1) - batch.labels.float()
        return {"loss": error.square().mean()}

    def after_step(self, progress: Progress) -> None:
        pass

    def no_weight_decay(self) -> set[str]:
        return set()


def train(project: Path, run_dir: Path, kill_epoch: int = -1) -> None:
    """Train both, one after the other, with MLflow; give each a result."""
    torch.set_num_threads(1)
    experiment = load_experiment("tiny", project / "params.yaml")
    config = run_of(experiment, "classify", "scratch", epochs=EPOCHS)
    assert isinstance(config.settings, ClassifyConfig)
    clouds = tiny_clouds(project)
    with open_tracker(run_dir, experiment="sa3d/pretrain", run_name="two", tags={}) as tracker:
        where = context(project, run_dir, tracker=tracker)

        def kill(epoch: int, step: int) -> None:
            if epoch == kill_epoch:
                os.kill(os.getpid(), signal.SIGKILL)

        for number, name in enumerate(NAMES):
            seed_all(number)
            trainer = trainer_of(
                Mean(),
                config,
                config.settings,
                where,
                clouds,
                clouds.indices(0)[number::2],
                "random",
                training=name,
                epoch_end=kill if name == NAMES[1] else None,
            )
            fitted = trainer.fit()
            tracker.results({"test/acc": float(number)}, fitted.steps, training=name)


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
