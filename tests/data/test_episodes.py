"""Few-shot episodes: right counts, disjoint, the same for everybody, from many families."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sa3d.data import episodes
from sa3d.data.episodes import drawn_episode, published_episode
from sa3d.data.store import TEST, TRAIN, CloudSet, EpisodeRows, open_clouds
from sa3d.errors import DataError


@pytest.fixture
def clouds(tiny: Path) -> CloudSet:
    """16 classes of six training and two test clouds, each a family of its own."""
    return open_clouds(tiny / "data" / "processed" / "tiny.h5")


SIZE = {"way": 5, "shot": 3, "queries": 2}


def rows(episode: EpisodeRows) -> list[int]:
    return [*episode.train.tolist(), *episode.test.tolist()]


def test_counts_splits_and_labels(clouds: CloudSet) -> None:
    for fold in range(20):
        found = drawn_episode(clouds, **SIZE, fold=fold, seed=0)
        assert found.name == f"5way-3shot-{fold}"
        assert found.way == 5
        assert len(set(rows(found))) == 5 * 3 + 5 * 2, "none twice"
        assert (clouds.split[found.train] == TRAIN).all()
        assert (clouds.split[found.test] == TEST).all()
        assert np.bincount(found.train_labels).tolist() == [3] * 5
        assert np.bincount(found.test_labels).tolist() == [2] * 5
        # one class a label, the same in training and test
        of_label = {
            label: set(clouds.labels[found.train[found.train_labels == label]])
            | set(clouds.labels[found.test[found.test_labels == label]])
            for label in range(5)
        }
        assert all(len(classes) == 1 for classes in of_label.values())
        assert len(set.union(*of_label.values())) == 5
        named = [clouds.class_names[classes.pop()] for classes in of_label.values()]
        assert episodes.classes_of(clouds, found) == tuple(named)


def test_they_depend_on_their_numbers_alone(clouds: CloudSet) -> None:
    np.random.seed(0)
    first = drawn_episode(clouds, **SIZE, fold=0, seed=0)
    np.random.seed(1)
    again = drawn_episode(clouds, **SIZE, fold=0, seed=0)
    assert rows(first) == rows(again)
    assert rows(first) != rows(drawn_episode(clouds, **SIZE, fold=1, seed=0))
    assert rows(first) != rows(drawn_episode(clouds, **SIZE, fold=0, seed=1))
    fewer = drawn_episode(clouds, **SIZE | {"queries": 1}, fold=0, seed=0)
    assert fewer.train.tolist() == first.train.tolist()
    assert set(fewer.test) < set(first.test)


def test_classes_and_clouds_vary_between_folds(clouds: CloudSet) -> None:
    found = [drawn_episode(clouds, **SIZE, fold=fold, seed=0) for fold in range(40)]
    names = [name for each in found for name in episodes.classes_of(clouds, each)]
    assert set(names) == set(clouds.class_names)
    trained = {row for each in found for row in each.train.tolist()}
    assert len(trained) > 0.9 * len(clouds.indices(TRAIN))


def test_an_episode_that_was_drawn_before(clouds: CloudSet) -> None:
    """By ids: another draw would be another experiment under the same name."""
    found = drawn_episode(clouds, way=2, shot=1, queries=1, fold=0, seed=0)
    tree = json.loads(json.dumps(episodes.as_json(clouds, found)))
    assert tree["name"] == "2way-1shot-0"
    assert tree["train"]["labels"] == tree["test"]["labels"] == [0, 1]
    row_of = {name: row for row, name in enumerate(clouds.ids)}
    assert [row_of[name] for name in tree["train"]["ids"]] == found.train.tolist()
    assert [row_of[name] for name in tree["test"]["ids"]] == found.test.tolist()
    for label, name in enumerate(tree["classes"]):
        for side in ("train", "test"):
            assert clouds.class_names[clouds.labels[row_of[tree[side]["ids"][label]]]] == name


def test_clouds_come_from_as_many_families_as_there_are(clouds: CloudSet) -> None:
    """Per class six training clouds in three families, of four, one and one."""
    family = clouds.family.copy()
    for label in range(clouds.num_classes):
        own = np.flatnonzero((clouds.labels == label) & (clouds.split == TRAIN))
        family[own] = 1000 * (label + 1) + np.array([0, 0, 0, 0, 1, 2])
    grouped = replace(clouds, family=family)
    seen = set()
    for fold in range(10):
        three = drawn_episode(grouped, **SIZE, fold=fold, seed=0)
        four = drawn_episode(grouped, **SIZE | {"shot": 4}, fold=fold, seed=0)
        for label in range(5):
            of_three = family[three.train[three.train_labels == label]]
            of_four = family[four.train[four.train_labels == label]]
            assert len(set(of_three)) == 3
            assert sorted(np.unique(of_four, return_counts=True)[1]) == [1, 1, 2]
        assert not set(family[three.train]) & set(family[three.test])
        seen |= set(three.train.tolist())
    assert len(seen) > 60, "any cloud of the large family may stand for it"


def test_too_few_clouds_are_said_with_counts_and_a_remedy(clouds: CloudSet) -> None:
    with pytest.raises(DataError) as refused:
        drawn_episode(clouds, **SIZE | {"queries": 20}, fold=0, seed=0)
    said = str(refused.value)
    assert "has fewer test clouds than the episode needs" in said
    assert "5 classes of 3 training and 20 test clouds, but 0 of 16 classes have them" in said
    assert "airplane has 6 and 2" in said
    assert "and 10 more" in said
    assert said.endswith("set queries=2 or less")
    with pytest.raises(DataError, match=r"fewer training clouds .* set a smaller way or shot$"):
        drawn_episode(clouds, **SIZE | {"shot": 7}, fold=0, seed=0)
    with pytest.raises(DataError, match=r"^way=17, but .* has 16 classes; set a smaller way$"):
        drawn_episode(clouds, **SIZE | {"way": 17}, fold=0, seed=0)
    # one class with too few test clouds is never drawn
    lacking = clouds.labels == 3
    split = np.where(lacking, np.uint8(TRAIN), clouds.split)
    without = replace(clouds, split=split)
    drawn = [drawn_episode(without, **SIZE, fold=fold, seed=0) for fold in range(20)]
    assert all(3 not in clouds.labels[rows(each)] for each in drawn)
    with pytest.raises(DataError, match=f"{clouds.class_names[3]} has 8 and 0"):
        drawn_episode(without, **SIZE | {"way": 16}, fold=0, seed=0)


# --- episodes that the data set brings ------------------------------------------------------


def brought(clouds: CloudSet, *found: EpisodeRows) -> CloudSet:
    return replace(clouds, episodes=found)


def test_published_episodes_are_taken_by_name(clouds: CloudSet) -> None:
    first = drawn_episode(clouds, **SIZE, fold=0, seed=3)
    second = drawn_episode(clouds, **SIZE, fold=1, seed=3)
    other = replace(first, name="5way-30shot-0")
    both = brought(clouds, first, second, other)
    assert episodes.published(both, 5, 3) == ["5way-3shot-0", "5way-3shot-1"]
    assert episodes.published(both, 5, 1) == []
    assert published_episode(both, **SIZE, fold=1) is second
    with pytest.raises(DataError, match="has no episode '5way-3shot-2'"):
        published_episode(both, **SIZE, fold=2)


def test_a_published_episode_of_another_size_is_refused(clouds: CloudSet) -> None:
    episode = drawn_episode(clouds, **SIZE, fold=0, seed=0)
    with pytest.raises(DataError, match=r"has 2 test clouds a class .* set queries=2"):
        published_episode(brought(clouds, episode), **SIZE | {"queries": 1}, fold=0)
    short = replace(episode, train=episode.train[1:], train_labels=episode.train_labels[1:])
    with pytest.raises(DataError, match=r"has 2 to 3 training clouds a class in 5 classes"):
        published_episode(brought(clouds, short), **SIZE, fold=0)


def test_labels_that_mix_classes_are_refused(clouds: CloudSet) -> None:
    episode = drawn_episode(clouds, **SIZE, fold=0, seed=0)
    mixed = replace(episode, test_labels=np.roll(episode.test_labels, 1))
    with pytest.raises(DataError, match="does not give each of its 5 labels to one class"):
        episodes.classes_of(clouds, mixed)
    whole = episodes.within(clouds, episode)
    assert np.array_equal(whole[episode.train], episode.train_labels)
    assert np.array_equal(whole[episode.test], episode.test_labels)
    assert (np.delete(whole, rows(episode)) == -1).all()
