"""What a version in the registry says of itself: in words, as tags and as metrics.

:func:`about` is written at registration, out of the exported model's card. What the evaluations
measured is known later: :func:`update` adds it, and adds it again whenever that changed.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sa3d.checkpoints.card import WEIGHTS_FILE
from sa3d.runs.spec import RunSpec
from sa3d.tracking import evidence, keys
from sa3d.tracking.evidence import Evaluated
from sa3d.tracking.versions import weights_of
from sa3d.utils.paths import RESULT

if TYPE_CHECKING:
    from mlflow import MlflowClient

AXIS: Final = "y"
"""The axis that points up in every processed cloud; sources turn what is otherwise."""
_MEASURED: Final = "\n\n**Measured** of these weights alone, on test clouds:\n\n"
_DIGEST: Final = 32  # characters of a data set's digest, as runs log it
_KEPT: Final = {
    "subsample": "{points} farthest points are kept, then scaled to the unit sphere",
    "cloud": "the whole cloud is scaled to the unit sphere, then {points} farthest points are kept",
    "none": "{points} farthest points are kept, their coordinates stay as they are",
}


def about(folder: Path, card: dict[str, Any]) -> str:
    """What a pre-trained model is, of what data, how it was trained, and how to call it.

    Args:
        folder: the exported model; beside it lies the run's result, if it is still there.
        card: of the model.
    """
    spec = RunSpec.from_json(card["spec"])
    model, settings = card.get("model", {}), card.get("settings", {})
    backbone = model.get("backbone", "unknown architecture")
    method = settings.get("method", spec.variant)
    size, origin = _million(_parameters(folder)), card["experiment"]
    data, digest = card["data"], card["data"]["digest"][:12]
    parts = [
        f"Encoder of point clouds: {backbone} with {size} parameters (decoder included), "
        f"pre-trained without labels by `{method}` (variant {spec.variant} of experiment {origin}, "
        f"seed {spec.seed}).",
        f"**Data**: {spec.data}{_count(folder)}, digest {digest}, {data['points']} points a cloud.",
        f"**Training**: {_training(settings, spec)}.",
        f"**Input**: {_input(card)}.",
        "**Output**: one row of float32 features for each cloud.",
    ]
    return "\n\n".join(parts)


def preprocessing_tags(card: dict[str, Any]) -> dict[str, str]:
    """How clouds are prepared, as tags: points, normalisation, the axis that points up."""
    known = card.get("preprocessing") or {}
    told = {key: known.get(key) for key in ("points", "normalisation", "stored_points")}
    told["up"] = AXIS
    return {f"preprocessing.{key}": str(v) for key, v in told.items() if v is not None}


def update(opened: MlflowClient, name: str, version: str) -> list[Evaluated]:
    """Bring what a version says of its evaluations up to date. What is there already stays.

    The number of each evaluation, the mean over folds and seeds on this version's weights, becomes
    a line of the description, a tag of the version and a metric of the logged model, all under
    the key ``gate/<evaluation>``.

    Returns:
        The evaluations, each under the conditions of its newest run.
    """
    found = opened.get_model_version(name, version)
    by_name = evidence.evaluations(opened, weights_of(found))
    newest = [entries[0] for _, entries in sorted(by_name.items())]
    done = [each for each in newest if each.values]
    for each in done:
        key, value = keys.gate_metric(each.name), f"{each.mean:.4f}"
        if found.tags.get(key) != value:
            opened.set_model_version_tag(name, version, key, value)
    before = str(found.description or "")
    base = before.partition(_MEASURED)[0]
    described = base + _MEASURED + "\n".join(map(_line, done)) if done else base
    if described != before:
        opened.update_model_version(name, version, described)
    _log(opened, found, done)
    return newest


def _log(opened: MlflowClient, version: Any, done: list[Evaluated]) -> None:
    """Log on the logged model what it has not got, so that a search by metrics finds it."""
    from mlflow.entities import Metric

    model_id = str(version.source).removeprefix("models:/")
    known = {(m.key, m.dataset_digest): m for m in _by_age(opened.get_logged_model(model_id))}
    for each in done:
        key, digest = keys.gate_metric(each.name), each.conditions.digest[:_DIGEST]
        last = known.get((key, digest))
        if last is not None and math.isclose(last.value, each.mean, abs_tol=1e-12):
            continue
        metric = Metric(
            key,
            each.mean,
            int(time.time() * 1000),
            step=0,
            model_id=model_id,
            dataset_name=f"{each.data}/test",
            dataset_digest=digest,
        )
        opened.log_batch(_run(opened, version, each), metrics=[metric])


def _by_age(logged: Any) -> list[Any]:
    """A logged model's metrics, oldest first."""
    return sorted(logged.metrics or [], key=lambda metric: metric.timestamp)


def _run(opened: MlflowClient, version: Any, each: Evaluated) -> str:
    """The run under which a model's metric is logged: the pre-training, or where MLflow does not
    have that, an evaluation."""
    from mlflow.exceptions import MlflowException

    if version.run_id:
        try:
            run = opened.get_run(version.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        else:
            if run.info.lifecycle_stage == "active":
                return str(version.run_id)
    return each.runs[0]


def _line(each: Evaluated) -> str:
    count = len(each.values)
    seeds = f"mean of {count} seeds" if count > 1 else f"seed {next(iter(each.values))}"
    return (
        f"- {each.name}: {each.metric} {each.mean:.4f} ({seeds}; data digest "
        f"{each.conditions.digest[:12]})"
    )


def _parameters(folder: Path) -> int:
    """Numbers in the exported weights; only their header is read."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS_FILE, framework="np") as weights:
        return sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118


def _million(count: int) -> str:
    return f"{count / 1e6:.1f} million" if count >= 100_000 else str(count)


def _count(folder: Path) -> str:
    """How many clouds it was trained on, if the run's result is beside the model."""
    path = folder.parent / RESULT
    if not path.is_file():
        return ""
    data = json.loads(path.read_text(encoding="utf-8")).get("data", {})
    return f" ({data['train']} training clouds)" if "train" in data else ""


def _training(settings: dict[str, Any], spec: RunSpec) -> str:
    told = [
        f"{settings[key]} {label}"
        for key, label in (("epochs", "epochs"), ("batch_size", "clouds a batch"))
        if settings.get(key) is not None
    ]
    if settings.get("lr") is not None:
        told.append(f"learning rate {settings['lr']:g}")
    if settings.get("mask"):
        share = settings.get("mask_ratio")
        how = f"{share:.0%}" if share is not None else str(settings.get("masked"))
        told.append(f"mask `{settings['mask']['name']}` of {how} of the patches")
    if spec.teacher is not None:
        teacher = spec.teacher.name if isinstance(spec.teacher, RunSpec) else spec.teacher
        told.append(f"distils {teacher}")
    return ", ".join(told) or "settings unknown"


def _input(card: dict[str, Any]) -> str:
    known = card.get("preprocessing") or {}
    points, way = known.get("points"), _KEPT.get(str(known.get("normalisation")))
    if points is None or way is None:
        return "clouds (B, n, 3); the model does not say how they are prepared"
    return (
        f"clouds (B, n, 3) of n ≥ {points} points, {AXIS} axis up; {way.format(points=points)}, "
        "by the model itself"
    )
