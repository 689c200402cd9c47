"""C of a linear SVM, and whether features are standardised, by cross-validation.

Every way is tried with every C of the grid. Where the best C is at an edge of what was tried, the
next power of ten on that side is tried too, between :data:`LEAST` and :data:`MOST`.

Within a fold all C share the inner products of the clouds, so those are computed once; the SVM is
the same as ``SVC(kernel="linear")``. Measured on one core: 6 562 clouds of 768 features and 40
classes take 3 s for the products and 1 s a C, instead of 11 s a C.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sa3d.tasks.evaluation import Ints
from sa3d.utils.progress import ProgressBar

LEAST, MOST = 1e-6, 1e4
# of libsvm, for each pair of classes; ordinary fits need some hundred to some thousand, but those
# with a large C on classes that overlap may go on for hours
ITERATIONS: Final = 200_000

Inputs = NDArray[np.float32]
Scores = dict[float, float]  # C -> cross-validated accuracy
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """What cross-validation chose.

    Attributes:
        c: the C.
        standardised: whether each feature is brought to mean 0 and variance 1 on the training
            clouds.
        scores: C -> accuracy of every C tried, of features as they are and standardised.
        splitter: how clouds were divided into folds.
        unconverged: fits that were stopped at :data:`ITERATIONS`.
    """

    c: float
    standardised: bool
    scores: dict[bool, Scores]
    splitter: str
    unconverged: int

    @property
    def accuracy(self) -> float:
        """Cross-validated, of what was chosen."""
        return self.scores[self.standardised][self.c]

    @property
    def at_bound(self) -> bool:
        """Whether C is the smallest or largest that was tried: the search met its bound there."""
        tried = self.scores[self.standardised]
        return self.c in (min(tried), max(tried))


def choose(
    inputs: Inputs,
    labels: Ints,
    family: Ints,
    grid: Sequence[float],
    folds: int,
    seed: int,
    *,
    label: str = "",
    jobs: int = 1,
) -> Choice:
    """Standardised or not, and C, with the best cross-validated accuracy.

    Of equal ones features as they are, as published, come before standardised ones; for C see
    :func:`best`. Folds are stratified, and where clouds come in families no family is on both
    sides of one: otherwise C would be chosen for recognising near-duplicates.

    Args:
        inputs: (S, D). labels, family: (S,).
        grid: the first C to try.
        folds: how many.
        seed: of the folds.
        label: of the progress bar; empty shows none.
        jobs: fits at the same time, in threads.
    """
    splits, splitter = _splits(inputs, labels, family, folds, seed)
    first = sorted(set(grid))
    total, stopped = 2 * len(first) * folds, 0
    with ProgressBar(label, total, "fits", quiet=not label) as bar:

        def evaluate(standardised: bool, cs: Sequence[float]) -> Scores:
            nonlocal stopped
            of_folds = []
            for a, b in splits:
                fold = _Fold.of(inputs, labels, a, b, standardised)
                scores, cut = zip(*fold.scores(cs, jobs, bar.update), strict=True)
                of_folds.append(scores)
                stopped += sum(cut)
            return {c: float(mean) for c, mean in zip(cs, np.mean(of_folds, axis=0), strict=True)}

        def further(standardised: bool, c: float) -> float:
            nonlocal total
            total += folds
            bar.expect(total)
            return evaluate(standardised, [c])[c]

        found = {way: evaluate(way, first) for way in (False, True)}
        scores = {way: widened(tried, partial(further, way)) for way, tried in found.items()}
    ways = {way: best(tried) for way, tried in scores.items()}
    way = max(ways, key=lambda each: (scores[each][ways[each]], not each))
    return Choice(ways[way], way, scores, splitter, stopped)


def widened(scores: Scores, evaluate: Callable[[float], float]) -> Scores:
    """``scores`` with further C, until the best one is not at an edge or a bound is met."""
    found = dict(scores)
    while (c := _beyond(found)) is not None:
        found[c] = evaluate(c)
    return dict(sorted(found.items()))


def best(scores: Scores) -> float:
    """The C of the highest accuracy: of equal ones the smallest that is not at an edge of what
    was tried, and if all are at one, the smallest."""
    highest = max(scores.values())
    equal = sorted(c for c, score in scores.items() if score == highest)
    return next((c for c in equal if min(scores) < c < max(scores)), equal[0])


def _beyond(scores: Scores) -> float | None:
    """The next C to try; None: the best one is inside, or at a bound."""
    c, low, high = best(scores), min(scores), max(scores)
    if c == low and _tenfold(low, -1) >= LEAST:
        return _tenfold(low, -1)
    if c == high and _tenfold(high, 1) <= MOST:
        return _tenfold(high, 1)
    return None


def _tenfold(c: float, sign: int) -> float:
    return float(f"{c * 10.0**sign:.12g}")  # 0.0001, not 0.00010000000000000002


def classifier(c: float, standardised: bool) -> Any:
    """The SVM itself, to be fitted on all training clouds."""
    svm = SVC(kernel="linear", C=c, max_iter=ITERATIONS)
    return make_pipeline(StandardScaler(), svm) if standardised else svm


def converged(svm: SVC) -> bool:
    """Whether the fit of every pair of classes came to its end."""
    return bool((np.atleast_1d(svm.n_iter_) < ITERATIONS).all())


def _splits(
    inputs: Inputs, labels: Ints, family: Ints, folds: int, seed: int
) -> tuple[list[tuple[Ints, Ints]], str]:
    families = len(np.unique(family)) < len(family)
    kind = StratifiedGroupKFold if families else StratifiedKFold
    splitter = kind(folds, shuffle=True, random_state=seed)
    return list(splitter.split(inputs, labels, family if families else None)), kind.__name__


@dataclass(frozen=True)
class _Fold:
    """Inner products of a fold's clouds: (A, A) of those that are fitted, (B, A) of the others."""

    fitted: Doubles
    tested: Doubles
    labels: Ints
    truth: Ints

    @classmethod
    def of(cls, inputs: Inputs, labels: Ints, a: Ints, b: Ints, standardised: bool) -> _Fold:
        one, two = inputs[a].astype(np.float64), inputs[b].astype(np.float64)
        if standardised:
            scaler = StandardScaler().fit(one)
            one, two = scaler.transform(one), scaler.transform(two)
        return cls(one @ one.T, two @ one.T, labels[a], labels[b])

    def scores(
        self, cs: Sequence[float], jobs: int, done: Callable[[], None]
    ) -> list[tuple[float, bool]]:
        """Accuracy with each C, and whether its fit was stopped; ``done`` is called after each."""
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead
            with ThreadPoolExecutor(jobs) as pool:  # libsvm computes without Python's lock
                for each in pool.map(self._score, cs):
                    found.append(each)
                    done()
        return found

    def _score(self, c: float) -> tuple[float, bool]:
        svm = SVC(kernel="precomputed", C=c, max_iter=ITERATIONS).fit(self.fitted, self.labels)
        return float(svm.score(self.tested, self.truth)), not converged(svm)
