"""What a finished, or partly failed, experiment left behind, read tolerantly.

Of the runs anything may be missing: a run that failed, a folder that was cleaned away, a journal
that ends in the middle. What cannot be read is noted in ``Experiment.problems`` and the report
says so; only an unreadable ``results.json`` itself is an error.
"""

from __future__ import annotations

import json
import math
import re
import traceback
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from sa3d import registry
from sa3d.config.experiment import ExperimentConfig
from sa3d.errors import DataError, UserError
from sa3d.runs.spec import RunSpec
from sa3d.tasks.base import Metric
from sa3d.tracking.journal import read_journal
from sa3d.utils.paths import RESULT, root

FORMAT: Final = 2  # of results.json
# of the states that a flow writes; the others are running, failed and stopped
FINISHED = frozenset({"finished", "reused"})
SKIPPED = frozenset({"skipped", "waiting"})

# what a missing, torn or foreign file raises, by the readers of JSON, NumPy and journals
UNREADABLE = (
    OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, UserError,
    zipfile.BadZipFile,
)  # fmt: skip

T = TypeVar("T")
History = Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Outcomes:
    """Per test unit (S,): its score, row in the data set and family; ``more`` is the task's own."""

    score: NDArray[np.float64]
    index: NDArray[np.int64]
    family: NDArray[np.int64]
    more: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class RunRecord:
    """One run of the experiment, as ``results.json`` and its folder tell it.

    Attributes:
        name: unique in the experiment.
        kind: ``pretrain``, ``register`` or ``evaluate``.
        spec: which run; None if ``results.json`` does not say.
        status: as the flow wrote it.
        reason: why it did not finish, in one line.
        folder: its run folder, if that is still there.
        metrics: numbers by name, finite ones alone.
        result: its ``result.json``; empty if there is none to read.
        journal: metric -> [(step, value)]; empty if there is none to read.
        outcomes: None if it keeps none, or they cannot be read.
        seconds, fingerprint, run_id, url: as recorded.
        model: name and version of a registered model.
    """

    name: str
    kind: str
    spec: RunSpec | None
    status: str
    reason: str = ""
    folder: Path | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)
    journal: History = field(default_factory=dict)
    outcomes: Outcomes | None = None
    seconds: float | None = None
    fingerprint: str = ""
    run_id: str = ""
    url: str = ""
    model: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run is complete; only then are its numbers shown."""
        return self.status in FINISHED

    @property
    def state(self) -> str:
        """``finished``, ``failed``, ``stopped`` or ``skipped``."""
        if self.finished:
            return "finished"
        if self.status in SKIPPED:
            return "skipped"
        return self.status if self.status in ("stopped", "running") else "failed"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """How its numbers came about."""
        return _mapping(self.result.get("protocol"))

    @property
    def data(self) -> Mapping[str, Any]:
        """Facts of its data set."""
        return _mapping(self.result.get("data"))

    def value(self, metric: Metric) -> float | None:
        """The metric; None if the run has not finished or has no possible value."""
        found = self.metrics.get(metric.name) if self.finished else None
        impossible = found is not None and metric.share and not 0.0 <= found <= 1.0
        return None if impossible else found


@dataclass
class Experiment:
    """Everything the report is made of."""

    config: ExperimentConfig
    runs: Mapping[str, RunRecord]
    raw: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)

    def attempt(self, what: str, make: Callable[[], T]) -> T | None:
        """``make()``, or ``None`` and a line under what is missing.

        The report is most needed when something went wrong, so no single piece may take the
        rest of the page down with it. What damaged input does not raise is likely a mistake in
        this program: its traceback goes to stderr, and so into the log of the report.
        """
        try:
            return make()
        except Exception as error:
            if not isinstance(error, (UserError, OSError, ValueError)):
                traceback.print_exception(error)
            self.problems.append(f"{what}: {_line(error)}")
            return None

    def evaluation(self, name: str) -> list[RunRecord]:
        """All runs of one evaluation, in the order of ``results.json``."""
        return [
            run
            for run in self.runs.values()
            if run.kind == "evaluate" and run.spec is not None and run.spec.evaluation == name
        ]

    def pretrainings(self, variant: str) -> list[RunRecord]:
        """The pre-trainings of a variant, one a seed."""
        return [
            run
            for run in self.runs.values()
            if run.kind == registry.PRETRAIN
            and run.spec is not None
            and run.spec.variant == variant
        ]


def read_experiment(path: Path) -> Experiment:
    """The experiment described by ``results.json`` at ``path``.

    Raises:
        DataError: the file is missing or is not the JSON object of an experiment.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no {path}: give the results.json of a finished experiment") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("nodes"), dict):
        raise DataError(f"{path} is not the results.json of an experiment: it has no `nodes`")
    if raw.get("format") != FORMAT:
        raise DataError(
            f"{path} has format {raw.get('format')}, expected {FORMAT}; run the experiment again "
            "(finished runs are reused)"
        )
    try:
        config = ExperimentConfig.model_validate(raw.get("experiment"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "as a whole"
        raise DataError(
            f"{path}: `experiment` does not fit this version of sa3d ({where}: {first['msg']}); "
            "run the experiment again"
        ) from None
    problems = [
        f"runs on {name} were skipped: {facts['absent']}"
        for name, facts in _mapping(raw.get("data")).items()
        if _mapping(facts).get("absent")
    ]
    runs = {
        str(name): _record(str(name), _mapping(entry), path.parent, problems)
        for name, entry in raw["nodes"].items()
    }
    return Experiment(config, runs, raw, problems)


def _record(name: str, entry: Mapping[str, Any], base: Path, problems: list[str]) -> RunRecord:
    status, kind = str(entry.get("status", "unknown")), str(entry.get("kind", "unknown"))
    trained = kind != "register"  # its folder is that of the pre-training, which is read there
    finished = trained and status in FINISHED
    folder = _folder(entry.get("run_dir"), base) if trained else None

    def read(what: str, make: Callable[[], T], otherwise: T) -> T:
        try:
            return make()
        except UNREADABLE as error:
            problems.append(f"{name}: {what} cannot be read ({_line(error)})")
            return otherwise

    if finished and folder is None:
        gone = Path(str(entry.get("run_dir") or "")).name
        problems.append(
            f"{name}: its run folder {gone} is gone; only the numbers in results.json are left"
        )
    nothing: Mapping[str, Any] = {}
    result = read(RESULT, lambda: _result(folder) if finished else nothing, nothing)
    seconds = entry.get("seconds", result.get("seconds"))
    outcomes = read("outcomes of single test clouds", lambda: _outcomes(folder, result), None)
    return RunRecord(
        name=name,
        kind=kind,
        spec=read("`spec` in results.json", lambda: RunSpec.from_json(entry["spec"]), None),
        status=status,
        reason=_reason(str(entry.get("error") or ""), str(entry.get("run_dir") or "")),
        folder=folder,
        metrics=_numbers(_mapping(result.get("metrics")))
        | _numbers(_mapping(entry.get("metrics"))),
        result=result,
        journal=read("journal", lambda: {} if folder is None else read_journal(folder), {}),
        outcomes=outcomes,
        seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
        fingerprint=str(entry.get("fingerprint") or result.get("fingerprint") or ""),
        run_id=str(entry.get("mlflow_run_id") or ""),
        url=str(entry.get("mlflow_url") or ""),
        model=_registered(_mapping(entry.get("model_version"))),
    )


def _registered(version: Mapping[str, Any]) -> str:
    """Name and version of a registered model, in words."""
    return f"{version['name']}, version {version['version']}" if "version" in version else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _line(error: Exception) -> str:
    """In one line, with no more of an absolute path than its end: a page is for others."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r"(?<![^\s'\"(])/\S*/(?=[^/\s]+/[^/\s]+)", "", text)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in metrics.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _reason(text: str, run_dir: str) -> str:
    """One line, with the run folder named from the project's root: a page is for others."""
    line = " ".join(text.split())
    known = run_dir and not run_dir.startswith("/")
    return re.sub(r"\S*/(?=" + re.escape(run_dir) + ")", "", line) if known else line


def _folder(value: object, base: Path) -> Path | None:
    if not value:
        return None
    given = Path(str(value))
    places = [given] if given.is_absolute() else [base / given, Path.cwd() / given, root() / given]
    return next((place for place in places if place.is_dir()), None)


def _result(folder: Path | None) -> Mapping[str, Any]:
    if folder is None:
        return {}
    return _mapping(json.loads((folder / RESULT).read_text(encoding="utf-8")))


def _outcomes(folder: Path | None, result: Mapping[str, Any]) -> Outcomes | None:
    """The scores that the run says it left, checked."""
    name = _mapping(result.get("artifacts")).get("outcomes")
    if folder is None or not name:
        return None
    with np.load(folder / str(name), allow_pickle=False) as stored:
        arrays = {key: np.asarray(stored[key]) for key in stored.files}
    found = Outcomes(
        arrays.pop("score").astype(np.float64),
        arrays.pop("index").astype(np.int64),
        arrays.pop("family").astype(np.int64),
        arrays,
    )
    size = len(found.score)
    if size == 0 or found.score.shape != found.index.shape or found.index.shape != (size,):
        raise ValueError(f"scores of shape {found.score.shape} for units {found.index.shape}")
    if found.family.shape != (size,) or not np.isfinite(found.score).all():
        raise ValueError("families or scores do not fit")
    return found
