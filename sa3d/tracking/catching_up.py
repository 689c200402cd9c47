"""``sa3d sync``: everything that MLflow lacks, whatever the reason, sent in the right order.

Runs first, as a model's version names the run that made it; then the models that a flow recorded
without registering; then the flow's own summary run. What was sent is noted beside each journal,
so that doing it again sends nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sa3d.errors import UserError
from sa3d.tracking import cursor, describe, mlflow_store, model_registry
from sa3d.tracking.journal import FILE, entries
from sa3d.tracking.mlflow_sync import DeletedRunError, MlflowSync
from sa3d.tracking.versions import store
from sa3d.utils import paths


@dataclass
class Sent:
    """What a synchronisation did.

    Attributes:
        runs: that MLflow lacked something of.
        points: of their metrics.
        models: versions that were registered, as ``name/version``.
        deleted: a line for each run that somebody deleted in MLflow; it is left alone.
        problems: a line for each run that could not be sent.
    """

    runs: int = 0
    points: int = 0
    models: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Recorded:
    """A run folder and what its journal says of it: that of its own experiment, and the name of the
    flow that asked for it last; whether it is a flow's summary."""

    folder: Path
    began: float
    experiments: set[str]
    summary: bool
    models: tuple[dict[str, Any], ...]

    @property
    def order(self) -> tuple[bool, float]:
        """Summaries last, else as they began."""
        return self.summary, self.began


def catch_up(place: Path | None = None, experiment: str | None = None) -> Sent:
    """Send what MLflow lacks of the runs in a folder, then register what was not, and end the
    runs of dead processes.

    Args:
        place: a run folder, or a folder of them at any depth; all of ``work/`` by default.
        experiment: only runs of this experiment.

    Raises:
        UserError: nothing was recorded there, MLflow does not answer, or an experiment was deleted.
    """
    place = place if place is not None else paths.work()
    sent = Sent()
    found = sorted(_recorded(place, experiment, sent), key=lambda each: each.order)
    if not found and not sent.problems:
        what = f"of experiment '{experiment}' " if experiment else ""
        raise UserError(f"no run {what}was recorded in {place}: there is no {FILE} below it")
    uri = mlflow_store.init_store()  # refuses at once where there is no MLflow
    for each in found:
        if not each.summary:
            _send(each.folder, uri, sent)
    for each in found:
        if each.summary:
            _register(each, uri, sent)
            _send(each.folder, uri, sent)
    mlflow_store.init_store(uri)  # runs of dead processes that were sent just now end, too
    return sent


def _recorded(place: Path, experiment: str | None, sent: Sent) -> Iterable[_Recorded]:
    """The runs below a folder whose journals can be read."""
    for journal in sorted(place.rglob(FILE)):
        try:
            lines = entries(journal)
        except UserError as error:
            sent.problems.append(str(error))
            continue
        if not lines:
            continue  # not one whole line
        tags: dict[str, str] = {}
        models: list[dict[str, Any]] = []
        for line in lines:
            if line["kind"] == "tags":
                tags |= line["values"]
            elif line["kind"] == "models":
                models = line["found"]
        recorded = _Recorded(
            journal.parent,
            float(lines[0].get("at", 0.0)),
            {tags.get("experiment", ""), tags.get("pipeline_id", "").rpartition("-")[0]},
            any(line.get("experiment") == mlflow_store.SUMMARIES for line in lines),
            tuple(models),
        )
        if experiment is None or experiment in recorded.experiments:
            yield recorded


def _send(folder: Path, uri: str, sent: Sent) -> None:
    try:
        points = MlflowSync(folder, uri).update()
    except DeletedRunError as error:
        sent.deleted.append(str(error))
    except UserError as error:
        sent.problems.append(str(error))
    except Exception as error:
        raise _away(uri, error) from error
    else:
        sent.runs += points > 0
        sent.points += points


def _register(summary: _Recorded, uri: str, sent: Sent) -> None:
    """Make versions of the models that a flow left to be registered."""
    if not summary.models:
        return
    try:
        noted = cursor.read(summary.folder)
    except cursor.UnreadableCursorError:
        noted = None  # it is made anew below; a version that is there is found by its weights
    if noted is None or noted["uri"] != uri:
        noted = cursor.fresh(uri)
    for model in summary.models:
        if model["folder"] in noted["registered"]:
            continue
        folder = paths.root() / model["folder"]
        try:
            version = model_registry.register(
                folder, model["experiment"], model["variant"], candidate=model["candidate"]
            )
        except UserError as error:
            sent.problems.append(str(error))
            continue
        except Exception as error:
            raise _away(uri, error) from error
        with store() as opened:  # its evaluations were sent just now
            describe.update(opened, version["name"], version["version"])
        sent.models.append(f"{version['name']}/{version['version']}")
        noted["registered"].append(model["folder"])
        cursor.write(summary.folder, noted)


def _away(uri: str, error: Exception) -> UserError:
    return UserError(
        f"MLflow at {uri} does not answer ({mlflow_store.short(error)}); nothing is lost, "
        "try again later"
    )
