"""A classifier out of a handful of clouds a class: a linear head on a frozen encoder.

How well it does is estimated on clouds that neither the head nor the choice of its C has seen:
cross-validation inside cross-validation, repeated with other folds.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.data.families import families_of_names
from sa3d.data.preprocessing import Axis
from sa3d.data.sources.folder.files import Found, list_folder
from sa3d.data.store import Ints
from sa3d.errors import DataError
from sa3d.inference.clouds import Failure
from sa3d.inference.encoder import Encoder
from sa3d.metrics.intervals import Estimate, estimate

LEAST: Final = 2
"""Clouds of a class without which nothing is taught."""
TELLING: Final = 5
"""Clouds of every class without which nothing is said of accuracy."""

_GRID: Final = tuple(10.0**power for power in range(-4, 3))
_FOLDS: Final = 5
_REPEATS: Final = 5
_MANY: Final = 500  # clouds from which on the folds are drawn once
_ITERATIONS: Final = 2000
_LIKELY: Final = 1e-6  # the least probability that counts, so that one cloud does not decide C

Features = NDArray[np.float64]


@dataclass(frozen=True)
class Examples:
    """Clouds of known classes.

    Attributes:
        class_names: of the labels.
        features: (S, D).
        labels: (S,).
        family: (S,); a family is of one class and on one side of every fold.
        failures: clouds that could not be read.
    """

    class_names: tuple[str, ...]
    features: Features
    labels: Ints
    family: Ints
    failures: tuple[Failure, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Clouds of each class."""
        sizes = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, sizes.tolist(), strict=True))


@dataclass(frozen=True)
class Taught:
    """A linear head on features, and what is known of it.

    Attributes:
        weight: (C, D). bias: (C,).
        c: what cross-validation chose.
        converged: whether the fit came to its end.
        accuracy: on clouds that were left out; None where a class has too few to say.
        chance: share of the largest class, which an answer without looking would reach.
    """

    weight: Features
    bias: Features
    c: float
    converged: bool
    accuracy: Estimate | None
    chance: float


def class_folders(root: Path) -> list[Found]:
    """The files of a folder that has a folder a class.

    Raises:
        DataError: it has not, or not as many classes or clouds as are needed.
    """
    if not root.is_dir():
        raise DataError(f"no folder {root}; give one that has a folder with shapes for each class")
    listing = list_folder(root)
    if listing.problems:
        raise DataError(listing.problems[0])
    if listing.split_given:
        raise DataError(
            f"{root} is divided into train and test; give a folder with a folder a class, all of "
            "which are learnt from"
        )
    counts = Counter(file.class_name for file in listing.files)
    if not listing.labelled or len(counts) < 2:
        raise DataError(f"{root} has no two folders with clouds, one a class")
    _check_counts(counts)
    return list(listing.files)


def examples(files: Sequence[Found], encoder: Encoder, given: Iterable[Path], up: Axis) -> Examples:
    """Features of the files' clouds.

    Args:
        files: of :func:`class_folders`.
        encoder: frozen.
        given: the paths of the files, in their order.
        up: the axis of the clouds that points up.

    Raises:
        DataError: too few clouds of a class can be read.
    """
    found = encoder.embed_all(given, up=up)
    unread = Counter(failure.id for failure in found.failures)
    read = [file for file in files if file.path not in unread]
    counts = Counter({file.class_name: 0 for file in files})
    counts.update(file.class_name for file in read)
    if found.failures:
        _check_counts(counts, found.failures)
    names = tuple(sorted(counts))
    labels = np.array([names.index(file.class_name) for file in read])
    keys = np.empty(len(read), dtype=object)
    for label, name in enumerate(names):
        rows = np.flatnonzero(labels == label)
        families = families_of_names([read[row].name for row in rows])
        keys[rows] = [f"{name}\0{family}" for family in families]
    family = np.unique(keys.astype(str), return_inverse=True)[1]
    return Examples(names, found.features.astype(np.float64), labels, family, found.failures)


