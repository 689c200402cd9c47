"""Batches of an endless data set: in order, the same from any number of workers, resumable."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from sa3d.config.endless import EndlessSource, digest_of
from sa3d.config.loading import load_experiment, require_data
from sa3d.data.endless import HELD_OUT
from sa3d.data.endless_batches import EndlessBatches, default_workers, held_out
from sa3d.data.loader import Batch
from sa3d.data.sources.procedural.settings import ProceduralSource
from sa3d.data.sources.procedural.source import generate
from sa3d.data.store import TEST
from sa3d.errors import ConfigError, DataError
from sa3d.tracking import checks

SOURCE = ProceduralSource(clouds_per_epoch=50, points=64, held_out=8)


def batches(workers: int = 0, **changes: int) -> EndlessBatches:
    values = {"batch_size": 8, "points": 64, "seed": 0} | changes
    return EndlessBatches(SOURCE, workers=workers, **values)


def taken(found: EndlessBatches, places: Sequence[tuple[int, int]]) -> list[Batch]:
    """Whole or broken-off epochs, each from a batch on."""
    with found:
        return [batch for e, start in places for batch in found.epoch(e, start)]


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.points, other.points)
        and torch.equal(one.labels, other.labels)
        and torch.equal(one.index, other.index)
    )


def test_every_epoch_has_new_clouds_in_order() -> None:
    found = taken(batches(), [(0, 0), (1, 0)])
    assert len(found) == 2 * len(batches()) == 12
    numbers = torch.cat([batch.index for batch in found])
    assert numbers.tolist() == [*range(48), *range(50, 98)]
    direct = generate(SOURCE, 1, numbers.tolist())
    points = torch.cat([batch.points for batch in found])
    np.testing.assert_allclose(points.numpy(), direct.points, atol=1e-6)
    radius = points.norm(dim=2).amax(dim=1)
    torch.testing.assert_close(radius, torch.ones(96))


def test_workers_change_nothing_and_go_on_over_the_end_of_an_epoch() -> None:
    alone = taken(batches(), [(0, 2), (1, 0), (2, 3)])
    for workers in (1, 2):
        found = taken(batches(workers), [(0, 2), (1, 0), (2, 3)])
        assert len(found) == len(alone) == 4 + 6 + 3
        assert all(map(same, found, alone))


def test_an_epoch_may_be_left_and_begun_again() -> None:
    alone = taken(batches(), [(0, 0)])
    with batches(1) as found:
        first = found.epoch(0)
        next(first)
        again = list(found.epoch(0))
        assert all(map(same, again, alone))


def test_ranks_see_together_what_one_process_sees() -> None:
    one = taken(batches(batch_size=16), [(1, 0)])
    ranks = [taken(batches(rank=rank, world=2), [(1, 0)]) for rank in range(2)]
    assert len(one) == len(ranks[0]) == len(ranks[1])
    for whole, *parts in zip(one, *ranks, strict=True):
        assert torch.equal(whole.points, torch.cat([part.points for part in parts]))


def test_fewer_points_are_the_first_ones_scaled_again() -> None:
    (batch, *_) = taken(batches(points=32), [(0, 0)])
    assert batch.points.shape == (8, 32, 3)
    torch.testing.assert_close(batch.points.norm(dim=2).amax(dim=1), torch.ones(8))


def test_runs_of_other_seeds_see_other_clouds() -> None:
    one, other = (taken(batches(seed=seed), [(0, 0)])[0] for seed in (0, 1))
    assert not (one.points == other.points).all(dim=2).all(dim=1).any()


def test_workers_end_with_the_batches_and_leave_signals_to_their_parent() -> None:
    with batches(1) as found:
        stream = found.epoch(0)
        next(stream)
        children = [
            each
            for each in psutil.Process().children(recursive=True)
            if "spawn_main" in " ".join(each.cmdline())
        ]
        assert len(children) == 1
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(children[0].pid, number)
        assert len(list(stream)) == 5
    assert not children[0].is_running()


def test_without_workers_no_process_is_started() -> None:
    before = psutil.Process().children()
    taken(batches(), [(0, 0)])
    with batches(2):  # nor before the first batch
        assert psutil.Process().children() == before


def test_a_worker_that_is_killed_is_told() -> None:
    with batches(1) as found:
        stream = found.epoch(0)
        next(stream)
        (child,) = (c for c in psutil.Process().children() if "spawn_main" in " ".join(c.cmdline()))
        child.kill()
        with pytest.raises(DataError, match="a worker that makes clouds was ended"):
            for _ in found.epoch(1):
                pass


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"points": 65}, "65 points asked but the clouds of procedural are made with 64"),
        ({"batch_size": 51}, "clouds_per_epoch=50 gives no batch of 51 x 1"),
        ({"batch_size": 26, "world": 2}, "gives no batch of 26 x 2"),
    ],
)
def test_what_cannot_be_had_is_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(DataError, match=said):
        batches(**changes)


def test_the_held_out_clouds_are_a_stream_of_their_own() -> None:
    clouds = held_out("p", SOURCE)
    made = generate(SOURCE, HELD_OUT, range(8))
    assert (clouds.split == TEST).all()
    np.testing.assert_array_equal(clouds.cloud(3), made.points[3])
    trained = torch.cat([batch.points for batch in taken(batches(), [(0, 0)])]).numpy()
    assert not any((each == made.points).all(axis=(1, 2)).any() for each in trained)


def test_default_workers_leave_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert (default_workers("cuda"), default_workers("cpu")) == (14, 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert default_workers("cuda") == 1


# --- in an experiment ----------------------------------------------------------------------

PARAMS = """\
datasets:
  p: {source: procedural, clouds_per_epoch: 64, points: 128}
  other: {source: shapes}
