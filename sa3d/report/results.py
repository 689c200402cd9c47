"""What a finished, or partly failed, experiment left behind, read tolerantly.

Anything may be missing: a node that failed, a run folder that was cleaned away, a journal
that ends in the middle. What cannot be read is noted in ``Experiment.problems`` and the
report says so; only an unreadable ``results.json`` itself is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError
from sa3d.utils.paths import RESULT, root

ARMS = ("method", "baseline", "scratch")
# of the states that a flow writes; the others are running, failed and stopped
FINISHED = frozenset({"finished", "reused"})
SKIPPED = frozenset({"skipped", "waiting"})

T = TypeVar("T")
History = Mapping[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Outcomes:
    """Per test cloud (S,): label, predicted class, and family where the split is by family."""

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    index: NDArray[np.int64]
    group: NDArray[np.generic] | None

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which clouds were classified correctly (S,)."""
        return np.equal(self.labels, self.predicted)


@dataclass(frozen=True)
class Node:
    """One step of the experiment, as ``results.json`` and its run folder tell it."""

    name: str
    status: str
    reason: str
    folder: Path | None
    metrics: Mapping[str, float]
    result: Mapping[str, Any]
    seconds: float | None
    fingerprint: str
    run_id: str
    url: str

    @property
    def task(self) -> str:
        """``svm`` of ``svm-method``."""
        return self.name.rpartition("-")[0] or self.name

    @property
    def arm(self) -> str:
        """``method`` of ``svm-method``."""
        return self.name.rpartition("-")[2]

    @property
    def finished(self) -> bool:
        """Whether the run is complete; only then are its numbers shown."""
        return self.status in FINISHED


@dataclass
class Experiment:
    """Everything the report is made of."""

    name: str
    config: Mapping[str, Any]
    nodes: Mapping[str, Node]
    raw: Mapping[str, Any]
    problems: list[str] = field(default_factory=list)

    def attempt(self, what: str, make: Callable[[], T]) -> T | None:
        """``make()``, or ``None`` and a line under what is missing.

        The report is most needed when something went wrong, so no single piece may take the
        rest of the page down with it.
        """
        try:
            return make()
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            self.problems.append(f"{what}: {text}")
            return None

    def setting(self, dotted: str, default: Any = None) -> Any:
        """The configured value at ``section.key``."""
        value: Any = self.config
        for part in dotted.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return default
            value = value[part]
        return default if value is None else value

    @property
    def decoded_by_teacher(self) -> bool:
        """Whether the method's points are what its knowledge teacher decodes, not the cloud's."""
        node = self.nodes.get("pretrain-method")
        protocol: Any = node.result.get("protocol") if node is not None else None
        return _mapping(protocol) and str(protocol.get("point_term")).startswith("teacher_decoded")

    @property
    def data(self) -> dict[str, Any]:
        """Facts on the data set: those of every finished run together."""
        facts: dict[str, Any] = {"name": self.setting("data.name", "")}
        sources = [self.raw, *(node.result for node in self.nodes.values())]
        recorded = [source["data"] for source in sources if _mapping(source.get("data"))]
        # last the runs that carved out validation: their count of training clouds is without it
        for found in sorted(recorded, key=lambda found: "val" in found):
            facts.update({key: value for key, value in found.items() if value is not None})
        return facts

    @property
    def tasks(self) -> tuple[str, ...]:
        """Downstream tasks, as configured, else as found among the nodes."""
        configured = self.setting("tasks")
        if configured:
            return tuple(configured)
        found = [node.task for node in self.nodes.values() if node.task != "pretrain"]
        return tuple(dict.fromkeys(found))

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that were planned: no baseline or scratch where the config has none."""
        present = {node.arm for node in self.nodes.values()}
        return tuple(arm for arm in ARMS if arm in present)


def read_experiment(path: Path) -> Experiment:
    """The experiment described by ``results.json`` at ``path``.

    Raises:
        DataError: the file is missing or is not the JSON object of an experiment.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no {path}: give the results.json of a finished experiment") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("nodes"), dict):
        raise DataError(f"{path} is not the results.json of an experiment: it has no `nodes`")
    config: Mapping[str, Any] = raw["experiment"] if _mapping(raw.get("experiment")) else {}
    name = str(config.get("name") or path.parent.name)
    problems: list[str] = []
    nodes = {
        str(key): _node(str(key), value if _mapping(value) else {}, path.parent, problems)
        for key, value in raw["nodes"].items()
    }
    return Experiment(name, config, nodes, raw, problems)


def _mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _node(name: str, entry: Mapping[str, Any], base: Path, problems: list[str]) -> Node:
    status = str(entry.get("status", "unknown"))
    folder = _folder(entry.get("run_dir"), base)
    result: Mapping[str, Any] = {}
    if folder is not None and status in FINISHED:
        try:
            loaded = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            result = loaded if isinstance(loaded, dict) else {}
        except (OSError, ValueError) as error:
            problems.append(f"{name}: {RESULT} of the run cannot be read ({error})")
    metrics = {**(result.get("metrics") or {}), **(entry.get("metrics") or {})}
    numbers = {k: float(v) for k, v in metrics.items() if isinstance(v, (int, float))}
    seconds = entry.get("seconds", result.get("seconds"))
    return Node(
        name=name,
        status=status,
        reason=_reason(str(entry.get("error") or ""), str(entry.get("run_dir") or "")),
        folder=folder,
        metrics=numbers,
        result=result,
        seconds=float(seconds) if isinstance(seconds, (int, float)) else None,
        fingerprint=str(entry.get("fingerprint") or result.get("fingerprint") or ""),
        run_id=str(entry.get("mlflow_run_id") or ""),
        url=str(entry.get("mlflow_url") or ""),
    )


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


def history(node: Node) -> History:
    """The node's journal: metric name -> [(step, value)]; empty without a journal."""
    from sa3d.tracking.journal import read_journal

    if node.folder is None or not (node.folder / "journal.jsonl").is_file():
        return {}
    return read_journal(node.folder / "journal.jsonl")


def outcomes(node: Node) -> Outcomes | None:
    """Per-cloud predictions on test, where the run kept them."""
    if node.folder is None or not node.finished:
        return None
    path = node.folder / "predictions.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        labels = np.asarray(stored["labels"], dtype=np.int64)
        return Outcomes(
            labels=labels,
            predicted=np.asarray(stored["predicted"], dtype=np.int64),
            index=np.asarray(stored["index"], dtype=np.int64)
            if "index" in stored
            else np.arange(len(labels)),
            group=np.asarray(stored["group"]) if "group" in stored else None,
        )