def teach(given: Examples) -> Taught:
    """Fit a head to all clouds, with the C of cross-validation; estimate its accuracy by leaving
    clouds out."""
    c = _best_c(given.features, given.labels, given.family, 0)
    model = _fitted(given.features, given.labels, c)
    scaler, linear = model[0], model[-1]
    weight, bias = linear.coef_, linear.intercept_
    if len(weight) == 1:  # of two classes: logits of the second against zero
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    accuracy = None
    if min(given.counts.values()) >= TELLING:
        families = len(np.unique(given.family)) < len(given.labels)
        accuracy = estimate(_left_out(given), given.family if families else None)
    chance = max(given.counts.values()) / len(given.labels)
    converged = bool(linear.n_iter_.max() < _ITERATIONS)
    return Taught(weight, bias, c, converged, accuracy, chance)


def card_of(given: Examples, taught: Taught, encoder: Encoder, up: Axis) -> dict[str, Any]:
    """What the exported model says of itself."""
    about: dict[str, Any] = {"accuracy": None}
    if taught.accuracy is not None:
        interval = taught.accuracy.interval
        about = {
            "accuracy": taught.accuracy.mean,
            "interval": None if interval is None else list(interval),
            "how": taught.accuracy.how,
            "protocol": f"{_FOLDS} folds in {taught.accuracy.runs} draws, C chosen inside each; "
            "no family on both sides",
        }
    return {
        "kind": "taught",
        "model": encoder.card["model"],
        "preprocessing": encoder.preprocessing.to_json(),
        "up": up,
        "class_names": list(given.class_names),
        "encoder": encoder.card["sha256"],
        "clouds": given.counts,
        "families": len(np.unique(given.family)),
        "head": {"c": taught.c, "converged": taught.converged},
        "measured": {**about, "chance": taught.chance},
    }


def _check_counts(counts: Counter[str], failures: Sequence[Failure] = ()) -> None:
    for name, count in sorted(counts.items()):
        if count < LEAST:
            why = f": {failures[0].reason}" if failures else ""
            raise DataError(
                f"class '{name}' has {count} {'usable ' if failures else ''}clouds, at least "
                f"{LEAST} are needed{why}"
            )


def _left_out(given: Examples) -> NDArray[np.float64]:
    """(R, S) whether each cloud was recognised by a head that was fitted without it."""
    repeats = _REPEATS if len(given.labels) <= _MANY else 1
    right = np.zeros((repeats, len(given.labels)))
    for repeat in range(repeats):
        for fit, test in _splits(given.labels, given.family, _FOLDS, repeat):
            features, labels, family = given.features[fit], given.labels[fit], given.family[fit]
            model = _fitted(features, labels, _best_c(features, labels, family, repeat))
            right[repeat, test] = model.predict(given.features[test]) == given.labels[test]
    return right


def _best_c(features: Features, labels: Ints, family: Ints, seed: int) -> float:
    """The C whose probabilities fit left-out clouds best: least mean cross-entropy; of equal ones
    the smallest. Where a class has a single family, none can be left out: C is 1."""
    folds = min(_FOLDS, *(len(np.unique(family[labels == label])) for label in np.unique(labels)))
    if folds < 2:
        return 1.0
    losses = np.zeros(len(_GRID))
    for fit, test in _splits(labels, family, folds, seed):
        for at, c in enumerate(_GRID):
            model = _fitted(features[fit], labels[fit], c)
            # a class that is only among the left-out ones has probability 0
            columns = np.searchsorted(model.classes_, labels[test])
            columns = columns.clip(max=len(model.classes_) - 1)
            known = model.classes_[columns] == labels[test]
            chosen = model.predict_proba(features[test])[np.arange(len(test)), columns] * known
            losses[at] -= np.log(chosen.clip(min=_LIKELY)).sum()
    return _GRID[int(losses.argmin())]


def _splits(labels: Ints, family: Ints, folds: int, seed: int) -> list[tuple[Ints, Ints]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    families = len(np.unique(family)) < len(family)
    kind = StratifiedGroupKFold if families else StratifiedKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels, family if families else None))


def _fitted(features: Features, labels: Ints, c: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=_ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the card says it of the last fit
        return model.fit(features, labels)
