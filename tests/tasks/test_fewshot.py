"""Few-shot runs: the same episodes for everybody, nothing selected, an episode by ids."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_runs import context, do, interrupted, run_of, tiny_clouds

from sa3d.config.experiment import ExperimentConfig
from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.episodes import drawn_episode
from sa3d.data.store import TEST, Episode
from sa3d.data.writing import write_clouds
from sa3d.engine.checkpoint import Checkpoint
from sa3d.errors import ConfigError, DataError
from sa3d.metrics import names as keys
from sa3d.runs.config import RunConfig, choose, runs_of
from sa3d.tasks import selection
from sa3d.tasks.fewshot.task import FewshotConfig
from sa3d.tracking.journal import read_journal

pytestmark = pytest.mark.usefixtures("one_thread")
EPISODE = ("name", "classes", "train", "test")


def at(run: RunConfig, **changes: Any) -> RunConfig:
    """The run with another seed or fold."""
    return replace(run, spec=replace(run.spec, **changes))


def episode_in(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((folder / "episode.json").read_text())
    return tree


def test_a_run(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = run_of(tiny_config, "fewshot")
    assert isinstance(run.settings, FewshotConfig)
    result = do(run, context(tiny, tmp_path, start=trained["sa3df"]))
    assert run.spec.name == "fewshot-3w2s-tiny-sa3df-s1-f0"
    assert not {keys.TEST_BEST, keys.VAL_ACC, keys.TEST_LAST} & set(result.metrics)
    assert result.protocol["encoder"].startswith("pre-trained: ")
    assert result.protocol["test_reads"] == 1
    assert result.protocol["epochs"] == result.protocol["steps"] == 3
    assert result.protocol["episode"] == "3way-2shot-0"
    assert result.data["num_classes"] == 3
    assert (result.data["train"], result.data["test"], result.data["test_families"]) == (6, 6, 6)
    assert result.data["floor"] is None, "that of the data set is over 16 classes"

    clouds = tiny_clouds(tiny)
    tree = episode_in(tmp_path)
    assert tree["data_digest"] == clouds.digest
    assert tree["classes"] == result.details["classes"]
    expected = drawn_episode(clouds, way=3, shot=2, queries=2, fold=0, seed=0)
    kept = np.load(tmp_path / "outcomes.npz")
    assert kept["index"].tolist() == expected.test.tolist()
    assert [clouds.ids[row] for row in kept["index"]] == tree["test"]["ids"]
    assert kept["labels"].tolist() == tree["test"]["labels"] == expected.test_labels.tolist()
    assert kept["score"].mean() == result.metrics[keys.TEST_ACC]
    assert set(kept["predicted"]) <= {0, 1, 2}, "the head has an output a class of the episode"
    assert [clouds.ids[row] for row in expected.train] == tree["train"]["ids"]
    # nothing to go on from, and no weights of 120 runs
    assert not list(tmp_path.glob("*.pt"))
    assert not (tmp_path / "model").exists()


def test_episodes_depend_on_the_fold_alone(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    first = run_of(tiny_config, "fewshot", epochs=1)
    found = {}
    for name, run, start in (
        ("first", first, "sa3df"),
        ("variant", run_of(tiny_config, "fewshot", "scratch", epochs=1), None),
        ("seed", at(first, seed=5), "sa3df"),
        ("fold", at(first, fold=1), "sa3df"),
        ("other", run_of(tiny_config, "fewshot", epochs=1, episode_seed=1), "sa3df"),
    ):
        do(run, context(tiny, tmp_path / name, start=start and trained[start]))
        tree = episode_in(tmp_path / name)
        found[name] = {key: tree[key] for key in EPISODE}
    assert found["variant"] == found["seed"] == found["first"]
    assert found["fold"] != found["first"]
    assert found["other"] != found["first"]


def test_every_fold_is_a_run(tiny_config: ExperimentConfig) -> None:
    names = [run.spec.name for run in runs_of(tiny_config) if run.spec.task == "fewshot"]
    assert sorted(names) == sorted(
        f"fewshot-3w2s-tiny-{variant}-s1-f{fold}"
        for variant in ("sa3df", "random-masks", "scratch")
        for fold in (0, 1)
    )
    assert choose(tiny_config, "fewshot", variant="scratch", fold=1, label="3w2s").spec.fold == 1


def test_test_is_read_each_epoch_only_where_asked_for(
    tiny: Path,
    tiny_config: ExperimentConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = []
    real = selection.Reader.logits

    def spy(reader: Any, classifier: Any, rows: Any, **more: Any) -> Any:
        reads.append(rows.tolist())
        return real(reader, classifier, rows, **more)

    monkeypatch.setattr(selection.Reader, "logits", spy)
    plain = do(run_of(tiny_config, "fewshot", "scratch"), context(tiny, tmp_path / "plain"))
    assert len(reads) == 1
    assert keys.TEST_EPOCH not in read_journal(tmp_path / "plain")
    asked = run_of(tiny_config, "fewshot", "scratch", test_every_epoch=True)
    result = do(asked, context(tiny, tmp_path / "asked"))
    assert len(reads) == 1 + 3 + 1
    curve = [value for _, value in read_journal(tmp_path / "asked")[keys.TEST_EPOCH]]
    assert result.metrics[keys.TEST_BEST] == max(curve)
    assert result.metrics[keys.TEST_ACC] == curve[-1], "the headline is the last epoch"
    assert result.metrics[keys.TEST_ACC] == plain.metrics[keys.TEST_ACC]
    assert result.protocol["test_reads"] == 1 + 3


def test_it_learns(tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path) -> None:
    easy = {"epochs": 30, "lr": 5e-3, "dropout": 0.0, "augment": "none", "shot": 6}
    run = run_of(tiny_config, "fewshot", "scratch", **easy)
    accuracy = []
    for fold in range(2):
        folder = tmp_path / str(fold)
        result = do(at(run, fold=fold), context(tiny, folder))
        accuracy.append(result.metrics[keys.TEST_ACC])
        # of 18 clouds; rounding, which differs by machine, moves one or two of them
        assert read_journal(folder)[keys.TRAIN_ACC][-1][1] > 0.7
    assert np.mean(accuracy) > 0.5, "chance is 1 of 3"


def test_it_goes_on_where_it_was_saved(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config, "fewshot", "scratch", test_every_epoch=True, epochs=5)
    whole = do(run, context(tiny, tmp_path / "whole"))
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "due", lambda self: True)  # as if minutes had passed
        interrupted(patch, 3, lambda: do(run, context(tiny, cut)))
    assert (cut / "last.pt").is_file()
    again = do(run, context(tiny, cut))
    assert not (cut / "last.pt").exists()
    for name in (keys.TEST_ACC, keys.TEST_BEST, keys.LOSS):
        assert again.metrics[name] == whole.metrics[name]
    assert len(read_journal(cut)[keys.TEST_EPOCH]) == 5


def test_layer_decay_and_smoothing_are_those_of_fine_tuning(
    trained: dict[str, Path], tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    changes = {"layer_decay": 0.75, "label_smoothing": 0.3, "epochs": 1, "schedule": "epoch"}
    run = run_of(tiny_config, "fewshot", **changes)
    result = do(run, context(tiny, tmp_path / "a", start=trained["sa3df"]))
    assert result.protocol["layer_decay"] == 0.75
    assert result.protocol["label_smoothing"] == 0.3
    with pytest.raises(ConfigError, match=r"label_smoothing=0\.7 .* 3 classes"):
        do(run_of(tiny_config, "fewshot", label_smoothing=0.7), context(tiny, tmp_path / "b"))


def test_too_few_test_clouds_end_the_run_before_training(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = run_of(tiny_config, "fewshot", "scratch", queries=20)
    with pytest.raises(DataError, match=r"fewer test clouds .* set queries=2 or less$") as no:
        do(run, context(tiny, tmp_path))
    assert "\n" not in str(no.value)
    assert not list(tmp_path.glob("*.json"))


# --- episodes that the data set brings ------------------------------------------------------


@pytest.fixture
def bringing(tiny: Path, tmp_path: Path) -> Path:
    """The tiny data set with one episode of its own, which no draw would give: all of its clouds
    are test clouds."""
    clouds = tiny_clouds(tiny)
    test = clouds.indices(TEST)
    pairs = [test[clouds.labels[test] == label] for label in (4, 2, 9)]
    episode = Episode(
        "3way-1shot-0",
        tuple(clouds.ids[pair[0]] for pair in pairs),
        (0, 1, 2),
        tuple(clouds.ids[pair[1]] for pair in pairs),
        (0, 1, 2),
    )
    table = CloudTable(
        ids=clouds.ids,
        labels=clouds.labels,
        split=clouds.split,
        family=clouds.family,
        class_names=clouds.class_names,
        source_hash="f00",
        normalisation=clouds.normalisation,
        episodes=(episode,),
    )
    made = (Cloud(clouds.cloud(row)) for row in range(len(clouds)))
    return write_clouds(tmp_path / "bringing.h5", made, table)


@pytest.mark.parametrize("which", ["auto", "published"])
def test_published_episodes_are_used_where_there_are(
    which: str, bringing: Path, tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    changes = {"shot": 1, "queries": 1, "batch_size": 3, "epochs": 1, "episodes": which}
    run = run_of(tiny_config, "fewshot", "scratch", **changes)
    result = do(run, context(tiny, tmp_path / "a", clouds=bringing))
    tree = episode_in(tmp_path / "a")
    names = tiny_clouds(tiny).class_names
    assert tree["classes"] == [names[4], names[2], names[9]]
    assert tree["drawn"] == result.protocol["episodes"] == "published with the data set"
    with pytest.raises(DataError, match="has no episode '3way-1shot-1'; it has 3way-1shot-0"):
        do(at(run, fold=1), context(tiny, tmp_path / "b", clouds=bringing))


def test_drawn_ones_where_it_brings_none_of_that_kind_or_they_are_asked_for(
    bringing: Path, tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    common = {"queries": 1, "batch_size": 3, "epochs": 1}
    for place, changes in enumerate(({"shot": 2}, {"shot": 1, "episodes": "drawn"})):
        run = run_of(tiny_config, "fewshot", "scratch", **common | changes)
        result = do(run, context(tiny, tmp_path / str(place), clouds=bringing))
        assert result.protocol["episodes"].startswith("drawn with seed 0: ")
    none = run_of(tiny_config, "fewshot", "scratch", **common, shot=2, episodes="published")
    with pytest.raises(DataError, match="has no episode '3way-2shot-0'"):
        do(none, context(tiny, tmp_path / "none", clouds=bringing))


def test_random_weights_come_from_the_seed(
    tiny: Path, tiny_config: ExperimentConfig, tmp_path: Path
) -> None:
    run = run_of(tiny_config, "fewshot", "scratch", epochs=1)
    loss = []
    for place, seed in enumerate((1, 1, 2)):
        result = do(at(run, seed=seed), context(tiny, tmp_path / str(place)))
        loss.append(result.metrics[keys.LOSS])
    assert loss[0] == loss[1] != loss[2]
    assert torch.isfinite(torch.tensor(loss)).all()
