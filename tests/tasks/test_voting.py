"""The published voting: mean logits over random views, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from task_runs import context, do, run_of, tiny_clouds
from torch import Tensor

from sa3d.config.experiment import ExperimentConfig
from sa3d.data import transforms
from sa3d.data.preprocessing import unit_sphere
from sa3d.engine.distributed import Processes
from sa3d.errors import ConfigError
from sa3d.metrics import names as keys
from sa3d.models.downstream import Classifier
from sa3d.runs.config import RunConfig
from sa3d.tasks.classify import voting
from sa3d.tasks.classify.task import ClassifyConfig
from sa3d.tasks.classify.voting import VIEWS, vote, vote_metrics
from sa3d.tracking.journal import read_journal

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = np.array([0, 1, 2])  # all of class 0


class Scripted(Classifier):
    """Logits of each call, whatever the clouds; keeps what it was shown."""

    num_layers = 1

    def __init__(self, script: list[list[list[float]]]) -> None:
        super().__init__()
        self.script, self.seen = script, []

    def forward(self, points: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(points)
        return torch.tensor(self.script[(len(self.seen) - 1) % len(self.script)])

    def no_weight_decay(self) -> set[str]:
        return set()

    def early_layers(self) -> dict[str, int]:
        return {}


def voting_run(config: ExperimentConfig, **changes: object) -> RunConfig:
    return run_of(config, "classify", "scratch", **changes)


def voted(
    config: ExperimentConfig, root: Path, folder: Path, model: Classifier, **changes: object
) -> list[float]:
    run = voting_run(config, **changes)
    assert isinstance(run.settings, ClassifyConfig)
    where = context(root, folder)
    return vote(model, tiny_clouds(root), ROWS, run, run.settings, where)


def test_logits_are_averaged_and_not_classes_or_probabilities(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    """Nine views say class 1 a little, one says class 0 a lot. The mean logits say class 0; most
    views, and the mean probabilities, say class 1."""
    little, much = [0.0, 1.0], [10.0, 0.0]
    mean = [10.0 / 10, 9 * 1.0 / 10]
    assert mean[0] > mean[1]
    softmax = [9 / (1 + math.e) + 1 / (1 + math.exp(-10)), 9 / (1 + math.exp(-1))]
    assert softmax[0] < softmax[1]
    assert VIEWS == 10
    # cloud 0 as described, cloud 1 sure of class 0, cloud 2 sure of class 1
    script = [[little if view else much, [1.0, 0.0], [0.0, 1.0]] for view in range(VIEWS)]
    assert voted(tiny_config, tiny, tmp_path, Scripted(script), votes=1) == [2 / 3]


def test_each_pass_counts_by_itself_over_all_batches(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    """Two batches, of two clouds and of one; the third cloud is right in the second pass alone."""
    two = [[[1.0, 0.0], [0.0, 1.0]]] * VIEWS
    wrong, right = [[[0.0, 1.0]]] * VIEWS, [[[1.0, 0.0]]] * VIEWS
    script = two + wrong + two + right
    found = voted(tiny_config, tiny, tmp_path, Scripted(script), votes=2, batch_size=2)
    assert found == [1 / 3, 2 / 3]


def test_mean_sample_deviation_and_maximum() -> None:
    found = vote_metrics([0.5, 0.7, 0.6])
    assert found == {
        keys.VOTE_MEAN: pytest.approx(0.6),
        keys.VOTE_SD: pytest.approx(0.1),
        keys.VOTE_MAX: 0.7,
    }
    assert vote_metrics([0.5]) == {keys.VOTE_MEAN: 0.5, keys.VOTE_MAX: 0.5}


def test_views_are_new_ones_and_the_same_for_the_same_seed(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    def shown(seed: int) -> list[Tensor]:
        run = voting_run(tiny_config, votes=2)
        run = replace(run, spec=replace(run.spec, seed=seed))
        model = Scripted([[[1.0, 0.0]] * 3])
        vote(model, tiny_clouds(tiny), ROWS, run, run.settings, context(tiny, tmp_path))  # type: ignore[arg-type]
        return model.seen

    first, again, other = shown(1), shown(1), shown(2)
    assert len(first) == 2 * VIEWS
    assert {tuple(points.shape) for points in first} == {(3, 64, 3)}
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    flat = torch.stack(first).flatten(1)
    assert len(torch.unique(flat, dim=0)) == 2 * VIEWS, "no view twice"


def test_a_view_is_a_random_part_of_the_farthest_points_scaled_and_shifted(
    tiny: Path, tiny_config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transforms, "scale_translate", transforms.none)
    views = voting._Views(tiny_clouds(tiny), ROWS, 64, 1, torch.device("cpu"))
    plain = [views.draw(np.array([2, 0])) for _ in range(5)]
    cloud = torch.from_numpy(tiny_clouds(tiny).cloud(2).copy())
    used = set()
    for drawn in plain:
        # which of the stored points give this view, once these are in the unit sphere
        known = views._pools[2]
        assert len(known) == 75
        rows = [int((cloud == torch.from_numpy(p)).all(1).nonzero()[0]) for p in known]
        assert len(set(rows)) == 75
        sphere = unit_sphere(drawn[0])
        assert torch.allclose(sphere, drawn[0], atol=1e-6), "after the choice: `subsample`"
        used.add(tuple(drawn[0].flatten().tolist()))
    assert len(used) == 5


def test_scale_and_shift_differ_between_clouds(tiny: Path) -> None:
    clouds = tiny_clouds(tiny)
    twice = replace(
        clouds,
        offsets=np.array([0, 128, 256]),
        labels=np.zeros(2, np.int64),
        split=np.zeros(2, np.uint8),
        flat_points=np.concatenate([clouds.cloud(0), clouds.cloud(0)]),
    )
    views = voting._Views(twice, np.arange(2), 128, 1, torch.device("cpu"))
    one, two = views.draw(np.arange(2))
    # all 128 points in both, so that only order, scale and shift differ
    extent = [points.amax(0) - points.amin(0) for points in (one, two)]
    ratio = extent[0] / extent[1]
    assert ((ratio > (2 / 3) ** 2) & (ratio < 1.5**2)).all()
    assert not torch.allclose(ratio, torch.ones(3), atol=1e-3)
    assert not torch.allclose(ratio, ratio[[1, 2, 0]], atol=1e-3), "each axis by itself"


def test_a_run_with_votes(tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path) -> None:
    run = voting_run(tiny_config, votes=3, epochs=1)
    result = do(run, context(tiny, tmp_path / "votes"))
    found = [result.metrics[key] for key in (keys.VOTE_MEAN, keys.VOTE_MAX)]
    assert 0.0 <= found[0] <= found[1] <= 1.0
    assert result.metrics[keys.VOTE_SD] >= 0.0
    assert keys.VOTE_MAX in read_journal(tmp_path / "votes")
    assert result.protocol["test_reads"] == 1 + 3
    assert result.protocol["voting"].startswith("3 passes with the validation-selected weights")

    plain = do(voting_run(tiny_config, epochs=1), context(tiny, tmp_path / "plain"))
    assert plain.metrics[keys.TEST_ACC] == result.metrics[keys.TEST_ACC], "the headline stays"
    assert not {keys.VOTE_MEAN, keys.VOTE_SD, keys.VOTE_MAX} & set(plain.metrics)
    assert "voting" not in plain.protocol


def test_voting_of_several_processes_is_refused_before_training(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    where = context(tiny, tmp_path, processes=Processes(0, 2))
    with pytest.raises(ConfigError, match="votes=3 with 2 processes: voting runs in one"):
        do(voting_run(tiny_config, votes=3), where)
