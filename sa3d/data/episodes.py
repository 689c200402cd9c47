"""Few-shot episodes: way classes, some training clouds of each, and some to be tested on.

An episode is drawn once from a data set and a seed, and knows nothing of what is trained on it:
all variants, and all seeds of a run, meet the same one. Training clouds come from the training
split, test clouds from the test split, so that no family is on both sides. Within a class the
clouds come from as many families as there are: two near-duplicates would be one shot.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa3d.data.store import TEST, TRAIN, CloudSet, EpisodeRows, Ints
from sa3d.errors import DataError

_MOST_NAMED = 6  # classes that an error lists


def episode_name(way: int, shot: int, fold: int) -> str:
    """``5way-10shot-0``: as data sets name the episodes that they bring."""
    return f"{way}way-{shot}shot-{fold}"


def published(clouds: CloudSet, way: int, shot: int) -> list[str]:
    """Names of the episodes of that kind that the data set brings."""
    kind = re.compile(re.escape(f"{way}way-{shot}shot-") + r"\d+")
    return [each.name for each in clouds.episodes if kind.fullmatch(each.name)]


def published_episode(
    clouds: CloudSet, *, way: int, shot: int, queries: int, fold: int
) -> EpisodeRows:
    """An episode that the data set brings.

    Raises:
        DataError: it has no such episode, or one of another size than its name and ``queries``
            say.
    """
    episode = clouds.episode(episode_name(way, shot, fold))
    for what, labels, expected in (
        ("training", episode.train_labels, shot),
        ("test", episode.test_labels, queries),
    ):
        counts = np.bincount(labels, minlength=way)
        if len(counts) != way or (counts != expected).any():
            remedy = f"set queries={counts.max()}" if what == "test" else "prepare the data again"
            raise DataError(
                f"episode '{episode.name}' of {clouds.path} has {_range(counts)} {what} clouds a "
                f"class in {len(counts)} classes, expected {expected} in {way}; {remedy}"
            )
    return episode


def drawn_episode(
    clouds: CloudSet, *, way: int, shot: int, queries: int, fold: int, seed: int
) -> EpisodeRows:
    """An episode drawn at random; the same for the same data set and numbers.

    Another ``queries`` changes neither classes (if the same ones have enough clouds) nor training
    clouds.

    Raises:
        DataError: fewer than ``way`` classes with enough clouds.
    """
    train, test = clouds.indices(TRAIN), clouds.indices(TEST)
    of_train = np.bincount(clouds.labels[train], minlength=clouds.num_classes)
    of_test = np.bincount(clouds.labels[test], minlength=clouds.num_classes)
    enough = np.flatnonzero((of_train >= shot) & (of_test >= queries))
    if len(enough) < way:
        raise DataError(_too_few(clouds, way, shot, queries, of_train, of_test))
    rng = np.random.default_rng((seed, way, shot, fold))
    classes = rng.choice(enough, way, replace=False)
    shots: list[Ints] = []
    tests: list[Ints] = []
    for label in classes:
        for split, count, found in ((train, shot, shots), (test, queries, tests)):
            own = split[clouds.labels[split] == label]
            found.append(_from_most_families(own, clouds.family[own], count, rng))
    return EpisodeRows(
        episode_name(way, shot, fold),
        np.concatenate(shots),
        np.repeat(np.arange(way), shot),
        np.concatenate(tests),
        np.repeat(np.arange(way), queries),
    )


def classes_of(clouds: CloudSet, episode: EpisodeRows) -> tuple[str, ...]:
    """Names of the episode's classes, in the order of its labels.

    Raises:
        DataError: clouds of several classes have one label, or one class has several.
    """
    labels = np.concatenate([episode.train_labels, episode.test_labels])
    classes = clouds.labels[np.concatenate([episode.train, episode.test])]
    pairs = np.unique(np.stack([labels, classes]), axis=1)
    if pairs.shape[1] != episode.way or len(np.unique(pairs[1])) != episode.way:
        raise DataError(
            f"episode '{episode.name}' of {clouds.path} does not give each of its {episode.way} "
            "labels to one class; prepare the data again"
        )
    return tuple(clouds.class_names[int(label)] for label in pairs[1])


def within(clouds: CloudSet, episode: EpisodeRows) -> Ints:
    """(S,) labels within the episode; -1 for clouds that are not in it."""
    labels = np.full(len(clouds), -1, dtype=np.int64)
    labels[episode.train] = episode.train_labels
    labels[episode.test] = episode.test_labels
    return labels


def as_json(clouds: CloudSet, episode: EpisodeRows) -> dict[str, Any]:
    """The episode by the ids of its clouds, so that anybody can repeat it."""

    def side(rows: Ints, labels: Ints) -> dict[str, list[Any]]:
        return {"ids": [clouds.ids[row] for row in rows.tolist()], "labels": labels.tolist()}

    return {
        "name": episode.name,
        "classes": list(classes_of(clouds, episode)),
        "train": side(episode.train, episode.train_labels),
        "test": side(episode.test, episode.test_labels),
    }


def _from_most_families(
    rows: Ints, family: NDArray[np.int64], count: int, rng: np.random.Generator
) -> Ints:
    """``count`` of ``rows`` at random, ascending: one of each family before two of any."""
    order = rng.permutation(len(rows))
    turn = np.empty(len(rows), dtype=np.int64)  # how many of its family come before it
    seen: dict[int, int] = {}
    for place, name in enumerate(family[order].tolist()):
        turn[place] = seen.get(name, 0)
        seen[name] = int(turn[place]) + 1
    return np.sort(rows[order[np.argsort(turn, kind="stable")[:count]]])


def _too_few(
    clouds: CloudSet,
    way: int,
    shot: int,
    queries: int,
    of_train: NDArray[np.int64],
    of_test: NDArray[np.int64],
) -> str:
    """Which classes are too small, and what would do."""
    if way > clouds.num_classes:
        return f"way={way}, but {clouds.path} has {clouds.num_classes} classes; set a smaller way"
    lacking = np.flatnonzero((of_train < shot) | (of_test < queries))
    names = [f"{clouds.class_names[c]} has {of_train[c]} and {of_test[c]}" for c in lacking]
    more = len(names) - _MOST_NAMED
    listed = ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    tests = np.sort(of_test[of_train >= shot])[::-1]  # of the classes with enough to train on
    what, possible = ("test", int(tests[way - 1])) if len(tests) >= way else ("training", 0)
    remedy = f"set queries={possible} or less" if possible else "set a smaller way or shot"
    return (
        f"{clouds.path} has fewer {what} clouds than the episode needs: {way} classes of {shot} "
        f"training and {queries} test clouds, but {clouds.num_classes - len(lacking)} of "
        f"{clouds.num_classes} classes have them ({listed}); {remedy}"
    )


def _range(counts: NDArray[np.int64]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"
