"""Where a model or a result comes from, as one tree: ``sa3d lineage``.

A registered version, a run folder or the ``results.json`` of an experiment is followed back to
encoder run, data, commit, settings that decide, and to the encoder that it started from or
distilled, which has a tree of its own.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sa3d.checkpoints.card import FOLDER, MODEL_FILE, model_digest
from sa3d.config.base import flat
from sa3d.errors import CheckpointError, UserError
from sa3d.runs.fingerprint import CONFIG
from sa3d.tracking import checks, keys, mlflow_sync
from sa3d.tracking.checks import Finding
from sa3d.tracking.journal import FILE, entries
from sa3d.tracking.versions import download, find, reference, store
from sa3d.utils import paths
from sa3d.utils.paths import RESULT

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Ancestry:
    """One step of a lineage.

    Attributes:
        what: its name.
        facts: statements by name, in the order in which they are shown.
        findings: what could be checked here.
        settings: that decide the result, dotted.
        parents: what it started from or distils, by role.
    """

    what: str
    facts: Mapping[str, str]
    findings: tuple[Finding, ...]
    settings: Mapping[str, Any]
    parents: Mapping[str, Ancestry]

    @property
    def wrong(self) -> bool:
        """Whether something that was checked is not as it is noted."""
        return any(each.state == "wrong" for each in self.findings) or any(
            parent.wrong for parent in self.parents.values()
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def trace(text: str) -> list[Ancestry]:
    """The lineage of what was typed: a model, a run folder or a ``results.json``.

    Raises:
        UserError: it is none of these, or the store does not answer.
    """
    path = Path(text)
    if path.is_dir():
        return [of_folder(path)]
    if path.is_file():
        return _of_results(path)
    name, which = reference(text, keys.CHAMPION)
    with store() as opened:
        return [_of_version(opened, find(opened, name, which))]


def of_folder(folder: Path) -> Ancestry:
    """The lineage of a run, out of its folder alone.

    Raises:
        UserError: it is not the folder of a run.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        spec, fingerprint = config["spec"], config["fingerprint"]
        settings = {key: config[key] for key in ("model", "data", "settings")}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder} is not the folder of a run: no readable {CONFIG}") from None
    tags: dict[str, str] = {}
    for entry in entries(folder / FILE):
        if entry["kind"] == "tags":
            tags |= entry["values"]
    tags.setdefault("data", str(spec["data"]))
    digest = _digest_in(folder)
    if digest is not None:
        tags[keys.DATA] = digest
    run = mlflow_sync.run_of(folder)
    try:
        sha256 = model_digest(folder)
    except CheckpointError:
        sha256 = None  # a frozen encoder was only read
    facts = {
        "run folder": paths.shown(folder.resolve()),
        "MLflow run": run.run_id if run else "never reached MLflow",
        "fingerprint": str(fingerprint),
        **({"weights sha256": sha256} if sha256 else {}),
        **_origin(tags),
    }
    parents = {
        role: _parent_folder(config.get(key), spec.get(key))
        for role, key in (("started from", "start"), ("distils", "teacher"))
        if config.get(key)
    }
    findings = (*checks.weights(folder, sha256), *_checked(tags))
    return Ancestry(f"run {folder.resolve().name}", facts, findings, flat(settings), parents)


def _digest_in(folder: Path) -> str | None:
    """The digest of the data that a finished run states."""
    path = folder / RESULT
    if not path.is_file():
        return None
    digest = json.loads(path.read_text(encoding="utf-8")).get("data", {}).get("digest")
    return None if digest is None else str(digest)


def _parent_folder(place: str, spec: Any) -> Ancestry:
    """The lineage of a model that a run folder names by its path."""
    folder = Path(place)
    run = folder.parent if folder.name == FOLDER else folder
    if (run / CONFIG).is_file():
        return of_folder(run)
    name = spec if isinstance(spec, str) else paths.shown(run)
    findings = (Finding("unknown", f"{paths.shown(run)} is not a run here: converted, or deleted"),)
    return Ancestry(f"model {name}", {}, findings, {}, {})