experiments:
  e:
    model: {groups: 8, group_size: 8, dim: 16, depth: 2, heads: 2, decoder_depth: 1}
    pretrain: {data: {name: p, points: 64}, mask: random, mask_ratio: 0.6, epochs: 2,
      batch_size: 16, lr: 1.0e-3}
    variants: {plain: {method: mae}}
    evaluate: [{task: svm, data: {name: other}}]
"""


@pytest.fixture
def params(tmp_path: Path) -> Path:
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS)
    return file


def test_an_experiment_takes_the_settings_from_the_data_sets(params: Path) -> None:
    config = load_experiment("e", params, ["pretrain.data.endless.noise_sd=0.03"])
    assert config.pretrain is not None
    assert config.pretrain.data.endless == ProceduralSource(
        clouds_per_epoch=64, points=128, noise_sd=0.03
    )
    assert isinstance(config.pretrain.data.endless, EndlessSource)
    assert config.evaluate[0].data.endless is None
    require_data(config, params)  # there is no file of it, and none is needed


def test_what_a_flow_writes_of_it_says_the_same(params: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    config = load_experiment("e", params)
    again = tmp_path / "again.yaml"
    tree = config.model_dump(mode="json", exclude={"name"})
    again.write_text(yaml.safe_dump({"experiments": {"e": tree}}))
    assert load_experiment("e", again) == config


def test_a_lineage_finds_the_digest_by_the_settings(
    params: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(params.parent)
    digest = digest_of(ProceduralSource(clouds_per_epoch=64, points=128))
    assert [found.state for found in checks.data("p", digest, None)] == ["holds"]
    assert [found.state for found in checks.data("p", "0" * 64, None)] == ["unknown"]


def test_another_data_set_for_pretraining_is_not_endless(params: Path) -> None:
    config = load_experiment("e", params, ["pretrain.data.name=other"])
    assert config.pretrain is not None
    assert config.pretrain.data.endless is None


def test_it_cannot_be_evaluated_on(params: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.0\.data\.name=p is made for pre-training"):
        load_experiment("e", params, ["evaluate.0.data.name=p"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("pretrain.data.endless.primitives=12", "primitives"),
        ("pretrain.data.endless.nois=0.1", "nois"),
    ],
)
def test_a_wrong_setting_is_told_with_its_key(params: Path, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_experiment("e", params, [override])