def _of_results(path: Path) -> list[Ancestry]:
    """The lineage of every model that an experiment registered."""
    try:
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"].values()
        found = [node["model_version"] for node in nodes if "model_version" in node]
        versions = [(str(each["name"]), str(each["version"])) for each in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not the results.json of an experiment") from None
    if not versions:
        raise UserError(f"{path} names no registered model")
    with store() as opened:
        return [_of_version(opened, find(opened, *each)) for each in versions]


def _of_version(opened: MlflowClient, version: Any) -> Ancestry:
    tags = dict(version.tags)
    run = _run(opened, version.run_id)
    if run is not None:  # what it noted when it began; the version's tags may be of an older kind
        tags = {**dict(run.data.tags), **tags}
    name, number = str(version.name), str(version.version)
    aliases = opened.get_registered_model(name).aliases
    pointing = sorted(alias for alias, to in aliases.items() if str(to) == number)
    facts = {
        "model": f"models:/{name}/{number}",
        "aliases": ", ".join(pointing) or "none",
        "gate": " ".join(filter(None, [tags.get(keys.GATE, "not asked"), _braced(tags)])),
        "weights sha256": tags.get(keys.SHA256, "unknown"),
        "encoder run": f"{tags.get('task', 'pretrain')} {tags.get('variant', '?')}, seed "
        f"{tags.get('seed', '?')}, fingerprint {tags.get(keys.FINGERPRINT, 'unknown')}",
        "MLflow run": "never reached MLflow"
        if run is None
        else f"{run.info.run_id} ({run.info.status})",
        **_origin(tags),
    }
    card = _card(opened, version)
    settings = {key: card[key] for key in ("model", "data", "settings") if key in card}
    folder = _folder(card, tags)
    findings = (*checks.weights(folder, tags.get(keys.SHA256)), *_checked(tags))
    parents = {}
    if "teacher" in tags:
        parents["distils"] = _teacher(opened, tags, folder)
    return Ancestry(f"{name} version {number}", facts, findings, flat(settings), parents)


def _braced(tags: Mapping[str, str]) -> str:
    return f"({tags[keys.REASON]})" if keys.REASON in tags else ""


def _origin(tags: Mapping[str, str]) -> dict[str, str]:
    """Data, commit and machine, as tags say it."""
    data = tags.get("data", "?")
    dirty = {"true": ", files differed from it", "false": ""}.get(tags.get("git.dirty", ""), "")
    return {
        "data": f"{data}, digest {tags.get(keys.DATA, 'unknown')}",
        "data md5 (DVC)": tags.get(f"data.{data}.md5", "not made by a DVC stage"),
        "commit": tags.get("git.commit", "unknown") + dirty,
        "host": tags.get("host", "unknown"),
    }


def _checked(tags: Mapping[str, str]) -> list[Finding]:
    name = tags.get("data")
    found = checks.commit(tags.get("git.commit"), tags.get("git.dirty"))
    if name is not None:
        return [*checks.data(name, tags.get(keys.DATA), tags.get(f"data.{name}.md5")), *found]
    return found


def _run(opened: MlflowClient, run_id: str | None) -> Any | None:
    """A run of the store; None: there is none, or none any more."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    try:
        return opened.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _card(opened: MlflowClient, version: Any) -> dict[str, Any]:
    """``model.json`` of a version, without its weights."""
    with tempfile.TemporaryDirectory() as scratch:
        local = download(opened, version, f"data/{FOLDER}/{MODEL_FILE}", scratch)
        found: dict[str, Any] = json.loads(local.read_text(encoding="utf-8"))
    return found


def _folder(card: Mapping[str, Any], tags: Mapping[str, str]) -> Path | None:
    """The run folder that made a model, if it lies where this project keeps them."""
    from sa3d.runs.spec import RunSpec

    if "spec" not in card:
        return None
    name = f"{RunSpec.from_json(card['spec']).name}-{tags.get(keys.FINGERPRINT)}"
    return paths.work() / name


def _teacher(opened: MlflowClient, tags: Mapping[str, str], folder: Path | None) -> Ancestry:
    """The lineage of the encoder that a model distils."""
    sha256, name = tags.get(keys.TEACHER), tags["teacher"]
    if sha256 is not None:
        versions = opened.search_model_versions(f"tags.`{keys.SHA256}` = '{sha256}'")
        if versions:
            return _of_version(opened, max(versions, key=lambda v: int(v.version)))
    if folder is not None and (folder / CONFIG).is_file():
        place = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("teacher")
        if place:
            return _parent_folder(place, name)
    findings = (Finding("unknown", "not in this registry, and its run folder is not here"),)
    return Ancestry(f"model {name}", {"weights sha256": sha256 or "unknown"}, findings, {}, {})
